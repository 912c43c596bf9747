"""The nodes of a feature grid that a fit moves: those near the surface, a quarter of a head's.

Nodes further off bear on no ray. To leave them out of the optimizer and of the roughness, which read all of a grid several times a
step, saves a sixth of a step on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from avatar_kit.conventions import BOX_MAX, BOX_MIN
from avatar_kit.kernels.grid_query import resolution_of

_LEAST_SPACINGS = 2.0  # between nodes: those of the cells around the surface move in any case


class MovingNodes:
    """Some rows of a grid as a parameter of their own.

    Each step: `take_gradient` after the backward pass, the optimizer on `values`, then `write`.

    Args:
        grid: ((n)^3, F); its other rows stay.
        sdf: distances at the nodes of another grid over the box, (m, m, m), units.
        band: rows of nodes nearer to the surface than this move, units.
    """

    def __init__(self, grid: nn.Parameter, sdf: Tensor, band: float) -> None:
        cells = resolution_of(grid)
        nodes, device = cells + 1, grid.device
        at_nodes = torch.nn.functional.interpolate(sdf[None, None], size=(nodes,) * 3, mode="trilinear", align_corners=True)[0, 0]
        moves = at_nodes.abs() < max(band, _LEAST_SPACINGS * (BOX_MAX - BOX_MIN) / cells)
        self.grid = grid
        self.rows = moves.flatten().nonzero()[:, 0]
        self.values = nn.Parameter(grid.detach()[self.rows])
        self._start = self.values.detach().clone()
        self._edges = grid.shape[1] * nodes * nodes * cells  # differences along each axis that a mean is taken over
        self._neighbours, self._within = self._around(moves)
        self._still = torch.zeros(1, grid.shape[1], device=device)

    def _around(self, moves: Tensor) -> tuple[Tensor, Tensor]:
        """Of each row its six neighbours' positions among the rows, the last for those that stay, and how many lie in the box."""
        last, count = len(self.rows), len(moves)
        position = torch.full((count + 2,) * 3, last, device=moves.device)
        inside = torch.zeros_like(position)
        own = torch.full(moves.shape, last, device=moves.device)
        own[moves] = torch.arange(last, device=moves.device)
        position[1:-1, 1:-1, 1:-1], inside[1:-1, 1:-1, 1:-1] = own, 1
        at = moves.nonzero() + 1
        shifts = [torch.tensor([sign * (axis == a) for a in range(3)], device=moves.device) for axis in range(3) for sign in (-1, 1)]
        found = [tuple((at + shift).unbind(1)) for shift in shifts]
        return torch.stack([position[f] for f in found], 1), torch.stack([inside[f] for f in found], 1).sum(1, keepdim=True)

    def roughness(self) -> Tensor:
        """`smoothness.smoothness_loss` of what was added to the grid, where nothing was added to the other rows; a scalar."""
        change = self.values - self._start
        total: Any = _Roughness.apply(change, self._neighbours, self._within, self._still, 2.0 / self._edges)
        return total

    def take_gradient(self) -> None:
        """Add the grid's gradient to that of `values`."""
        if self.grid.grad is not None:
            gradient = self.grid.grad.index_select(0, self.rows)
            self.values.grad = gradient if self.values.grad is None else self.values.grad.add_(gradient)
            self.grid.grad = None

    @torch.no_grad()
    def write(self) -> None:
        """Bring `values` into the grid."""
        self.grid.index_copy_(0, self.rows, self.values)


class _Roughness(torch.autograd.Function):
    """Half of <c, G c> with G the Laplacian, as `smoothness._Smoothness`."""

    @staticmethod
    def forward(ctx: Any, change: Tensor, neighbours: Tensor, within: Tensor, still: Tensor, weight: float) -> Tensor:
        around = torch.nn.functional.embedding_bag(neighbours, torch.cat([change, still]), mode="sum")
        gradient = (change * within).sub_(around).mul_(weight)
        ctx.save_for_backward(gradient)
        return 0.5 * torch.dot(change.flatten(), gradient.flatten())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad, None, None, None, None

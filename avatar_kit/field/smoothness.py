"""How rough feature grids are: what keeps them quiet where no sample and no photo says anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

FINEST = slice(-2, None)
"""The grids that are kept smooth; coarser ones have samples everywhere."""


def grid_roughness(grids: Sequence[Tensor]) -> Tensor:
    """Roughness of `grids`, each (nodes, F), summed; a scalar."""
    total = torch.zeros((), device=grids[0].device if grids else None)
    for grid in grids:
        nodes = round(len(grid) ** (1 / 3))
        total = total + smoothness_loss(grid.reshape(nodes, nodes, nodes, -1))
    return total


class _Smoothness(torch.autograd.Function):
    """Value and gradient at once: autograd's own way over the finest grid's eight megabytes takes three times as long."""

    @staticmethod
    def forward(ctx: Any, change: Tensor) -> Tensor:
        count = [change.numel() // n * (n - 1) for n in change.shape[:3]]  # of differences along each axis
        gradient = change * sum(4.0 / each for each in count)
        for axis, each in enumerate(count):
            rest = change.shape[axis] - 1
            gradient.narrow(axis, 1, rest).sub_(change.narrow(axis, 0, rest), alpha=2.0 / each)
            gradient.narrow(axis, 0, rest).sub_(change.narrow(axis, 1, rest), alpha=2.0 / each)
            for end in (0, rest):
                gradient.select(axis, end).sub_(change.select(axis, end), alpha=2.0 / each)
        total = 0.5 * torch.dot(change.flatten(), gradient.flatten())  # a quadratic form is half its gradient times its argument
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (gradient,) = ctx.saved_tensors
        return gradient * grad


def smoothness_loss(change: Tensor) -> Tensor:
    """Squared differences of the grid's change (n, n, n, F) between neighbouring nodes: their means along the axes, summed."""
    return _Smoothness.apply(change)

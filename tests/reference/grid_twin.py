"""Plain torch twin of `avatar_kit.kernels.grid_query`: every derivative by autograd."""

from __future__ import annotations

import torch
from torch import Tensor


def interpolate(points: Tensor, grid: Tensor) -> Tensor:
    """Trilinear interpolation (N, F) of one grid, the outermost cell extrapolated."""
    nodes = round(grid.shape[0] ** (1 / 3))
    u = (points + 1.0) / 2.0 * (nodes - 1)
    cell = u.detach().floor().long().clamp(0, nodes - 2)
    f = u - cell
    total = 0.0
    for bx in (0, 1):
        for by in (0, 1):
            for bz in (0, 1):
                weight = 1.0
                for axis, bit in enumerate((bx, by, bz)):
                    weight = weight * (f[:, axis] if bit else 1 - f[:, axis])
                row = ((cell[:, 0] + bx) * nodes + cell[:, 1] + by) * nodes + cell[:, 2] + bz
                total = total + weight[:, None] * grid[row]
    return total


def query_grids(points: Tensor, grids: list[Tensor]) -> Tensor:
    """Value and Jacobian (4, N, F) of the sum over levels; differentiable as often as one likes."""
    points = points if points.requires_grad else points.detach().requires_grad_()
    value = sum(interpolate(points, grid) for grid in grids)
    columns = [torch.autograd.grad(value[:, k].sum(), points, create_graph=True)[0] for k in range(value.shape[1])]
    return torch.cat([value[None], torch.stack(columns, dim=-1).permute(1, 0, 2)])

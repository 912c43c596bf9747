"""How rough feature grids are: what keeps them quiet where no sample and no photo says anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

FINEST = slice(-2, None)
"""The grids that are kept smooth; coarser ones have samples everywhere."""


def grid_roughness(grids: Sequence[Tensor], before: Sequence[Tensor] | None = None) -> Tensor:
    """Roughness of `grids`, each (nodes, F), or of what was added to them since `before`, summed; a scalar."""
    total = torch.zeros((), device=grids[0].device if grids else None)
    for at, grid in enumerate(grids):
        values = grid if before is None else grid - before[at]
        nodes = round(len(values) ** (1 / 3))
        total = total + smoothness_loss(values.reshape(nodes, nodes, nodes, -1))
    return total


class _Smoothness(torch.autograd.Function):
    """Value and gradient at once: autograd's own way over the finest grid's eight megabytes takes three times as long."""

    @staticmethod
    def forward(ctx: Any, change: Tensor) -> Tensor:
        total, gradient = change.new_zeros(()), torch.zeros_like(change)
        for axis in range(3):
            difference = change.diff(dim=axis)
            flat = difference.flatten()
            total += torch.dot(flat, flat) / len(flat)
            difference *= 2.0 / len(flat)
            gradient.narrow(axis, 1, change.shape[axis] - 1).add_(difference)
            gradient.narrow(axis, 0, change.shape[axis] - 1).sub_(difference)
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

"""Level set of a dense grid of values as a closed mesh (Warp's marching cubes, of the cells that it crosses)."""

from __future__ import annotations

import numpy as np
import torch
import warp as wp
import warp.geometry

from avatar_kit.conventions import BOX_MAX, BOX_MIN
from avatar_kit.kernels import runtime
from avatar_kit.types import Mesh

_CORNERS = wp.geometry.IsoSurfaceMarchingCubes.CUBE_CORNER_OFFSETS


def marching_cubes(values: torch.Tensor, *, low: float = BOX_MIN, high: float = BOX_MAX) -> Mesh:
    """Zero level of `values` (n, n, n), indexed [x, y, z] at nodes from `low` to `high`; negative is inside.

    The outermost layer counts as outside, so that what reaches it is closed there. Returns a mesh without faces
    when nothing is inside.
    """
    closed = closed_at_box(values, low=low, high=high)
    cells = _crossed_cells(closed < 0)
    if len(cells) == 0:
        return Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    corners = cells[:, None] + torch.tensor(_CORNERS, device=cells.device)
    vertices, indices = wp.geometry.sparse_marching_cubes_from_cells(
        wp.from_torch(cells.int().contiguous(), dtype=wp.vec3i),
        wp.from_torch(closed[corners.unbind(-1)].contiguous()),
        origin=(low, low, low),
        cell_width=(high - low) / (values.shape[0] - 1),
        device=runtime.device_of(closed),
    )
    return Mesh(np.array(vertices.numpy()), indices.numpy().reshape(-1, 3).astype(np.int32))


def _crossed_cells(inside: torch.Tensor) -> torch.Tensor:
    """Lowest corners (N, 3) of the cells that have some of the nodes `inside` (n, n, n) at their corners, and others."""
    some = every = inside
    for axis, nodes in enumerate(inside.shape):
        low, high = (0, nodes - 1), (1, nodes - 1)
        some = some.narrow(axis, *low) | some.narrow(axis, *high)
        every = every.narrow(axis, *low) & every.narrow(axis, *high)
    return (some & ~every).nonzero()


def closed_at_box(values: torch.Tensor, *, low: float, high: float) -> torch.Tensor:
    """A copy of `values` (n, n, n) whose outermost layer lies outside, by a thousandth of a cell."""
    n = values.shape[0]
    closed = values.detach().float().clone()
    for axis in range(3):
        for end in (0, n - 1):
            closed.select(axis, end).clamp_(min=(high - low) / (n - 1) * 1e-3)
    return closed

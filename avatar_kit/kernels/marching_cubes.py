"""Level set of a dense grid of values as a closed mesh (Warp's marching cubes)."""

from __future__ import annotations

import numpy as np
import torch
import warp as wp
import warp.geometry

from avatar_kit.conventions import BOX_MAX, BOX_MIN
from avatar_kit.kernels import runtime  # noqa: F401  (sets Warp up)
from avatar_kit.types import Mesh


def marching_cubes(values: torch.Tensor, *, low: float = BOX_MIN, high: float = BOX_MAX) -> Mesh:
    """Zero level of `values` (n, n, n), indexed [x, y, z] at nodes from `low` to `high`; negative is inside.

    The outermost layer counts as outside, so that what reaches it is closed there. Returns a mesh without faces
    when nothing is inside.
    """
    n = values.shape[0]
    step = (high - low) / (n - 1)
    closed = closed_at_box(values, low=low, high=high)
    inside = closed < 0
    if not inside.any():
        return Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    first, last = [], []  # the cells outside the inside's bounding box have no surface
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        used = inside.any(dim=others[1]).any(dim=others[0]).nonzero()[:, 0]
        first.append(int(used[0]) - 1)
        last.append(int(used[-1]) + 1)
    part = closed[tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))]
    vertices, indices = wp.geometry.IsoSurfaceMarchingCubes.extract(
        wp.from_torch(part.contiguous()), 0.0, lower=[low + step * a for a in first], upper=[low + step * b for b in last]
    )
    return Mesh(np.array(vertices.numpy()), indices.numpy().reshape(-1, 3).astype(np.int32))


def closed_at_box(values: torch.Tensor, *, low: float, high: float) -> torch.Tensor:
    """A copy of `values` (n, n, n) whose outermost layer lies outside, by a thousandth of a cell."""
    n = values.shape[0]
    closed = values.detach().float().clone()
    for axis in range(3):
        for end in (0, n - 1):
            closed.select(axis, end).clamp_(min=(high - low) / (n - 1) * 1e-3)
    return closed

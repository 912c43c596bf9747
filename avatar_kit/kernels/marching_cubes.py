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
    closed = values.detach().float().clone()
    outside = (high - low) / (n - 1) * 1e-3
    for axis in range(3):
        for end in (0, n - 1):
            closed.select(axis, end).clamp_(min=outside)
    vertices, indices = wp.geometry.IsoSurfaceMarchingCubes.extract(
        wp.from_torch(closed.contiguous()), 0.0, lower=(low,) * 3, upper=(high,) * 3
    )
    return Mesh(np.array(vertices.numpy()), indices.numpy().reshape(-1, 3).astype(np.int32))

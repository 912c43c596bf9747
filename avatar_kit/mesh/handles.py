"""Cutting handles: a head's surface has the topology of a sphere, whatever bridges its hair makes.

The inside is grown anew from its core, deepest voxels first, and only where that changes no topology. Where two fronts meet around
a hole they stay a voxel apart: the handle is cut where it is thinnest. Source: Kriegeskorte and Goebel 2001, on a signed distance.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from avatar_kit.conventions import BOX_MAX, BOX_MIN
from avatar_kit.kernels.marching_cubes import marching_cubes
from avatar_kit.kernels.simple_points import grow_simply
from avatar_kit.mesh.topology import topology

_CORES = (0.1, 0.2)  # units: depths below which a head is thought to be a ball; else its deepest voxel is
_BEYOND = 0.3  # of a cell: how far on the other side of the surface a voxel is put that changes sides


def without_handles(values: Tensor) -> Tensor:
    """`values` (n, n, n), signed distances at nodes over the box, changed where voids are filled and handles are cut.

    The surface of what is left, as marching cubes finds it, has no handle in any of its pieces; whatever hung together by its
    corners alone is then apart.
    """
    inside = values.cpu() < 0
    if not inside.any():
        return values
    filled = torch.from_numpy(np.asarray(ndimage.binary_fill_holes(inside.numpy())))
    depth = torch.where(filled & ~inside, values.min().cpu(), values.cpu())  # a filled void is as good as deep inside
    kept = grow_simply(_core(depth), filled, depth)
    beyond = _BEYOND * (BOX_MAX - BOX_MIN) / (len(values) - 1)
    changed = torch.where(kept & ~inside, -beyond, torch.where(inside & ~kept, beyond, values.cpu()))
    return changed.to(values)


def _core(depth: Tensor) -> Tensor:
    """A set of voxels (n, n, n) without holes to begin with."""
    for below in _CORES:
        found = topology(marching_cubes(depth + below))
        if found.components == 1 and found.genus == 0:
            return depth < -below
    core = torch.zeros_like(depth, dtype=torch.bool)
    core.view(-1)[depth.argmin()] = True
    return core

"""Cutting handles: a head's surface has the topology of a sphere, whatever bridges its hair makes.

The inside is flooded from its core, deepest voxels first, and only where that changes no topology. Where two fronts meet around
a hole they stay a voxel apart: the handle is cut where it is thinnest. Source: Kriegeskorte and Goebel 2001, on a signed distance.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from avatar_kit.conventions import BOX_MAX, BOX_MIN
from avatar_kit.kernels.marching_cubes import closed_at_box
from avatar_kit.kernels.simple_points import grow_simply

_CORES = (0.05, 0.1, 0.2)  # units: depths below which a head may be a ball; else its deepest voxel is
BEYOND = 0.3  # of a cell: how far on the other side of the surface a voxel is put that changes sides
CORNERS = np.ones((3, 3, 3), bool)  # neighbours inside, by corners too; outside they are those of faces


def without_handles(values: Tensor) -> Tensor:
    """`values` (n, n, n), signed distances at nodes over the box, changed where voids are filled and handles are cut.

    The surface of what is left, as marching cubes finds it, has no handle in any of its pieces; whatever hung together by its
    corners alone is then apart.
    """
    closed = closed_at_box(values, low=BOX_MIN, high=BOX_MAX).cpu()
    inside = closed < 0
    if not inside.any():
        return values
    box = ndimage.find_objects(inside.numpy().view(np.uint8))[0]
    box = tuple(slice(part.start - 1, part.stop + 1) for part in box)  # nothing that touches the sides is inside
    inside, near = inside[box], closed[box]
    filled = _filled(inside)
    depth = torch.where(filled & ~inside, near.min(), near)  # a filled void is as good as deep inside
    kept = grow_simply(_core(depth), filled, depth)
    beyond = BEYOND * (BOX_MAX - BOX_MIN) / (len(values) - 1)
    changed = values.clone()
    changed[box] = torch.where(kept & ~inside, -beyond, torch.where(inside & ~kept, beyond, values[box].cpu())).to(values)
    return changed


def _core(depth: Tensor) -> Tensor:
    """A ball of voxels (n, n, n) to begin with, a head's inside at some depth."""
    for below in _CORES:
        labels = np.empty(depth.shape, np.int32)
        if ndimage.label((depth < -below).numpy(), CORNERS, output=labels) == 0:
            continue
        core = _filled(torch.from_numpy(labels == np.bincount(labels.ravel())[1:].argmax() + 1))
        if euler_number(core) == 1:
            return core
    core = torch.zeros_like(depth, dtype=torch.bool)
    core.view(-1)[depth.argmin()] = True
    return core


def _filled(inside: Tensor) -> Tensor:
    """`inside` (n, n, n) and its voids; the sides of the volume are outside."""
    outside = np.empty(inside.shape, np.int32)
    ndimage.label(~inside.numpy(), output=outside)
    return torch.from_numpy(outside != outside[0, 0, 0])


def euler_number(inside: Tensor) -> int:
    """Of voxels (n, n, n), none of them at the sides, as cubes that hang together by their corners: pieces less handles plus voids."""
    total = 0
    for axes in itertools.chain.from_iterable(itertools.combinations(range(3), count) for count in range(4)):
        cells = inside  # cubes; then, those around them joined along `axes`, squares, edges and corners
        for axis in axes:
            cells = cells.narrow(axis, 1, cells.shape[axis] - 1) | cells.narrow(axis, 0, cells.shape[axis] - 1)
        total += (-1) ** (3 - len(axes)) * int(np.count_nonzero(cells.numpy()))
    return total

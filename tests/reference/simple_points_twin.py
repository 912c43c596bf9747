"""Growing by simple points, voxel by voxel, their neighbourhoods labelled by SciPy."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from avatar_kit.types import Array

_ALL = np.ones((3, 3, 3), bool)
_FACES = ndimage.generate_binary_structure(3, 1)
_EIGHTEEN = ndimage.generate_binary_structure(3, 2)


def is_simple(members: Array) -> bool:
    """Whether the centre of `members` (3, 3, 3) can change sides: one piece of the set around it, one of the complement."""
    around = members.copy()
    around[1, 1, 1] = False
    if ndimage.label(around, _ALL)[1] != 1:
        return False
    other = ~around & _EIGHTEEN
    other[1, 1, 1] = False
    pieces, _ = ndimage.label(other, _FACES)
    touching = np.unique(pieces[_FACES & other])
    return len(touching) == 1


def grow_simply(start: Array, allowed: Array, priority: Array) -> Array:
    """As `kernels.simple_points.grow_simply`: all that could be added is looked through for the lowest, again and again."""
    members = start.copy()
    inner = np.zeros_like(start)
    inner[1:-1, 1:-1, 1:-1] = True
    order = np.argwhere(allowed & ~start & inner)
    order = order[np.argsort(priority[tuple(order.T)], kind="stable")]
    while True:
        free = (tuple(at) for at in order if not members[tuple(at)])
        lowest = next(((x, y, z) for x, y, z in free if is_simple(members[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2])), None)
        if lowest is None:
            return members
        members[lowest] = True

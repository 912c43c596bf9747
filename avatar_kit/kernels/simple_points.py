"""Growing a set of voxels without changing its topology: only simple points are added.

A point is simple if adding it changes neither the pieces nor the holes of the set and of its complement, which its 26 neighbours
decide (Bertrand and Malandain 1994). One thread does all of it: what is added first decides what may be added next.
Twin: `tests/reference/simple_points_twin.py`.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
import warp as wp

from avatar_kit.kernels import runtime

_OFFSETS = list(itertools.product((-1, 0, 1), repeat=3))


def _mask(chosen: Any) -> int:
    return sum(1 << i for i, offset in enumerate(_OFFSETS) if chosen(offset))


_ALL = wp.constant(_mask(lambda offset: any(offset)))
_FACES = wp.constant(_mask(lambda offset: sum(map(abs, offset)) == 1))
_EIGHTEEN = wp.constant(_mask(lambda offset: 1 <= sum(map(abs, offset)) <= 2))


# Bit 9 (dx + 1) + 3 (dy + 1) + dz + 1 is a neighbour's: a step along an axis shifts all of them at once, but for the layer that would leave
_LOW_Y = wp.constant(_mask(lambda offset: offset[1] < 0))
_HIGH_Y = wp.constant(_mask(lambda offset: offset[1] > 0))
_LOW_Z = wp.constant(_mask(lambda offset: offset[2] < 0))
_HIGH_Z = wp.constant(_mask(lambda offset: offset[2] > 0))


@wp.func
def _along_x(bits: int):
    return (bits << 9) | (bits >> 9)


@wp.func
def _along_y(bits: int):
    return ((bits & ~_HIGH_Y) << 3) | ((bits & ~_LOW_Y) >> 3)


@wp.func
def _along_z(bits: int):
    return ((bits & ~_HIGH_Z) << 1) | ((bits & ~_LOW_Z) >> 1)


@wp.func
def _one_piece(among: int):
    """Whether the bits hang together by faces, edges and corners."""
    found = among & (-among)
    before = int(0)
    while found != before:
        before = found
        wider = found | _along_z(found)
        wider = wider | _along_y(wider)
        found = (wider | _along_x(wider)) & among
    return found == among and among != 0


@wp.func
def _one_piece_by_faces(among: int):
    """Whether those that touch the middle hang together by faces, without the corners of the cube."""
    touching = among & _FACES
    near = among & _EIGHTEEN
    found = touching & (-touching)
    before = int(0)
    while found != before:
        before = found
        found = (found | _along_x(found) | _along_y(found) | _along_z(found)) & near
    return (touching & ~found) == 0 and touching != 0


@wp.kernel
def _grow_kernel(
    order: wp.array(dtype=int),
    count: int,
    steps: wp.array(dtype=int),
    members: wp.array(dtype=wp.uint8),
):
    left = count
    before = int(-1)
    while left != before:  # until a round adds nothing
        before = left
        left = int(0)
        for i in range(before):
            at = order[i]
            inside = int(0)
            for b in range(27):
                if members[at + steps[b]] != wp.uint8(0):
                    inside = inside | (1 << b)
            if _one_piece(inside) and _one_piece_by_faces(_ALL & ~inside):
                members[at] = wp.uint8(1)
            else:  # perhaps later: those that wait move together, hundreds of rounds would else read all of them
                order[left] = at
                left += 1


def grow_simply(start: torch.Tensor, allowed: torch.Tensor, priority: torch.Tensor) -> torch.Tensor:
    """`start` grown into `allowed`, in the order of `priority`, lowest first, as far as its topology stays what it is.

    Voxels of the set are connected by faces, edges and corners, those of its complement by faces, as marching cubes sees them.

    Args:
        start, allowed: (n, n, n) bool; what touches the sides of the volume is not added.
        priority: (n, n, n), e.g. a signed distance: the deepest first.

    Returns:
        (n, n, n) bool, on the CPU.
    """
    shape = start.shape
    free = (allowed & ~start).cpu().clone()
    for axis in range(3):
        for end in (0, -1):
            free.select(axis, end).fill_(False)
    indices = free.flatten().nonzero()[:, 0]
    order = indices[priority.detach().cpu().flatten()[indices].argsort(stable=True)].to(torch.int32)
    members = start.cpu().to(torch.uint8).flatten().contiguous()
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    steps = torch.tensor((np.array(_OFFSETS) @ strides).tolist(), dtype=torch.int32)
    inputs = [wp.from_torch(order), len(order), wp.from_torch(steps), wp.from_torch(members, dtype=wp.uint8)]
    runtime.launch(_grow_kernel, 1, inputs, like=members)
    return members.reshape(shape) > 0

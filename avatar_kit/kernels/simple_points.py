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
_CENTRE = 13


def _mask(chosen: Any) -> int:
    return sum(1 << i for i, offset in enumerate(_OFFSETS) if chosen(offset))


def _reach(steps: int) -> list[int]:
    """Per neighbour, those next to it: a face apart (1 step) or any of the 26 (3 steps)."""
    return [
        _mask(lambda other, own=own: 0 < sum(abs(a - b) for a, b in zip(own, other, strict=True)) <= steps and _within(own, other))
        for own in _OFFSETS
    ]


def _within(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return max(abs(x - y) for x, y in zip(a, b, strict=True)) <= 1


_ALL = wp.constant(_mask(lambda offset: any(offset)))
_FACES = wp.constant(_mask(lambda offset: sum(map(abs, offset)) == 1))
_EIGHTEEN = wp.constant(_mask(lambda offset: 1 <= sum(map(abs, offset)) <= 2))


@wp.func
def _flood(seed: int, among: int, reach: wp.array(dtype=int)):
    """Bits of `among` that are connected to `seed`."""
    found = seed
    before = int(0)
    while found != before:
        before = found
        for b in range(27):
            if (found >> b) & 1:
                found = found | (reach[b] & among)
    return found


@wp.func
def _one_piece(among: int, reach26: wp.array(dtype=int)):
    return among != 0 and _flood(among & (-among), among, reach26) == among


@wp.func
def _one_piece_by_faces(among: int, reach6: wp.array(dtype=int)):
    touching = among & _FACES
    if touching == 0:
        return False
    return (touching & ~_flood(touching & (-touching), among & _EIGHTEEN, reach6)) == 0


@wp.kernel
def _grow_kernel(
    order: wp.array(dtype=int),
    count: int,
    steps: wp.array(dtype=int),
    reach6: wp.array(dtype=int),
    reach26: wp.array(dtype=int),
    members: wp.array(dtype=wp.uint8),
):
    again = int(1)
    while again == 1:
        again = int(0)
        for i in range(count):
            at = order[i]
            if members[at] == wp.uint8(0):
                inside = int(0)
                for b in range(27):
                    if members[at + steps[b]] != wp.uint8(0):
                        inside = inside | (1 << b)
                if _one_piece(inside, reach26) and _one_piece_by_faces(_ALL & ~inside, reach6):
                    members[at] = wp.uint8(1)
                    again = int(1)


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
    tables = [torch.tensor(values, dtype=torch.int32) for values in ((np.array(_OFFSETS) @ strides).tolist(), _reach(1), _reach(3))]
    inputs = [wp.from_torch(order), len(order), *map(wp.from_torch, tables), wp.from_torch(members, dtype=wp.uint8)]
    runtime.launch(_grow_kernel, 1, inputs, like=members)
    return members.reshape(shape) > 0

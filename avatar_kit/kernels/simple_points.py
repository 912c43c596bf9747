"""Growing a set of voxels without changing its topology: only simple points are added.

A point is simple if adding it changes neither the pieces nor the holes of the set and of its complement, which its 26 neighbours
decide (Bertrand and Malandain 1994). They wait in a heap, the lowest first, as in Dijkstra's search. One thread does all of it: what
is added first decides what may be added next.
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

_MEMBER, _FREE, _WAITS = (wp.constant(wp.uint8(i)) for i in (1, 2, 3))  # of a voxel that is in the set, may be, and is in the heap; else 0

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


@wp.func
def _push(heap: wp.array(dtype=int), size: int, rank: int):
    at = int(size)
    while at > 0 and heap[(at - 1) // 2] > rank:
        heap[at] = heap[(at - 1) // 2]
        at = (at - 1) // 2
    heap[at] = rank


@wp.func
def _pop(heap: wp.array(dtype=int), size: int):
    """The lowest of so many; the others keep their heap."""
    lowest = heap[0]
    last = heap[size - 1]
    at = int(0)
    below = int(1)
    while below < size - 1:
        if below + 1 < size - 1 and heap[below + 1] < heap[below]:
            below += 1
        if heap[below] >= last:
            below = size  # its place is found
        else:
            heap[at] = heap[below]
            at = below
            below = 2 * at + 1
    heap[at] = last
    return lowest


@wp.kernel
def _grow_kernel(
    order: wp.array(dtype=int),
    rank: wp.array(dtype=int),
    steps: wp.array(dtype=int),
    heap: wp.array(dtype=int),
    state: wp.array(dtype=wp.uint8),
):
    size = int(0)
    for i in range(order.shape[0]):
        touches = bool(False)
        for b in range(27):
            touches = touches or state[order[i] + steps[b]] == _MEMBER
        if touches:
            _push(heap, size, i)
            state[order[i]] = _WAITS
            size += 1
    while size > 0:
        at = order[_pop(heap, size)]
        size -= 1
        inside = int(0)
        for b in range(27):
            if state[at + steps[b]] == _MEMBER:
                inside = inside | (1 << b)
        if _one_piece(inside) and _one_piece_by_faces(_ALL & ~inside):
            state[at] = _MEMBER
            for b in range(27):  # what could not be added may be now
                beside = at + steps[b]
                if state[beside] == _FREE:
                    _push(heap, size, rank[beside])
                    state[beside] = _WAITS
                    size += 1
        else:
            state[at] = _FREE


def grow_simply(start: torch.Tensor, allowed: torch.Tensor, priority: torch.Tensor) -> torch.Tensor:
    """`start` grown into `allowed`, of what can be added always the lowest in `priority` first: a flood, whose fronts meet where the way
    to each other was highest.

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
    rank = torch.empty(free.numel(), dtype=torch.int32)
    rank[order.long()] = torch.arange(len(order), dtype=torch.int32)
    state = (_MEMBER.value * start.cpu().to(torch.uint8) + _FREE.value * free.to(torch.uint8)).flatten()
    strides = np.array([shape[1] * shape[2], shape[2], 1])
    steps = torch.tensor((np.array(_OFFSETS) @ strides).tolist(), dtype=torch.int32)
    ints = [wp.from_torch(values) for values in (order, rank, steps, torch.empty_like(order))]
    runtime.launch(_grow_kernel, 1, [*ints, wp.from_torch(state, dtype=wp.uint8)], like=state)
    return state.reshape(shape) == _MEMBER.value

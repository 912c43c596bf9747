"""The least-squares system of `mesh.relief`, put together by one thread per vertex. Twin: `tests/mesh/test_relief.py`."""

from __future__ import annotations

from typing import NamedTuple

import torch
import warp as wp
from torch import Tensor

from avatar_kit.kernels import runtime


class HeightSystem(NamedTuple):
    """diagonal * x - beside @ x = pull: `beside` the values (E,) of a sparse matrix in the edges' order, the others (V,)."""

    diagonal: Tensor
    beside: Tensor
    pull: Tensor


@wp.kernel
def _system_kernel(
    first: int,
    rows: wp.array(dtype=int),
    end: wp.array(dtype=int),
    stiffness: wp.array(dtype=float),
    points: wp.array(dtype=wp.vec3),
    up: wp.array(dtype=wp.vec3),
    wanted: wp.array(dtype=wp.vec3),
    weight: wp.array(dtype=float),
    diagonal: wp.array(dtype=float),
    beside: wp.array(dtype=float),
    pull: wp.array(dtype=float),
):
    a = first + wp.tid()
    here = float(0.0)
    force = float(0.0)
    for edge in range(rows[a], rows[a + 1]):
        b = end[edge]
        across = (wanted[a] + wanted[b]) * 0.5  # exact for circles: chords are at right angles to the mean of the normals at their ends
        slope = wp.dot(across, up[a])
        strength = stiffness[edge] * wp.min(weight[a], weight[b]) * slope
        beside[edge] = strength * wp.dot(across, up[b])
        here += strength * slope
        force += strength * wp.dot(across, points[b] - points[a])
    diagonal[a] = here
    pull[a] = force


def height_system(rows: Tensor, end: Tensor, stiffness: Tensor, points: Tensor, up: Tensor, wanted: Tensor, weight: Tensor) -> HeightSystem:
    """Normal equations of: edges between vertices that move along `up` are at right angles to the normals `wanted` at their ends.

    Args:
        rows, end: each edge in both directions, sorted: from vertex i to end[rows[i]:rows[i + 1]]; int32, (V + 1,) and (E,).
        stiffness: of each edge, (E,); an edge counts that times the lesser `weight` (V,) of its ends.
        points, up, wanted: (V, 3) float32.
    """
    count = len(points)
    out = HeightSystem(*(torch.empty(n, dtype=torch.float32) for n in (count, len(end), count)))
    inputs = [wp.from_torch(values.contiguous()) for values in (rows, end, stiffness)]
    inputs += [wp.from_torch(values.contiguous(), dtype=wp.vec3) for values in (points, up, wanted)]
    inputs.append(wp.from_torch(weight.contiguous()))
    outputs = [wp.from_torch(values) for values in out]

    def part(of: slice) -> None:
        runtime.launch(_system_kernel, of.stop - of.start, [of.start, *inputs], outputs, like=points)

    runtime.in_parts(part, count, points.device)
    return out

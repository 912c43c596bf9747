"""Parallel search for the first zero crossing along rays (section 3.2).

N_p samples between the ray's entry into the box and its exit, the first interval in which the field turns from outside
to inside, N_f samples in that interval, and a linear root in the first fine interval that changes sign. `search_grid`
does all of it in one Warp kernel on a field cached at grid nodes; `search_field` does the same on any function.
Twin: `tests/reference/ray_twin.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import warp as wp
from torch import Tensor

from avatar_kit.conventions import BOX_MAX, BOX_MIN
from avatar_kit.kernels import runtime

_CHUNK = 8192  # points that a processor evaluates at once: a network's layers of more do not stay in its cache
_AT_ONCE = 8  # samples along rays before it is looked which of them have crossed


class Crossings(NamedTuple):
    """Per ray: `depth` of the first crossing (N,), inf for none; `closest_depth` (N,), where the field is least among
    the coarse samples (NaN for a ray that misses the box), and `closest_value` (N,) there (inf for such a ray)."""

    depth: Tensor
    closest_depth: Tensor
    closest_value: Tensor

    @property
    def hit(self) -> Tensor:
        """Which rays cross, (N,) bool."""
        return torch.isfinite(self.depth)


def clip_to_box(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Depths (N,) at which rays (N, 3) enter and leave the field's box; entry >= exit for a miss."""
    safe = torch.where(directions.abs() < 1e-12, torch.full_like(directions, 1e-12), directions)
    a, b = (BOX_MIN - origins) / safe, (BOX_MAX - origins) / safe
    return torch.minimum(a, b).amax(-1).clamp_min(0.0), torch.maximum(a, b).amin(-1)


@functools.cache
def _kernel(dtype: torch.dtype) -> wp.Kernel:
    real = runtime.FLOATS[dtype]
    vec3 = wp.types.vector(length=3, dtype=real)
    grid_type, vectors, reals = wp.array(dtype=real), wp.array(dtype=vec3), wp.array(dtype=real)

    def sample(grid: Any, cells: Any, p: Any):
        n = cells + 1
        scale = real(cells) * real(0.5)
        u = (p + vec3(real(1.0), real(1.0), real(1.0))) * scale
        cx = wp.clamp(int(wp.floor(u[0])), 0, cells - 1)
        cy = wp.clamp(int(wp.floor(u[1])), 0, cells - 1)
        cz = wp.clamp(int(wp.floor(u[2])), 0, cells - 1)
        fx = u[0] - real(cx)
        fy = u[1] - real(cy)
        fz = u[2] - real(cz)
        base = (cx * n + cy) * n + cz
        near = wp.lerp(wp.lerp(grid[base], grid[base + 1], fz), wp.lerp(grid[base + n], grid[base + n + 1], fz), fy)
        base = base + n * n
        far = wp.lerp(wp.lerp(grid[base], grid[base + 1], fz), wp.lerp(grid[base + n], grid[base + n + 1], fz), fy)
        return wp.lerp(near, far, fx)

    sample.__annotations__ = {"grid": grid_type, "cells": int, "p": vec3}
    module = wp.get_module(f"avatar_kit.ray_search_{str(dtype).split('.')[-1]}")
    sample_func = wp.Function(sample, key="sample", namespace="", module=module)

    def search(
        grid: Any, cells: Any, origins: Any, directions: Any, entry: Any, exit: Any, coarse: Any, fine: Any,
        depth: Any, closest_depth: Any, closest_value: Any,
    ):  # fmt: skip
        i = wp.tid()
        a = entry[i]
        b = exit[i]
        depth[i] = real(wp.inf)
        closest_value[i] = real(wp.inf)
        closest_depth[i] = real(wp.nan)
        if a >= b:
            return
        o = origins[i]
        v = directions[i]
        step = (b - a) / real(coarse - 1)
        before = real(0.0)
        found = int(-1)  # a variable to Warp
        least = real(wp.inf)
        least_at = a
        for k in range(coarse):
            t = a + step * real(k)
            d = sample_func(grid, cells, o + v * t)
            if d < least:
                least = d
                least_at = t
            if found < 0 and k > 0 and before > real(0.0) and d <= real(0.0):
                found = k
            before = d
        closest_value[i] = least
        closest_depth[i] = least_at
        if found < 0:
            return
        start = a + step * real(found - 1)
        inner = step / real(fine - 1)
        d0 = sample_func(grid, cells, o + v * start)
        for k in range(1, fine):
            t = start + inner * real(k)
            d1 = sample_func(grid, cells, o + v * t)
            if d0 > real(0.0) and d1 <= real(0.0):
                depth[i] = t - inner + inner * d0 / (d0 - d1)
                return
            d0 = d1

    search.__annotations__ = {
        "grid": grid_type, "cells": int, "origins": vectors, "directions": vectors, "entry": reals, "exit": reals,
        "coarse": int, "fine": int, "depth": reals, "closest_depth": reals, "closest_value": reals,
    }  # fmt: skip
    return wp.Kernel(search, key="search", module=module)


def search_grid(sdf: Tensor, origins: Tensor, directions: Tensor, *, coarse: int, fine: int) -> Crossings:
    """First crossings of rays with a field given at the nodes of a grid over the box.

    Args:
        sdf: (n, n, n), indexed [x, y, z], at nodes from -1 to 1; interpolated trilinearly.
        origins, directions: (N, 3) in the head frame, directions of unit length, of the same float type.
        coarse, fine: samples N_p and N_f, each at least 2. A ray that starts inside has no crossing until it has left.
    """
    entry, leave = clip_to_box(origins, directions)
    out = Crossings(*(torch.empty_like(entry) for _ in range(3)))
    vectors, reals, values = [x.contiguous() for x in (origins, directions)], [x.contiguous() for x in (entry, leave)], sdf.flatten()
    inputs = [runtime.view(values), len(sdf) - 1, *(runtime.view(x, 3) for x in vectors), *map(runtime.view, reals), coarse, fine]
    runtime.launch(_kernel(sdf.dtype), len(origins), inputs, [runtime.view(x) for x in out], like=sdf)
    return out


def search_field(
    sdf: Callable[[Tensor], Tensor], origins: Tensor, directions: Tensor, *, coarse: int, fine: int, to_crossing: Tensor | None = None
) -> Crossings:
    """As `search_grid`, for a field given as a function of points (M, 3) -> (M,): N_p + N_f evaluations per ray, or fewer.

    Args:
        to_crossing: rays of which the first crossing alone matters, (N,) bool: they are sampled no further than a few samples behind it,
            and where they cross, the closest point is the closest of those. By default none.
    """
    entry, leave = clip_to_box(origins, directions)
    inside = entry < leave
    steps = torch.linspace(0.0, 1.0, coarse, dtype=entry.dtype, device=entry.device)
    depths = entry[:, None] + (leave - entry)[:, None] * steps
    values = _coarse_values(sdf, origins, directions, depths, inside, to_crossing)
    least, at = values.min(dim=1)
    crosses = (values[:, :-1] > 0) & (values[:, 1:] <= 0)
    found = crosses.any(1) & inside
    first = crosses.int().argmax(1, keepdim=True)
    start, width = depths.gather(1, first), (leave - entry)[:, None] / (coarse - 1)
    inner = start + width * torch.linspace(0.0, 1.0, fine, dtype=entry.dtype, device=entry.device)
    depth = torch.full_like(entry, torch.inf)
    if found.any():
        fine_values = _values(sdf, origins[found], directions[found], inner[found])
        crosses = (fine_values[:, :-1] > 0) & (fine_values[:, 1:] <= 0)
        k = crosses.int().argmax(1, keepdim=True)
        d0, d1 = fine_values.gather(1, k), fine_values.gather(1, k + 1)
        t0, t1 = inner[found].gather(1, k), inner[found].gather(1, k + 1)
        root = (t0 + (t1 - t0) * d0 / (d0 - d1))[:, 0]
        depth[found] = torch.where(crosses.any(1), root, torch.full_like(root, torch.inf))
    nan, inf = torch.full_like(entry, torch.nan), torch.full_like(entry, torch.inf)
    closest = torch.where(inside, depths.gather(1, at[:, None])[:, 0], nan)
    return Crossings(depth, closest, torch.where(inside, least, inf))


def _coarse_values(
    sdf: Callable[[Tensor], Tensor], origins: Tensor, directions: Tensor, depths: Tensor, inside: Tensor, to_crossing: Tensor | None
) -> Tensor:
    """The field at `depths` of all rays, (N, K); inf where a ray of `to_crossing` has crossed before."""
    if to_crossing is None:
        return _values(sdf, origins, directions, depths)
    values = torch.full_like(depths, torch.inf)
    going = inside.clone()
    for first in range(0, depths.shape[1], _AT_ONCE):
        rows = going.nonzero()[:, 0]
        block = slice(first, first + _AT_ONCE)
        values[rows, block] = _values(sdf, origins[rows], directions[rows], depths[rows, block])
        so_far = values[rows, max(first - 1, 0) : first + _AT_ONCE]
        crossed = ((so_far[:, :-1] > 0) & (so_far[:, 1:] <= 0)).any(1)
        going[rows] = ~(crossed & to_crossing[rows])
    return values


def _values(sdf: Callable[[Tensor], Tensor], origins: Tensor, directions: Tensor, depths: Tensor) -> Tensor:
    points = (origins[:, None] + directions[:, None] * depths[..., None]).reshape(-1, 3)
    parts = points.split(_CHUNK if points.device.type == "cpu" else max(len(points), 1))
    return torch.cat([sdf(part) for part in parts]).reshape(depths.shape)

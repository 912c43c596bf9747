"""Sphere tracing as in IDR, to compare the sampled search with (`--set rays.search=sphere`).

Yariv et al., "Multiview neural surface reconstruction by disentangling geometry and appearance", NeurIPS 2020, appendix B:
points move along each ray from both ends by the field's value; where a learnt field overshoots the surface, the step is
halved again and again. Rays that have not converged are given to a uniform search, which is what makes it slow. Unlike IDR
we look there with the same first-crossing search as everywhere, so that the hits are those of `search_field`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from avatar_kit.kernels.ray_search import Crossings, clip_to_box, search_field

_ITERATIONS = 10
_LINE_SEARCH = 2  # halvings of a step that went through the surface
_CONVERGED = 5e-5  # units of the field, as in IDR


class Traced(NamedTuple):
    """`crossings` as `search_field` gives them, and which rays sphere tracing alone had `lost` (N,): neither hit nor out."""

    crossings: Crossings
    lost: Tensor


def sphere_trace(sdf: Callable[[Tensor], Tensor], origins: Tensor, directions: Tensor, *, samples: int = 100, fine: int = 8) -> Traced:
    """First crossings of rays (N, 3) with the zero level of `sdf`, points (M, 3) -> (M,).

    Args:
        samples: along the rays that are not done after ten steps, and along those that hit nothing, for their closest points.
        fine: samples within the interval of such a crossing.
    """
    entry, leave = clip_to_box(origins, directions)
    near, far = entry.clone(), leave.clone()
    going = entry < leave
    hit = torch.zeros_like(going)
    for _ in range(_ITERATIONS):
        rows = going.nonzero()[:, 0]
        if len(rows) == 0:
            break
        o, v = origins[rows], directions[rows]
        ahead, behind = _step(sdf, o, v, near[rows], 1.0), _step(sdf, o, v, far[rows], -1.0)
        near[rows], far[rows] = ahead.depth, behind.depth
        hit[rows] = ahead.converged
        going[rows] = ~ahead.converged & (ahead.depth < behind.depth)
    lost = going  # neither on the surface nor past each other
    depth = torch.where(hit, near, torch.inf)
    closest_depth, closest_value = torch.full_like(entry, torch.nan), torch.full_like(entry, torch.inf)
    closest_depth[hit], closest_value[hit] = near[hit], 0.0
    rest = (~hit & (entry < leave)).nonzero()[:, 0]
    if len(rest):
        found = search_field(sdf, origins[rest], directions[rest], coarse=samples, fine=fine)
        depth[rest[lost[rest]]] = found.depth[lost[rest]]
        closest_depth[rest], closest_value[rest] = found.closest_depth, found.closest_value
    return Traced(Crossings(depth, closest_depth, closest_value), lost)


class _Step(NamedTuple):
    depth: Tensor
    converged: Tensor


def _step(sdf: Callable[[Tensor], Tensor], origins: Tensor, directions: Tensor, depth: Tensor, sign: float) -> _Step:
    """One step from one end, halved where it lands inside."""
    here = sdf(origins + depth[:, None] * directions)
    converged = here.abs() <= _CONVERGED
    step = torch.where(converged, torch.zeros_like(here), here)
    moved = depth + sign * step
    for halving in range(_LINE_SEARCH):
        inside = sdf(origins + moved[:, None] * directions) < 0
        moved = torch.where(inside & ~converged, moved - sign * step * 0.5 ** (halving + 1), moved)
    return _Step(moved, converged)

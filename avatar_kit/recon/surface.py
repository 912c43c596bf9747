"""Surface rendering: where rays hit the field, differentiably, and how near the others come (section 3.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from avatar_kit.config import RaysConfig
from avatar_kit.conventions import BOX_MAX, BOX_MIN
from avatar_kit.field.head_field import Condition, HeadField
from avatar_kit.field.on_grid import beside_surface, narrow_band
from avatar_kit.kernels.ray_search import Crossings, search_field, search_grid
from avatar_kit.kernels.sphere_tracing import sphere_trace
from avatar_kit.types import InputError

_BAND = 0.06  # units: nodes this near the surface are refreshed
_NEWTON_REACH = 0.05  # units: a Newton step never moves a hit further than this
_STEEP = 0.4  # of -n . v: where rays graze the surface hits leap, and their motion is left out
_MOST_BENT = 25.0  # per unit: a normal that turns faster, on an edge, would outweigh all others
_PROBE = 1e-3  # units: step, at the least half of it, of the finite difference of normals along rays
_CLEAR = 0.02  # units: what hides a spot is further from it than this
_HIDING_SAMPLES = 48, 2  # along the rays that look for it, coarse and fine


class SurfaceHits(NamedTuple):
    """Differentiable hits: `points` x_diff (N, 3), unit `normals` (N, 3) and `slope`, n . v before any mask (N,)."""

    points: Tensor
    normals: Tensor
    slope: Tensor

    def among(self, chosen: Tensor) -> SurfaceHits:
        """Those that are `chosen`, (N,) bool."""
        return SurfaceHits(*(part[chosen] for part in self))


class FieldCache:
    """The field at the nodes of a coarse grid, kept near the truth by refreshing its narrow band."""

    def __init__(self, field: HeadField, latent: Tensor, cells: int, *, start: Tensor | None = None) -> None:
        self._field = field
        if start is not None and len(start) == cells + 1:  # already known
            self.values = start.to(latent.device).clone()
        else:
            self.values = narrow_band(field, latent, cells, coarse=(cells + 1) // 2)
        axis = torch.linspace(BOX_MIN, BOX_MAX, cells + 1, device=latent.device)
        self._axis = axis

    @torch.no_grad()
    def refresh(self, latent: Tensor, *, chunk: int = 8192) -> None:
        """Evaluate the field anew near where the surface was and, from there, wherever it has moved to; in chunks that stay in a
        processor's cache."""
        condition, cell = self._field.condition(latent[None]), (BOX_MAX - BOX_MIN) / (len(self._axis) - 1)
        done, wanted = torch.zeros_like(self.values, dtype=torch.bool), self.values.abs() < _BAND
        while wanted.any():
            for part in wanted.nonzero().split(chunk):
                self.values[part.unbind(1)] = self._field(self._axis[part], condition)
            done |= wanted
            wanted = (_and_beside(done & (self.values.abs() < _BAND - cell)) | beside_surface(self.values)) & ~done


def _and_beside(nodes: Tensor) -> Tensor:
    """The nodes (n, n, n) and those beside them, corners included."""
    return torch.nn.functional.max_pool3d(nodes[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0


def search(
    field: HeadField, cache: FieldCache, condition: Condition, origins: Tensor, directions: Tensor, config: RaysConfig, *,
    to_crossing: Tensor | None = None,
) -> Crossings:  # fmt: skip
    """First crossings; no gradients.

    On the cached grid ("grid"), with N_p + N_f evaluations of the field per ray ("field"), or by sphere tracing ("sphere").

    Args:
        to_crossing: rays whose closest points do not matter if they cross, (N,) bool (`search_field`).

    Raises:
        InputError: another name.
    """
    with torch.no_grad():
        if config.search == "grid":
            return search_grid(cache.values, origins, directions, coarse=config.coarse, fine=config.fine)

        def sdf(points: Tensor) -> Tensor:
            return field(points, condition)

        if config.search == "sphere":
            return sphere_trace(sdf, origins, directions).crossings
        if config.search == "field":
            return search_field(sdf, origins, directions, coarse=config.coarse, fine=config.fine, to_crossing=to_crossing)
    raise InputError(f"rays.search={config.search}: no such search. There are grid, field and sphere.")


def seen_from(sdf: Tensor, points: Tensor, normals: Tensor, towards: Tensor) -> Tensor:
    """Which surface `points` with `normals`, each (N, 3), nothing hides along unit directions `towards` (N, 3), (N,) bool.

    Args:
        sdf: the field at the nodes of a grid over the box.
    """
    return ~search_grid(sdf, points + _CLEAR * normals, towards, coarse=_HIDING_SAMPLES[0], fine=_HIDING_SAMPLES[1]).hit


def differentiable_hits(field: HeadField, condition: Condition, origins: Tensor, directions: Tensor, depth: Tensor) -> SurfaceHits:
    """Implicit differentiation of the hit points, with the search's remaining error removed.

    One Newton step on the field takes the hits from the search to the surface; then

        x_diff = o + t v - v d(o + t v) / (grad d . v),

    with t and the slope held, has the value of the hit and the derivative of the implicit function with respect to the
    field's parameters and to the ray (Yariv et al. 2020, equation 3). Normals are those at x_diff: besides their own
    derivative they have that of the hit's moving along the ray.
    """
    with torch.no_grad():  # a little behind the hit: one evaluation serves the Newton step and the finite difference
        behind = depth + _PROBE
        rough = field.with_gradient(origins + behind[:, None] * directions, condition)
        slope = (rough.gradient * directions).sum(-1).clamp(max=-0.1)
        depth = behind - (rough.distance / slope).clamp(-_NEWTON_REACH, _NEWTON_REACH)
        apart = behind - depth
        apart = torch.copysign(apart.abs().clamp_min(0.5 * _PROBE), apart)
    points = origins + depth[:, None] * directions
    sdf = field.with_gradient(points, condition)
    # equation 4 as printed can be lowered by shrinking the gradient, since the eikonal term is off: normalise
    normals = torch.nn.functional.normalize(sdf.gradient, dim=-1)
    slope = (normals * directions).sum(-1)
    steepness = (sdf.gradient * directions).sum(-1).detach().clamp(max=-0.1)
    step = (sdf.distance / steepness).clamp(-_NEWTON_REACH, _NEWTON_REACH)
    bend = (torch.nn.functional.normalize(rough.gradient, dim=-1) - normals.detach()) / apart[:, None]
    bend = bend * (_MOST_BENT / bend.norm(dim=-1, keepdim=True).clamp_min(_MOST_BENT)) * (slope.detach() < -_STEEP)[:, None]
    normals = normals - bend * (step - step.detach())[:, None]
    return SurfaceHits(points - directions * step[:, None], normals, slope)

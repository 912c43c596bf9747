"""What pose and latent are found from: outlines that the surface must touch, and normals that it must have.

Residuals are the field's least value along rays through the masks' outlines, and the difference of normals where rays hit
(equation 4). Robust weights: Geman and McClure (1987).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from avatar_kit.config import RaysConfig, StartConfig
from avatar_kit.kernels.ray_search import search_grid
from avatar_kit.recon.losses import geman_mcclure
from avatar_kit.recon.posed_head import PosedHead, hits_of_moved_rays
from avatar_kit.recon.rays import Rays

_LOW, _LOW_WEIGHT = -0.45, 0.1  # below this height (the neck) busts differ from heads, so rays count less
_HAIR_ABOVE, _HAIR_BEHIND, _HAIR_WEIGHT = 0.32, 0.1, 0.2  # hair and hats differ more than faces
_OUTLINE_SAMPLES = 96  # along a ray, for its closest point
LEAST_SLOPE = 0.1  # of -n . v: rays that graze the surface say little about normals


class ByRays(NamedTuple):
    """Derivatives (R, 7) by a small similarity of the head frame that moves a ray each, and the rays' `photo` (R,)."""

    photo: Tensor
    by_motion: Tensor


class Residuals(NamedTuple):
    """`values` (R,), their derivatives `by_rays`, of one ray each or of several, and `by_code` (R, K), robust `weights` (R,) and the
    robust `cost`."""

    values: Tensor
    by_rays: tuple[ByRays, ...]
    by_code: Tensor
    weights: Tensor
    cost: float

    @property
    def jacobian(self) -> Tensor:
        """By pose, which moves all rays, and code, (R, 7 + K)."""
        return torch.cat([sum(rays.by_motion for rays in self.by_rays[1:]) + self.by_rays[0].by_motion, self.by_code], dim=-1)


def outline_residuals(head: PosedHead, rays: Rays, config: StartConfig, width: float) -> Residuals:
    """Distance, to first order, between the surface and rays that should touch it, units; `width` of the robust weight."""
    origins, directions, _ = head.rays(rays)
    found = search_grid(head.cache.values, origins, directions, coarse=_OUTLINE_SAMPLES, fine=2)
    use = torch.isfinite(found.closest_value).nonzero()[:, 0]
    # the closest point moves with the field, but along the ray the field does not change there: no derivative
    points = origins[use] + directions[use] * found.closest_depth[use, None]
    condition, own = head.conditions(len(use))
    sdf = head.field.with_gradient(points, condition)
    by_own = torch.autograd.grad(sdf.distance.sum(), own)
    gradient = sdf.gradient.detach()
    by_motion = torch.cat([gradient, torch.cross(points, gradient, dim=-1), (points * gradient).sum(-1, keepdim=True)], dim=-1)
    steepness = gradient.norm(dim=-1, keepdim=True).clamp_min(0.3)
    values = sdf.distance.detach() / steepness[:, 0]
    weights = _region_weights(points) * config.outline_count / (len(rays) * config.outline_std**2)
    robust, cost = geman_mcclure(values.square(), width)
    by_rays = (ByRays(rays.photo[use], by_motion / steepness),)
    return Residuals(values, by_rays, head.by_code(points, by_own) / steepness, weights * robust, float((weights * cost).sum()))


def normal_residuals(head: PosedHead, rays: Rays, config: StartConfig, rays_config: RaysConfig) -> Residuals:
    """n - n_hat at the hits, component by component."""
    origins, directions, target = head.rays(rays)
    found = search_grid(head.cache.values, origins, directions, coarse=rays_config.coarse, fine=rays_config.fine)
    use = found.hit.nonzero()[:, 0]
    o, v, n = origins[use], directions[use], target[use]
    hits, moved = hits_of_moved_rays(head, o, v, found.depth[use])
    points = hits.points.detach()
    difference = hits.normals - n - torch.cross(moved.turn, n, dim=-1)
    by_motion, by_code = zip(*(moved.derivatives(difference[:, axis], points) for axis in range(3)), strict=True)
    weights = _region_weights(points) * (hits.slope.detach() < -LEAST_SLOPE)
    weights = weights / weights.sum().clamp_min(1e-6) * rays.confidence[use] * config.normal_count / config.normal_std**2
    values = difference.detach()
    robust, cost = geman_mcclure(values.square().sum(-1), config.normal_width)
    cost = float((weights * cost).sum())
    by_rays = (ByRays(rays.photo[use].repeat(3), torch.cat(by_motion)),)
    return Residuals(values.T.reshape(-1), by_rays, torch.cat(by_code), (weights * robust).repeat(3), cost)


def _region_weights(points: Tensor) -> Tensor:
    hair = (points[:, 1] > _HAIR_ABOVE) | (points[:, 2] < _HAIR_BEHIND)
    weights = torch.where(hair, _HAIR_WEIGHT, 1.0)
    return torch.where(points[:, 1] < _LOW, _LOW_WEIGHT, weights)

"""The second-order start of the fit: Gauss-Newton on pose and latent, from the masks' outlines and the normals.

Unknown are seven parameters of pose and the code w of g = mean + B w, with B B^T the covariance of the training latents,
so that |w|^2 is the Gaussian prior on g (equation 3). Residuals are the field's least value along rays through the masks'
outlines, which touch the surface, and the difference of normals where rays hit (equation 4). The rays are the same each
time: the result depends on the photos alone. Solver: Levenberg (1944) and Marquardt (1963); robust weights: Geman and
McClure (1987), their width narrowed step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from avatar_kit.config import CamerasConfig, RaysConfig, StartConfig
from avatar_kit.conventions import similarity
from avatar_kit.field.head_field import Condition
from avatar_kit.kernels.ray_search import search_grid
from avatar_kit.prior.storage import HeadPrior
from avatar_kit.recon.losses import geman_mcclure
from avatar_kit.recon.pose import HeadPose
from avatar_kit.recon.rays import RayBank, Rays
from avatar_kit.recon.surface import FieldCache, SurfaceHits, differentiable_hits
from avatar_kit.types import Array, InputError

_LOW, _LOW_WEIGHT = -0.45, 0.1  # below this height (the neck) busts differ from heads, so rays count less
_HAIR_ABOVE, _HAIR_BEHIND, _HAIR_WEIGHT = 0.32, 0.1, 0.2  # hair and hats differ more than faces
_OUTLINE_SAMPLES = 96  # along a ray, for its closest point
_LEAST_SLOPE = 0.1  # of -n . v: rays that graze the surface say little about normals
_NARROWING = 0.6  # of the robust weights' width, from step to step
_MORE_WIDTH_START = 4.0  # times that at the end, of the residuals that come on top
_CAMERA = 6  # of a camera that is refined: the pose's without the scale
_POSE = 7  # translation (units), rotation vector (radians), log scale: a small similarity of the head frame


class Start(NamedTuple):
    """Where the fit begins.

    Attributes:
        head_from_world: similarity (4, 4).
        code: w (K,), in standard deviations of the training latents.
        log_scale: of the scale that was added to the rough pose's.
        cameras: rigid motion of the head frame for the rays of each photo, (P, 4, 4); None where cameras are not refined.
        shared: of the spots that two photos seem to share, the part that lies on both rays; None where cameras are not refined.
        spots: of `recon.spots.spots_of`; None where cameras are refined, or none are found.
    """

    head_from_world: Array
    code: Tensor
    log_scale: float
    cameras: Array | None = None
    shared: float | None = None
    spots: Rays | None = None


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


class PosedHead:
    """A head of the prior in a pose: what residuals are measured on."""

    def __init__(self, prior: HeadPrior, cells: int, device: torch.device, *, code: Tensor | None = None) -> None:
        self.field = prior.field.to(device)
        self.mean, self.basis = prior.mean_latent.to(device), prior.latent_basis.to(device)
        self.latent = self.mean if code is None else self.mean + self.basis @ code
        self.cache = FieldCache(self.field, self.latent, cells, start=prior.mean_sdf if code is None else None)

    def move(self, to: Start) -> None:
        """Become the head of another code in another pose."""
        latent = self.mean + self.basis @ to.code
        if not torch.equal(latent, self.latent):  # at first the pose moves alone
            self.latent = latent
            self.cache.refresh(latent)
        self._pose = HeadPose(to.head_from_world, self.mean.device, to.cameras)

    @torch.no_grad()
    def rays(self, rays: Rays) -> tuple[Tensor, Tensor, Tensor]:
        """Origins, directions and normals (N, 3) of world rays in the head frame."""
        return self._pose.rays(rays)

    def conditions(self, count: int) -> tuple[Condition, list[Tensor]]:
        """What the latent does to the field, once for each of `count` points, and the tensors in it to differentiate by."""
        bias, grid, _ = self.field.condition(self.latent[None])
        own = [bias.expand(count, -1).clone().requires_grad_()]
        if grid is not None:
            own.append(torch.zeros(4, count, grid.shape[-1], device=grid.device, requires_grad=True))
        return Condition(own[0], grid, *own[1:]), own

    def by_code(self, points: Tensor, by_own: Sequence[Tensor]) -> Tensor:
        """Derivatives by the code (N, K) from those by each point's own condition."""
        by_bias, *by_nudge = by_own
        return self.field.by_latent(points, by_bias, by_nudge[0] if by_nudge else None) @ self.basis


def solve_start(
    bank: RayBank, prior: HeadPrior, begin: Array | Start, config: StartConfig, rays_config: RaysConfig,
    cameras: CamerasConfig | None = None, *, more: Callable[[PosedHead, float], Residuals] | None = None,
) -> Start:  # fmt: skip
    """Refine a rough pose and find the latent.

    Args:
        bank: rays of the photos; their device is the computation's.
        begin: rough similarity head_from_world (4, 4), within some 20 mm and 15 degrees; or a start to go on from, of the same cameras.
        cameras: refine those of several photos too, if it says so.
        more: residuals besides those of outlines and normals, whose robust weight should be so many times as wide as at the end.

    Raises:
        InputError: the masks have no outline, or none that comes near the head.
    """
    cameras = cameras if cameras and cameras.refine and bank.photos > 1 else None
    going_on = isinstance(begin, Start)
    head = PosedHead(prior, rays_config.cache_resolution, bank.rays.origins.device, code=begin.code if going_on else None)
    count = config.outline_count + bank.trust * (config.outline_count_normals - config.outline_count)
    config = replace(
        config, outline_count=count, normal_count=config.normal_count / bank.photos,
        outline_width_start=1.0 if bank.located else config.outline_width_start,
    )  # fmt: skip
    outline = bank.outline(config.outline_rays)
    if not len(outline):
        raise InputError(f"{bank.name}: the masks have no outline. They must be white on the subject and black elsewhere.")
    subject = bank.subject(config.normal_rays) if bank.has_normals else None
    scale_weight = config.scale_std**-2
    still = None if cameras is None else np.tile(np.eye(4), (bank.photos, 1, 1))
    now = begin if going_on else Start(begin, torch.zeros(head.basis.shape[1], device=head.mean.device), 0.0, still)
    shape = torch.arange(_POSE, _POSE + len(now.code), device=head.mean.device)  # unknowns that wait for the pose
    best, lowest, damping = now, float("inf"), config.damping
    normal = rhs = torch.empty(0)
    for step in range(config.steps + 1):
        head.move(now)
        wider, more_wider = (max(1.0, times * _NARROWING**step) for times in (config.outline_width_start, _MORE_WIDTH_START))
        parts = [outline_residuals(head, outline, config, config.outline_width * wider)]
        if subject is not None:
            parts.append(normal_residuals(head, subject, config, rays_config))
        if more is not None:
            parts.append(more(head, more_wider))
        narrowing = wider > 1.0 or (more is not None and more_wider > 1.0)
        cost = sum(part.cost for part in parts) + float(now.code.square().sum()) + scale_weight * now.log_scale**2
        cost += float(np.square(_camera_deviations(now, cameras)).sum()) if cameras else 0.0
        lost = not len(parts[0].values)
        if lost and step == 0:
            raise InputError(
                f"{bank.name}: no camera looks at the head where it is taken to be. Check the cameras and, in views.json, units and "
                "head_from_world, which takes the cameras' world to the head frame; without it the place is estimated."
            )
        if not lost and (cost < lowest or narrowing):  # costs of other widths cannot be compared
            best, lowest, damping = now, cost, max(0.3 * damping, 1e-4)
            normal, rhs = _normal_equations(parts, now, scale_weight, cameras)
        else:
            damping *= 10.0
        if step < config.steps:
            damped = normal + torch.diag(damping * normal.diagonal())
            held = rhs.clone()
            if step < config.pose_steps and not going_on:
                damped[shape] = 0.0
                damped[shape, shape] = 1.0
                held[shape] = 0.0
            now = _moved(best, -torch.linalg.solve(damped, held))
    return best


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
    weights = _region_weights(points) * (hits.slope.detach() < -_LEAST_SLOPE)
    weights = weights / weights.sum().clamp_min(1e-6) * rays.confidence[use] * config.normal_count / config.normal_std**2
    values = difference.detach()
    robust, cost = geman_mcclure(values.square().sum(-1), config.normal_width)
    cost = float((weights * cost).sum())
    by_rays = (ByRays(rays.photo[use].repeat(3), torch.cat(by_motion)),)
    return Residuals(values.T.reshape(-1), by_rays, torch.cat(by_code), (weights * robust).repeat(3), cost)


class MovedRays:
    """N rays that small similarities of the head frame move, one each, on a head whose code may change: what to differentiate by."""

    def __init__(self, head: PosedHead, origins: Tensor, directions: Tensor) -> None:
        self._head = head
        self._by = torch.zeros(len(origins), _POSE, device=origins.device, requires_grad=True)
        shift, self.turn, growth = self._by[:, :3], self._by[:, 3:6], self._by[:, 6:]
        self.origins = origins + shift + torch.cross(self.turn, origins, dim=-1) + growth * origins
        self.directions = directions + torch.cross(self.turn, directions, dim=-1)
        self.condition, self._own = head.conditions(len(origins))

    def derivatives(self, values: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Of one value a ray (N,), at `points` (N, 3): by the motion (N, 7) and by the code (N, K)."""
        by_motion, *by_own = torch.autograd.grad(values.sum(), [self._by, *self._own], retain_graph=True)
        return by_motion, self._head.by_code(points, by_own)


def hits_of_moved_rays(head: PosedHead, origins: Tensor, directions: Tensor, depth: Tensor) -> tuple[SurfaceHits, MovedRays]:
    """Where rays (N, 3) that hit at about `depth` hit the head, and what moves them."""
    moved = MovedRays(head, origins, directions)
    return differentiable_hits(head.field, moved.condition, moved.origins, moved.directions, depth), moved


def _region_weights(points: Tensor) -> Tensor:
    hair = (points[:, 1] > _HAIR_ABOVE) | (points[:, 2] < _HAIR_BEHIND)
    weights = torch.where(hair, _HAIR_WEIGHT, 1.0)
    return torch.where(points[:, 1] < _LOW, _LOW_WEIGHT, weights)


def _normal_equations(parts: list[Residuals], now: Start, scale_weight: float, cameras: CamerasConfig | None) -> tuple[Tensor, Tensor]:
    """Of pose, code and, where they are refined, the cameras (six each)."""
    shared = _POSE + len(now.code)
    size = shared + (0 if now.cameras is None else _CAMERA * len(now.cameras))
    normal = 1e-6 * torch.eye(size, dtype=torch.float64, device=now.code.device)
    rhs = torch.zeros(size, dtype=torch.float64, device=now.code.device)
    for part in parts:
        jacobian = part.jacobian.double()
        if now.cameras is not None:  # a camera moves its own rays as the pose moves all
            by_camera = torch.zeros(len(jacobian), len(now.cameras), _CAMERA).to(jacobian)
            for photo, by_motion in part.by_rays:
                own = torch.nn.functional.one_hot(photo, len(now.cameras)).double()
                by_camera += own[:, :, None] * by_motion[:, None, :_CAMERA]
            jacobian = torch.cat([jacobian, by_camera.flatten(1)], dim=1)
        weighted = jacobian * part.weights.double()[:, None]
        normal += weighted.T @ jacobian
        rhs += weighted.T @ part.values.double()
    normal.diagonal()[_POSE:shared] += 1.0
    rhs[_POSE:shared] += now.code
    normal[6, 6] += scale_weight
    rhs[6] += scale_weight * now.log_scale
    if cameras is not None:
        deviations, std = _camera_deviations(now, cameras), _camera_std(cameras)
        normal.diagonal()[shared:] += torch.from_numpy(np.tile(std**-2, len(deviations))).to(normal)
        rhs[shared:] += torch.from_numpy((deviations / std).ravel()).to(rhs)
    return normal, rhs


def _camera_std(cameras: CamerasConfig) -> Array:
    """Of translation (units) and rotation vector (radians), (6,)."""
    return np.repeat([cameras.translation_std, np.radians(cameras.rotation_std_deg)], 3)


def _camera_deviations(now: Start, cameras: CamerasConfig) -> Array:
    """How far the cameras have moved, in standard deviations, (P, 6)."""
    assert now.cameras is not None
    turned = Rotation.from_matrix(now.cameras[:, :3, :3]).as_rotvec()
    return np.concatenate([now.cameras[:, :3, 3], turned], axis=1) / _camera_std(cameras)


def _moved(start: Start, update: Tensor) -> Start:
    shared = _POSE + len(start.code)
    small = _small(update[:_POSE])
    cameras = start.cameras
    if cameras is not None:  # what moves all rays comes first, then their own camera's motion
        own = np.stack([_small(part) for part in update[shared:].reshape(-1, _CAMERA)])
        cameras = own @ small @ cameras @ np.linalg.inv(small)
    return Start(small @ start.head_from_world, start.code + update[_POSE:shared].float(), start.log_scale + float(update[6]), cameras)


def _small(parameters: Tensor) -> Array:
    """The similarity of a translation, a rotation vector and, where there is a seventh parameter, a log scale."""
    p = parameters.double().cpu().numpy()
    return similarity(float(np.exp(p[6])) if len(p) > _CAMERA else 1.0, Rotation.from_rotvec(p[3:6]).as_matrix(), p[:3])

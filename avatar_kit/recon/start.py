"""The second-order start of the fit: Gauss-Newton on pose and latent, from the masks' outlines, the normals, and the light on faces.

Unknown are seven parameters of pose and the code w of the latent, with |w|^2 as the Gaussian prior on g (equation 3). The rays
are the same each time: the result depends on the photos alone. Solver: Levenberg (1944) and Marquardt (1963); the robust
weights' width is narrowed step by step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from avatar_kit.config import CamerasConfig, RaysConfig, ShadingConfig, StartConfig
from avatar_kit.conventions import similarity
from avatar_kit.prior.storage import HeadPrior
from avatar_kit.recon.posed_head import POSE, PosedHead, Start
from avatar_kit.recon.rays import RayBank
from avatar_kit.recon.residuals import Residuals, normal_residuals, outline_residuals
from avatar_kit.recon.shading import shading_residuals
from avatar_kit.types import Array, InputError

_SHARED_ERRORS = 0.6  # predicted normals err together, the more the less sure they are: power of the trust in them by which they count
_NARROWING = 0.6  # of the robust weights' width, from step to step
_MORE_WIDTH_START = 4.0  # times that at the end, of the residuals that come on top
_CAMERA = 6  # of a camera that is refined: the pose's without the scale


def solve_start(
    bank: RayBank, prior: HeadPrior, begin: Array | Start, config: StartConfig, rays_config: RaysConfig,
    cameras: CamerasConfig | None = None, *, shading: ShadingConfig | None = None,
    more: Callable[[PosedHead, float], Residuals] | None = None,
) -> Start:  # fmt: skip
    """Refine a rough pose and find the latent.

    Args:
        bank: rays of the photos; their device is the computation's.
        begin: rough similarity head_from_world (4, 4), within some 20 mm and 15 degrees; or a start to go on from, of the same cameras.
        cameras: refine those of several photos too, if it says so.
        shading: counts as far as the normals are not trusted; None: not at all.
        more: residuals besides those of outlines and normals, whose robust weight should be so many times as wide as at the end.

    Raises:
        InputError: the masks have no outline, or none that comes near the head.
    """
    cameras = cameras if cameras and cameras.refine and bank.photos > 1 else None
    going_on = isinstance(begin, Start)
    head = PosedHead(prior, rays_config.cache_resolution, bank.rays.origins.device, code=begin.code if going_on else None)
    count = config.outline_count + bank.trust * (config.outline_count_normals - config.outline_count)
    config = replace(
        config, outline_count=count, normal_count=config.normal_count * bank.trust**_SHARED_ERRORS / bank.photos,
        outline_width_start=1.0 if bank.located else config.outline_width_start,
    )  # fmt: skip
    outline = bank.outline(config.outline_rays)
    if not len(outline):
        raise InputError(f"{bank.name}: the masks have no outline. They must be white on the subject and black elsewhere.")
    subject = bank.subject(config.normal_rays) if bank.has_normals else None
    shading = replace(shading, count=(1.0 - bank.trust) * shading.count) if shading else ShadingConfig(count=0.0)
    lit = bank.subject(shading.rays, with_normals=False) if shading.count > 0 and config.steps > 0 else None
    steps = config.steps + (shading.steps if lit is not None and not going_on else 0)
    first_shaped = 0 if going_on else config.pose_steps
    scale_weight = config.scale_std**-2
    still = None if cameras is None else np.tile(np.eye(4), (bank.photos, 1, 1))
    now = begin if going_on else Start(begin, torch.zeros(head.basis.shape[1], device=head.mean.device), 0.0, still)
    shape = torch.arange(POSE, POSE + len(now.code), device=head.mean.device)  # unknowns that wait for the pose
    best, lowest, damping = now, float("inf"), config.damping
    normal = rhs = torch.empty(0)
    for step in range(steps + 1):
        head.move(now)
        wider, more_wider = (max(1.0, times * _NARROWING**step) for times in (config.outline_width_start, _MORE_WIDTH_START))
        parts = [outline_residuals(head, outline, config, config.outline_width * wider)]
        if subject is not None:
            parts.append(normal_residuals(head, subject, config, rays_config))
        if lit is not None and step >= first_shaped:
            parts.append(shading_residuals(head, lit, shading, rays_config))
        if more is not None:
            parts.append(more(head, more_wider))
        other = wider > 1.0 or (more is not None and more_wider > 1.0) or (lit is not None and step == first_shaped)
        cost = sum(part.cost for part in parts) + float(now.code.square().sum()) + scale_weight * now.log_scale**2
        cost += float(np.square(_camera_deviations(now, cameras)).sum()) if cameras else 0.0
        lost = not len(parts[0].values)
        if lost and step == 0:
            raise InputError(
                f"{bank.name}: no camera looks at the head where it is taken to be. Check the cameras and, in views.json, units and "
                "head_from_world, which takes the cameras' world to the head frame; without it the place is estimated."
            )
        if not lost and (cost < lowest or other):  # costs of other widths or parts cannot be compared
            best, lowest, damping = now, cost, max(0.3 * damping, 1e-4)
            normal, rhs = _normal_equations(parts, now, scale_weight, cameras)
        else:
            damping *= 10.0
        if step < steps:
            damped = normal + torch.diag(damping * normal.diagonal())
            held = rhs.clone()
            if step < first_shaped:
                damped[shape] = 0.0
                damped[shape, shape] = 1.0
                held[shape] = 0.0
            now = _moved(best, -torch.linalg.solve(damped, held))
    return best


def _normal_equations(parts: list[Residuals], now: Start, scale_weight: float, cameras: CamerasConfig | None) -> tuple[Tensor, Tensor]:
    """Of pose, code and, where they are refined, the cameras (six each)."""
    shared = POSE + len(now.code)
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
    normal.diagonal()[POSE:shared] += 1.0
    rhs[POSE:shared] += now.code
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
    shared = POSE + len(start.code)
    small = _small(update[:POSE])
    cameras = start.cameras
    if cameras is not None:  # what moves all rays comes first, then their own camera's motion
        own = np.stack([_small(part) for part in update[shared:].reshape(-1, _CAMERA)])
        cameras = own @ small @ cameras @ np.linalg.inv(small)
    return Start(small @ start.head_from_world, start.code + update[POSE:shared].float(), start.log_scale + float(update[6]), cameras)


def _small(parameters: Tensor) -> Array:
    """The similarity of a translation, a rotation vector and, where there is a seventh parameter, a log scale."""
    p = parameters.double().cpu().numpy()
    return similarity(float(np.exp(p[6])) if len(p) > _CAMERA else 1.0, Rotation.from_rotvec(p[3:6]).as_matrix(), p[:3])

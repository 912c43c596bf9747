"""Derivatives of the start's residuals against finite differences, on a smooth egg: the grids of a prior have kinks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from avatar_kit.config import PRESETS, FieldConfig, ShadingConfig
from avatar_kit.conventions import rotation_of, rotation_xyz_deg, similarity
from avatar_kit.field.on_grid import sdf_on_grid
from avatar_kit.kernels.ray_search import search_grid
from avatar_kit.prior.storage import HeadPrior, untrained_prior
from avatar_kit.recon import shading
from avatar_kit.recon.posed_head import POSE, MovedRays, PosedHead, Start, hits_of_moved_rays
from avatar_kit.recon.rays import Rays, concatenate, rays_through
from avatar_kit.recon.residuals import Residuals, normal_residuals, outline_residuals
from avatar_kit.recon.start import _moved, _small
from avatar_kit.scene.cameras import orbit_camera

CPU = torch.device("cpu")
CONFIG = PRESETS["fast"]
WORLD_FROM_HEAD = similarity(200.0, rotation_xyz_deg(2.0, 8.0, -3.0), np.array([12.0, -9.0, 20.0]))
CODES = 4


@pytest.fixture(scope="module")
def egg() -> HeadPrior:
    """About a ball that fills the face, in shapes that a code tells apart."""
    middle, radius = torch.tensor([0.0, -0.12, 0.3]), 0.3
    field = untrained_prior(FieldConfig(levels=(), latent=8, softplus_beta=60.0), seed=3).field
    latents = 0.1 * torch.randn(CODES, 8, generator=torch.Generator().manual_seed(0))
    field.hidden[0].bias -= field.hidden[0].weight[:, :3] @ middle
    field.last.bias -= field((middle + torch.tensor([0.0, 0.0, radius]))[None], field.condition(latents.mean(0)[None]))
    return HeadPrior(field, latents, sdf_on_grid(field, latents.mean(0), 64), {"heads": []})


def seen_rays(photo: int, yaw_deg: float) -> Rays:
    """3000 rays of a camera 850 mm away, over the whole picture of the egg."""
    camera = orbit_camera(yaw_deg=yaw_deg, pitch_deg=5.0, distance=850.0, target=np.array([12.0, -9, 30]), focal_px=400.0, size=200)
    return rays_through(camera, np.random.default_rng(photo).uniform(20, 180, (3000, 2)), photo, CPU)


def on_the_face(head: PosedHead, rays: Rays) -> Rays:
    """Those that end there, away from its border, and do not graze it: others come and go as the head moves. With their true normals, and
    the colours of a matte surface under the light of a window, another one for each photo."""
    origins, directions, _ = head.rays(rays)
    found = search_grid(head.cache.values, origins, directions, coarse=64, fine=8)
    hits = hits_of_moved_rays(head, origins, directions, found.depth)[0]
    points = hits.points.detach()
    chosen = found.hit & shading.on_face(points - 0.04) & shading.on_face(points + 0.04) & (hits.slope < -0.5)
    window = torch.tensor([[0.2, 0.1, 0.15], [-0.1, 0.2, 0.1]])[rays.photo]
    normals = hits.normals.detach()
    linear = 0.5 + (window * normals).sum(-1)
    seen = normals @ torch.from_numpy(rotation_of(np.linalg.inv(WORLD_FROM_HEAD))).float()
    return replace(rays, colors=linear.pow(1 / 2.2)[:, None].expand(-1, 3), normals=seen)[chosen]


def along_the_outline(head: PosedHead, rays: Rays) -> Rays:
    """Those that pass the surface, or go into it, by less than 3 mm."""
    origins, directions, _ = head.rays(rays)
    return rays[search_grid(head.cache.values, origins, directions, coarse=96, fine=2).closest_value.abs() < 0.015]


def outline(head: PosedHead, rays: Rays) -> Residuals:
    return outline_residuals(head, rays, CONFIG.start, 0.05)


def normal(head: PosedHead, rays: Rays) -> Residuals:
    return normal_residuals(head, rays, CONFIG.start, CONFIG.rays)


def light(head: PosedHead, rays: Rays) -> Residuals:
    return shading.shading_residuals(head, rays, ShadingConfig(), CONFIG.rays)


@pytest.mark.parametrize("column", range(POSE + CODES - 1))  # four latents span three dimensions
@pytest.mark.parametrize("kind", [outline, normal, light])
def test_jacobian(egg: HeadPrior, kind: Callable[[PosedHead, Rays], Residuals], column: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By each parameter of pose and code, ray by ray; of the light while it stays as it is."""
    here = Start(np.linalg.inv(WORLD_FROM_HEAD), torch.tensor([0.5, -0.4, 0.3, 0.0]), 0.0)
    head = PosedHead(egg, 128, CPU)
    head.move(here)
    rays = concatenate([seen_rays(0, 0.0), seen_rays(1, 30.0)])
    rays = along_the_outline(head, rays) if kind is outline else on_the_face(head, rays)
    assert len(rays) > 200

    lights, turned, light_on = [], np.eye(3), shading.light_on

    def as_at_first(normals: torch.Tensor, *rest: object) -> shading.Light:
        """It stands in the world, whose axes were those of the head frame."""
        lights.append(light_on(normals @ torch.from_numpy(turned).to(normals), *rest))
        return lights[-1]._replace(coefficients=lights[0].coefficients)

    monkeypatch.setattr(shading, "light_on", as_at_first)
    monkeypatch.setattr(shading, "_beyond_light", lambda jacobian, light: jacobian)
    jacobian = kind(head, rays).jacobian[:, column]
    size = 0.01 if kind is outline else 1e-3  # closest points are looked for among samples
    update = torch.zeros(POSE + CODES, dtype=torch.float64)
    update[column] = size
    values = []
    for step in (update, -update):
        head.move(_moved(here, step))
        turned = rotation_of(_small(step[:POSE]))
        values.append(kind(head, rays).values)
    slope = (values[0] - values[1]) / (2 * size)
    assert jacobian.norm() > 0.05 * len(jacobian) ** 0.5
    assert (slope - jacobian).norm() < (0.2 if kind is outline else 0.01) * jacobian.norm()


def test_rays_that_move_stay_where_they_are_along_themselves(egg: HeadPrior) -> None:
    """Whatever moves them: else a change of size would look like metres of motion, whose effect kinks of the grids do not let cancel."""
    head = PosedHead(egg, 64, CPU)
    head.move(Start(np.linalg.inv(WORLD_FROM_HEAD), torch.zeros(CODES), 0.0))
    origins, directions, _ = head.rays(seen_rays(0, 20.0))
    moved = MovedRays(head, origins, directions, torch.full((3000,), 3.9))
    torch.testing.assert_close(moved.origins, origins, atol=1e-5, rtol=0)
    torch.testing.assert_close(moved.directions, directions)
    by_motion, _ = moved.derivatives((moved.origins * directions).sum(-1) + 0.0 * moved.condition.bias.sum(-1), origins)
    assert by_motion.abs().max() < 1e-5


def test_what_the_light_undoes_is_left_out() -> None:
    """Against the light that is solved for anew, where surfaces look all around, so that it is certain."""
    generator = torch.Generator().manual_seed(0)
    normals = torch.nn.functional.normalize(torch.randn(400, 3, generator=generator), dim=-1)
    bend = torch.cross(torch.randn(400, 3, generator=generator), normals, dim=-1)
    photo = torch.arange(400) % 2
    window = torch.tensor([[0.2, 0.1, 0.15], [-0.1, 0.2, 0.1]])[photo]
    colors = (0.5 + (window * normals).sum(-1)).pow(1 / 2.2)[:, None].expand(-1, 3)

    def off(size: float) -> shading.Light:
        return shading.light_on(torch.nn.functional.normalize(normals + size * bend, dim=-1), colors, photo, 100.0)

    size = torch.zeros(400, requires_grad=True)
    bent = shading.light_on(torch.nn.functional.normalize(normals + size[:, None] * bend, dim=-1), colors, photo, 100.0)
    (alone,) = torch.autograd.grad(bent.off.sum(), size)
    found = shading._beyond_light(alone[:, None], bent)[:, 0]
    slope = (off(1e-3).off - off(-1e-3).off) / 2e-3
    assert (slope - alone).norm() > 0.1 * slope.norm()  # it undoes something
    assert (slope - found).norm() < 0.02 * slope.norm()

"""The face stays where the start found it, whatever stands out before it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatar_kit.config import PRESETS, MeshConfig, override
from avatar_kit.kernels.ray_search import Crossings
from avatar_kit.mesh.extraction import extract
from avatar_kit.prior.storage import load_prior
from avatar_kit.recon.anchor import FaceAnchor
from avatar_kit.recon.fit import fit
from avatar_kit.recon.pose import HeadPose
from avatar_kit.recon.posed_head import Start
from avatar_kit.recon.rays import RayBank
from avatar_kit.render.renderer import Renderer
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.types import Photo, Scene

CPU = torch.device("cpu")


@pytest.fixture
def anchor() -> FaceAnchor:
    """Of a ball of radius 0.6 around the origin."""
    axis = torch.linspace(-1, 1, 33)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    return FaceAnchor(torch.sqrt(x**2 + y**2 + z**2) - 0.6)


def test_only_what_lies_before_the_upper_face_is_another_things(anchor: FaceAnchor) -> None:
    forwards, up, back = torch.tensor([0.0, 0.15, 1.0]), torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, -1.0])
    forwards = forwards / forwards.norm()
    points = torch.stack([0.605 * forwards, 0.65 * forwards, 0.4 * forwards, 0.65 * up, 0.65 * back, torch.tensor([0.0, -0.35, 0.6])])
    assert anchor.has_before_it(points).tolist() == [False, True, False, False, False, False]


def test_rays_through_the_lips_miss_and_pull_them_shut(anchor: FaceAnchor) -> None:
    """Towards the mouth: a usual hit, one 1 mm behind, one 5 mm behind; at the forehead 5 mm behind."""
    mouth, forehead = torch.tensor([0.0, -0.17, 0.0]), torch.tensor([0.0, 0.3, 0.0])
    origins = torch.stack([mouth, mouth, mouth, forehead]) + torch.tensor([0.0, 0.0, 2.0])
    directions = torch.tensor([0.0, 0.0, -1.0]).repeat(4, 1)
    on_ball = 2.0 - torch.sqrt(0.36 - origins[:, 1] ** 2)
    depth = on_ball + torch.tensor([0.0, 0.005, 0.025, 0.025])
    through = anchor.through_lips(origins + depth[:, None] * directions)
    assert through.tolist() == [False, False, True, False]
    crossings = Crossings(depth, depth.clone(), torch.full((4,), -0.3))
    found = anchor.with_closed_lips(crossings, through.nonzero()[:, 0], origins, directions)
    assert found.hit.tolist() == [True, True, False, True]
    assert found.closest_depth[2].item() == pytest.approx(on_ball[2].item(), abs=3e-3)
    assert found.closest_value.tolist() == pytest.approx([-0.3, -0.3, 0.0, -0.3])
    assert torch.isfinite(depth[2])  # what was given is not changed
    away = anchor.with_closed_lips(crossings, torch.tensor([2]), origins + torch.tensor([0.0, 2.0, 0.0]), directions)
    assert torch.isinf(away.closest_value[2])  # no lips on its way: it has no say


def test_lips_are_followed_little_by_little() -> None:
    """A ball that shrinks by 5 mm at once was opened; one that takes its time was moved."""
    axis = torch.linspace(-1, 1, 33)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    ball = torch.sqrt(x**2 + y**2 + z**2) - 0.6
    lips = torch.tensor([[0.0, -0.17, 0.55]])
    on_shrunk = 0.575 * lips / lips.norm()
    anchor = FaceAnchor(ball)
    anchor.follow(ball + 0.025)
    assert anchor.through_lips(on_shrunk).item()
    for shrunk in torch.linspace(0.002, 0.025, 12):
        anchor.follow(ball + shrunk)
    assert not anchor.through_lips(on_shrunk).item()


def test_a_pose_is_free_within_reach_and_pulled_back_beyond(anchor: FaceAnchor) -> None:
    pose = HeadPose(np.eye(4), CPU)
    loss = anchor.pose_loss(pose)
    loss.backward()
    assert loss == 0
    assert pose.translation.grad is not None
    assert torch.isfinite(pose.translation.grad).all()
    for shift, expected in ((0.014, 0.0), (0.035, 1000.0 * 0.02**2)):
        with torch.no_grad():
            pose.translation.copy_(torch.tensor([0.0, shift, 0.0]))
        pose.translation.grad = None
        loss = anchor.pose_loss(pose)
        loss.backward()
        assert loss.item() == pytest.approx(expected, abs=1e-6)
        assert pose.translation.grad is not None
        assert (pose.translation.grad[1] > 0) == (expected > 0)


def test_a_hood_does_not_pull_the_nose_out() -> None:
    """Photos of the mean head; from the sides the mask reaches further forward than the nose."""
    prior = load_prior()
    renderer = Renderer(extract(prior.field, prior.mean_latent, MeshConfig(resolution=96)))
    photos = []
    for number, yaw in enumerate((0.0, 50.0, -50.0)):
        camera = orbit_camera(yaw_deg=yaw, pitch_deg=0.0, distance=4.5, target=np.array([0.0, 0.1, 0.0]), focal_px=200.0, size=128)
        seen = renderer.render(camera)
        mask = seen.mask.copy()
        for by in range(1, 9):  # 36 mm
            mask[30:75] |= np.roll(seen.mask, -by if yaw > 0 else by, axis=1)[30:75] & (yaw != 0)
        photos.append(Photo(np.full((128, 128, 3), 0.5, np.float32), mask, camera, seen.normals.astype(np.float32), f"{number}.png"))
    bank = RayBank(Scene(tuple(photos), (0, 1, 2), "hood", np.eye(4), mm_per_world_unit=200.0), 128, CPU, located=True)
    config = override(PRESETS["fast"], ["fit.steps=40", "rays.per_step=800", "fit.color_weight=0"])
    start = Start(np.eye(4), torch.zeros(prior.latent_basis.shape[1]), 0.0)

    def nose_mm(*settings: str) -> float:
        """How far the surface has come forward at the nose."""
        fitted = fit(bank, prior, override(config, settings), start, torch.Generator().manual_seed(0))
        z = torch.linspace(0.4, 0.95, 600)
        line = torch.stack([torch.zeros(600), torch.zeros(600), z], dim=-1)
        with torch.no_grad():
            fields = [(prior.field, prior.mean_latent), (fitted.field, fitted.latent)]
            before, after = (float(z[field(line, field.condition(g[None])) < 0].max()) for field, g in fields)
        return 200.0 * (after - before)

    assert nose_mm() < 4.0
    assert nose_mm("start.steps=0") > 8.0  # a start that was not solved holds nothing: the picture does pull

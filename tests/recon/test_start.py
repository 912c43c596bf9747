"""The second-order start: a head of the prior found again from its outlines and normals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from avatar_kit import load_prior
from avatar_kit.config import PRESETS, MeshConfig, RaysConfig, StartConfig
from avatar_kit.conventions import rotation_of, rotation_xyz_deg, scale_of, similarity, transform_points
from avatar_kit.field.on_grid import sdf_on_grid
from avatar_kit.mesh.extraction import extract
from avatar_kit.recon import start
from avatar_kit.recon.align import place
from avatar_kit.recon.pose import HeadPose
from avatar_kit.recon.posed_head import PosedHead, Start
from avatar_kit.recon.rays import RayBank, Rays
from avatar_kit.recon.residuals import Residuals, normal_residuals
from avatar_kit.recon.start import _moved, _small, solve_start
from avatar_kit.recon.surface import FieldCache
from avatar_kit.render.renderer import Renderer
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.types import InputError, Photo, Scene

CPU = torch.device("cpu")
WORLD_FROM_HEAD = similarity(200.0, rotation_xyz_deg(2.0, 8.0, -3.0), np.array([12.0, -9.0, 20.0]))
CONFIG = PRESETS["fast"]


@pytest.fixture(scope="module")
def code() -> torch.Tensor:
    """Of a head within the prior, not its mean."""
    code = torch.zeros(load_prior().latent_basis.shape[1])
    code[:6] = torch.tensor([0.8, -0.6, 0.7, 0.5, -0.9, 0.6])
    return code


@pytest.fixture(scope="module")
def bank(code: torch.Tensor) -> RayBank:
    """Three photos of that head, in a world whose pose against it is known."""
    prior = load_prior()
    whole = MeshConfig(resolution=128, sliver_depth=0, cut_handles=False)  # the field's own surface
    head = extract(prior.field, prior.mean_latent + prior.latent_basis @ code, whole)
    renderer = Renderer(dataclasses.replace(head, vertices=transform_points(WORLD_FROM_HEAD, head.vertices)))
    photos = []
    for i, yaw in enumerate((0.0, 45.0, -45.0)):
        camera = orbit_camera(yaw_deg=yaw, pitch_deg=0.0, distance=850.0, target=np.array([12.0, -9, 30]), focal_px=320.0, size=160)
        seen = renderer.render(camera)
        photos.append(Photo(np.zeros((160, 160, 3), np.float32), seen.mask, camera, seen.normals.astype(np.float32), f"{i}.png"))
    return RayBank(Scene(tuple(photos), (0, 1, 2), "prior"), 160, CPU)


def test_basis_spans_the_latents() -> None:
    prior = load_prior()
    centred = prior.latents - prior.mean_latent
    torch.testing.assert_close(prior.latent_basis @ prior.latent_basis.T, centred.T @ centred / len(centred), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("with_normals", [True, False])
def test_a_head_of_the_prior_is_found_again(bank: RayBank, code: torch.Tensor, with_normals: bool) -> None:
    """From 8 mm, 6 degrees and 2 % away. Outlines alone leave some shape open, so they are held to less."""
    prior = load_prior()
    off = similarity(1.02, rotation_xyz_deg(-3.0, 5.0, 2.0), np.array([0.02, -0.03, 0.015]))
    saved, bank.has_normals = bank.has_normals, with_normals
    try:
        found = solve_start(bank, prior, off @ np.linalg.inv(WORLD_FROM_HEAD), CONFIG.start, CONFIG.rays)
        again = solve_start(bank, prior, off @ np.linalg.inv(WORLD_FROM_HEAD), CONFIG.start, CONFIG.rays)
    finally:
        bank.has_normals = saved
    between = found.head_from_world @ WORLD_FROM_HEAD
    turn = np.degrees(np.arccos(np.clip((np.trace(rotation_of(between)) - 1) / 2, -1, 1)))
    assert turn < (1.0 if with_normals else 2.5)
    assert scale_of(between) == pytest.approx(1.0, abs=1.5 * CONFIG.start.scale_std)  # photos leave size and shape to trade
    truth = extract(prior.field, prior.mean_latent + prior.latent_basis @ code, MeshConfig(resolution=64)).vertices
    face = truth[(truth[:, 2] > 0.3) & (np.abs(truth[:, 1]) < 0.4)]

    def error_mm(code: torch.Tensor, pose: np.ndarray) -> float:
        points = torch.from_numpy(transform_points(pose, face).astype(np.float32))
        return float(prior.field(points, prior.field.condition((prior.mean_latent + prior.latent_basis @ code)[None])).abs().mean()) * 200

    assert error_mm(found.code, between) < (0.3 if with_normals else 0.5) * error_mm(torch.zeros_like(code), off)
    np.testing.assert_array_equal(found.head_from_world, again.head_from_world)  # no chance in it


def test_normals_of_several_photos_and_those_that_are_not_sure_count_for_less(bank: RayBank, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []

    def recorded(head: PosedHead, rays: Rays, config: StartConfig, rays_config: RaysConfig) -> Residuals:
        counts.append(config.normal_count)
        return normal_residuals(head, rays, config, rays_config)

    monkeypatch.setattr(start, "normal_residuals", recorded)
    for trust in (1.0, 0.1):
        monkeypatch.setattr(bank, "trust", trust)
        solve_start(bank, load_prior(), np.linalg.inv(WORLD_FROM_HEAD), dataclasses.replace(CONFIG.start, steps=0), CONFIG.rays)
    assert counts == pytest.approx([CONFIG.start.normal_count / 3, CONFIG.start.normal_count / 3 * 0.1**0.6])


def test_the_cached_field_is_that_of_the_code_whatever_moved(code: torch.Tensor) -> None:
    prior = load_prior()
    head = PosedHead(prior, CONFIG.rays.cache_resolution, CPU)
    head.move(Start(WORLD_FROM_HEAD, torch.zeros_like(code), 0.0))
    torch.testing.assert_close(head.cache.values, prior.mean_sdf, rtol=0, atol=0)
    head.move(Start(np.eye(4), code, 0.0))
    exact = sdf_on_grid(prior.field, prior.mean_latent + prior.latent_basis @ code, CONFIG.rays.cache_resolution)
    near = exact.abs() < 0.03
    torch.testing.assert_close(head.cache.values[near], exact[near], rtol=0, atol=1e-5)


def test_the_cached_field_follows_a_surface_wherever_it_goes() -> None:
    """A ball that grows, or shrinks, by a tenth of a unit at once, which is more than the band that is looked at first."""

    class Ball(torch.nn.Module):
        radius = 0.4

        def condition(self, latents: torch.Tensor) -> torch.Tensor:
            return latents

        def forward(self, points: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
            return points.norm(dim=-1) - self.radius

    ball = Ball()
    cache = FieldCache(ball, torch.zeros(1), 64)  # type: ignore[arg-type]
    axis = torch.linspace(-1, 1, 65)
    away = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0)
    for radius in (0.5, 0.6, 0.5, 0.4):
        ball.radius = radius
        cache.refresh(torch.zeros(1))
        near = (away - radius).abs() < 0.05
        torch.testing.assert_close(cache.values[near], (away - radius)[near])


def test_cameras_that_are_off_are_put_right(bank: RayBank, code: torch.Tensor) -> None:
    """Each by some 2 degrees and 12 mm at the head; their common motion is the head's pose, so angles between cameras are judged."""
    prior, config = load_prior(), dataclasses.replace(CONFIG.cameras, refine=True)
    truth = np.linalg.inv(WORLD_FROM_HEAD)
    turns = ([0.0, 2.0, 0.0], [1.5, -1.5, 0.0], [-1.0, 0.0, 2.0])
    shifts = ([0.05, 0.0, 0.02], [0.0, -0.05, 0.0], [-0.05, 0.03, 0.0])
    off = np.stack([similarity(1.0, rotation_xyz_deg(*turn), np.array(shift)) for turn, shift in zip(turns, shifts, strict=True)])
    right, wrong = bank.rays, HeadPose(truth, CPU, off)
    borders = bank._borders

    def put(rays: Rays) -> Rays:
        with torch.no_grad():
            o, d, n = wrong.rays(rays)
            o, d, n = HeadPose(WORLD_FROM_HEAD, CPU).rays(dataclasses.replace(rays, origins=o, directions=d, normals=n))
        return dataclasses.replace(rays, origins=o, directions=d, normals=n)

    bank.rays, bank._borders = put(right), [put(part) for part in borders]
    try:
        found = solve_start(bank, prior, truth, CONFIG.start, CONFIG.rays, config)
        without = solve_start(bank, prior, truth, CONFIG.start, CONFIG.rays)
    finally:
        bank.rays, bank._borders = right, borders
    assert without.cameras is None
    assert found.cameras is not None

    def angles_deg(motions: np.ndarray) -> np.ndarray:
        """How far the motions of two cameras differ, for each pair."""
        pairs = [motions[i][:3, :3].T @ motions[j][:3, :3] for i, j in ((0, 1), (0, 2), (1, 2))]
        return np.degrees([np.arccos(np.clip((np.trace(pair) - 1) / 2, -1, 1)) for pair in pairs])

    before, after = angles_deg(off), angles_deg(found.cameras @ off)
    assert before.mean() > 2.5
    assert after.mean() < 0.35 * before.mean()


def test_outline_rays_run_between_inside_and_outside(bank: RayBank) -> None:
    photo_rays = bank.outline(10**6)
    some = bank.outline(100)
    assert 80 <= len(some) <= 100
    assert len(photo_rays) > 500
    torch.testing.assert_close(bank.outline(100).directions, some.directions)
    torch.testing.assert_close(some.directions.norm(dim=-1), torch.ones(len(some)))


def test_subject_rays_have_normals(bank: RayBank) -> None:
    rays = bank.subject(500)
    assert rays.inside.all()
    torch.testing.assert_close(rays.normals.norm(dim=-1), torch.ones(len(rays)), atol=1e-3, rtol=0)


def test_a_head_that_no_camera_sees_and_masks_without_an_outline_are_refused(bank: RayBank) -> None:
    for beside in (similarity(1.0, np.eye(3), np.array([50.0, 0, 0])), similarity(200.0, np.eye(3), np.zeros(3))):  # and the wrong unit
        with pytest.raises(InputError, match=r"prior: no camera looks at the head.*head_from_world"):
            solve_start(bank, load_prior(), beside @ np.linalg.inv(WORLD_FROM_HEAD), CONFIG.start, CONFIG.rays)
    camera = orbit_camera(yaw_deg=0, pitch_deg=0, distance=850.0, target=np.zeros(3), focal_px=320.0, size=64)
    mask = np.ones((64, 64), bool)
    mask[0, 0] = False  # gone when the photo is shrunk
    photo = Photo(np.zeros((64, 64, 3), np.float32), mask, camera)
    white = RayBank(Scene((photo,), (0,), "white"), 16, CPU)
    with pytest.raises(InputError, match="white: the masks have no outline"):
        solve_start(white, load_prior(), np.linalg.inv(WORLD_FROM_HEAD), CONFIG.start, CONFIG.rays)


def test_coordinates_that_no_pose_explains_do_not_narrow_the_outline() -> None:
    """Of the mean head, whose silhouettes place it: coordinates were predicted, but they are nonsense."""
    prior = load_prior()
    renderer = Renderer(extract(prior.field, prior.mean_latent, MeshConfig(resolution=48)))
    camera = orbit_camera(yaw_deg=0.0, pitch_deg=0.0, distance=4.5, target=np.zeros(3), focal_px=200.0, size=96)
    seen = renderer.render(camera)
    nonsense = np.random.default_rng(0).uniform(-0.6, 0.6, (96, 96, 3)).astype(np.float32) * seen.mask[..., None]
    photo = Photo(np.zeros((96, 96, 3), np.float32), seen.mask, camera, seen.normals.astype(np.float32), coordinates=nonsense)
    scene = Scene((photo,), (0,), "nonsense", mm_per_world_unit=200.0)
    placed = place(scene, prior.mean_sdf)
    assert not placed.located
    assert not RayBank(scene, 32, CPU, located=placed.located).located
    assert RayBank(scene, 32, CPU).located  # by default, where coordinates are
    stated = place(dataclasses.replace(scene, head_from_world=np.eye(4)), prior.mean_sdf)  # as of plain photos
    assert stated.located


def test_a_cameras_motion_comes_after_the_heads_and_keeps_it_rigid() -> None:
    """Rays of photo i go through camera_i @ head_from_world: an update moves all of them, and then its own camera."""
    generator = np.random.default_rng(3)
    cameras = np.stack([_small(torch.from_numpy(generator.normal(0, 0.05, 6))) for _ in range(2)])
    update = torch.from_numpy(generator.normal(0, 0.05, 7 + 4 + 12))
    before = Start(np.linalg.inv(WORLD_FROM_HEAD), torch.zeros(4), 0.0, cameras)
    after = _moved(before, update)
    shared = _small(update[:7])
    assert after.cameras is not None
    for number, camera in enumerate(after.cameras):
        own = _small(update[11 + 6 * number : 17 + 6 * number])
        np.testing.assert_allclose(camera @ after.head_from_world, own @ shared @ cameras[number] @ before.head_from_world, atol=1e-9)
        np.testing.assert_allclose(camera[:3, :3] @ camera[:3, :3].T, np.eye(3), atol=1e-9)

"""Points that two photos share: derivatives against finite differences, and cameras that a painted head puts right."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from avatar_kit import load_prior
from avatar_kit.config import PLAIN_PRESETS, MeshConfig
from avatar_kit.conventions import MM_PER_UNIT, rotation_of, similarity
from avatar_kit.kernels.ray_search import search_grid
from avatar_kit.mesh.extraction import extract
from avatar_kit.normals.evaluate import angle_between_deg
from avatar_kit.recon.matches import match_residuals, shared_points, tied_start
from avatar_kit.recon.posed_head import PosedHead, Start, hits_of_moved_rays
from avatar_kit.recon.rays import RayBank, Rays, rays_through
from avatar_kit.recon.residuals import Residuals
from avatar_kit.recon.start import _moved, solve_start
from avatar_kit.render.renderer import Renderer
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.types import Array, Camera, Photo, Scene

CPU = torch.device("cpu")
FAST = PLAIN_PRESETS["fast"]
CONFIG = dataclasses.replace(
    FAST, start=dataclasses.replace(FAST.start, outline_count=3.0, outline_count_normals=3.0)
)  # they say little here
HEAD_FROM_WORLD = similarity(1 / MM_PER_UNIT, np.eye(3), np.zeros(3))
YAWS = (0.0, 45.0, -40.0)
MISTAKES_DEG = ([0.0, 0.0, 0.0], [1.0, 7.0, -1.0], [-2.0, -6.0, 1.0])  # rotation vectors: heads taken to be turned further than they are


def true_camera(yaw: float) -> Camera:
    target = np.array([0.0, 0.0, 40.0])
    return orbit_camera(yaw_deg=yaw, pitch_deg=3.0, distance=900.0, target=target, focal_px=420.0, size=224)


def paint(points: Array, seed: int) -> Array:
    """Spots (..., 3) that are nowhere alike, the same from all sides; `points` in units."""
    rng = np.random.default_rng(seed)
    waves = np.sin(points @ rng.normal(0, 28, (3, 24)) + rng.uniform(0, 6, 24))
    return np.clip(0.5 + 0.12 * (waves @ rng.normal(0, 1, (24, 3))), 0, 1)


def code() -> torch.Tensor:
    """Of a head within the prior, not its mean."""
    code = torch.zeros(load_prior().latent_basis.shape[1])
    code[:6] = torch.tensor([0.8, -0.6, 0.7, 0.5, -0.9, 0.6])
    return code


def photograph(*, painted: bool, paints: tuple[int, int, int] = (5, 5, 5)) -> Scene:
    """Of that head, in millimetres, with cameras that are stated wrongly; painted and in lights that differ, or all of one grey."""
    prior = load_prior()
    head = extract(prior.field, prior.mean_latent + prior.latent_basis @ code(), MeshConfig(resolution=128, sliver_depth=0))
    renderer, photos = Renderer(head.transformed(np.linalg.inv(HEAD_FROM_WORLD))), []
    for number, (yaw, mistake) in enumerate(zip(YAWS, MISTAKES_DEG, strict=True)):
        camera = true_camera(yaw)
        seen = renderer.render(camera)
        light = np.array([0.3 - 0.3 * number, -0.4, -0.8])
        shade = (0.4 + 0.6 * np.clip(seen.normals @ light, 0, None))[..., None]
        surface = shade * paint(seen.points / MM_PER_UNIT, paints[number]) if painted else np.full(3, 0.6)
        image = np.where(seen.mask[..., None], surface, 1.0).astype(np.float32)
        turn = similarity(1.0, Rotation.from_rotvec(mistake, degrees=True).as_matrix(), np.zeros(3))
        stated = dataclasses.replace(camera, world_from_camera=turn @ camera.world_from_camera)
        photos.append(Photo(image, seen.mask, stated, name=f"{number}"))
    return Scene(tuple(photos), (0, 1, 2), "painted", HEAD_FROM_WORLD)


def off_deg(start: Start, scene: Scene) -> Array:
    """Of the rotation between the first photo's camera and each other."""
    assert start.cameras is not None
    head = rotation_of(start.head_from_world)
    found = [m[:3, :3] @ head @ photo.camera.world_from_camera[:3, :3] for m, photo in zip(start.cameras, scene.photos, strict=True)]
    true = [true_camera(yaw).world_from_camera[:3, :3] for yaw in YAWS]
    return np.array([angle_between_deg(found[0].T @ found[k], true[0].T @ true[k]) for k in (1, 2)])


def starts(scene: Scene) -> tuple[Start, Start]:
    """Without what photos share, and with it."""
    prior, bank = load_prior(), RayBank(scene, CONFIG.fit.image_size, CPU, located=True)
    start = solve_start(bank, prior, HEAD_FROM_WORLD, CONFIG.start, CONFIG.rays, CONFIG.cameras)
    return start, tied_start(scene, bank, prior, HEAD_FROM_WORLD, CONFIG)


def test_a_painted_head_puts_cameras_right_that_outlines_leave_wrong() -> None:
    scene = photograph(painted=True)
    before, after = starts(scene)
    assert off_deg(before, scene).mean() > 2.5
    assert off_deg(after, scene).mean() < 1.0
    assert after.shared is not None
    assert after.shared > 0.6


def test_photos_of_other_paint_bring_nothing_together() -> None:
    _, after = starts(photograph(painted=True, paints=(5, 6, 7)))
    assert after.shared is None or after.shared < 0.25


def test_photos_that_share_nothing_have_their_cameras_moved_by_outlines() -> None:
    scene = photograph(painted=False)
    before, after = starts(scene)
    assert after.shared is None
    np.testing.assert_allclose(off_deg(after, scene), off_deg(before, scene), atol=0.5)


def test_cameras_that_are_not_to_be_refined_stay_and_none_are_tied_without_steps() -> None:
    scene, prior = photograph(painted=True), load_prior()
    bank = RayBank(scene, CONFIG.fit.image_size, CPU, located=True)

    def start(**settings: Any) -> Start:
        config = dataclasses.replace(CONFIG, cameras=dataclasses.replace(CONFIG.cameras, **settings))
        return tied_start(scene, bank, prior, HEAD_FROM_WORLD, config)

    assert start(refine=False).cameras is None
    untied = start(match_steps=0)
    assert untied.shared is None
    assert off_deg(untied, scene).mean() > 2.5


def test_matches_are_on_both_rays_of_the_true_cameras() -> None:
    """From a start whose cameras are degrees off: most of what is found is the same spot, to a pixel."""
    scene, prior = photograph(painted=True), load_prior()
    start = starts(scene)[0]
    shared = shared_points(scene, PosedHead(prior, 64, CPU, code=start.code), start, CONFIG.rays)
    assert shared is not None
    first, second = shared
    assert len(first) == len(second) > 60
    right = [
        true_camera(yaw).world_from_camera @ np.linalg.inv(p.camera.world_from_camera) for yaw, p in zip(YAWS, scene.photos, strict=True)
    ]

    def true_rays(rays: Rays) -> tuple[Array, Array]:
        turn = np.stack(right)[rays.photo.numpy()]
        origins = np.einsum("nij,nj->ni", turn[:, :3, :3], rays.origins.double().numpy()) + turn[:, :3, 3]
        return origins, np.einsum("nij,nj->ni", turn[:, :3, :3], rays.directions.double().numpy())

    (o, v), (p, w) = true_rays(first), true_rays(second)
    across = np.cross(v, w)
    apart = np.abs(((p - o) * across).sum(1)) / np.linalg.norm(across, axis=1)  # of two lines, mm
    assert np.median(apart) < 1.0
    assert np.mean(apart < 4.0) > 0.8


@pytest.mark.parametrize("column", [0, 1, 2, 3, 4, 5, 6, 7, 12])
def test_derivatives_against_finite_differences(column: int) -> None:
    """By pose and code, and by each camera's own motion, of rays that meet on the head: elsewhere the axes' own turn would show."""
    prior, scene = load_prior(), photograph(painted=False)
    here = Start(HEAD_FROM_WORLD, code(), 0.0, np.tile(np.eye(4), (3, 1, 1)))
    head = PosedHead(prior, 64, CPU, code=here.code)
    cameras = [photo.camera for photo in scene.photos]
    first = rays_through(cameras[0], np.random.default_rng(0).uniform((85, 80), (135, 140), (80, 2)), 0, CPU)
    head.move(here)
    origins, directions, _ = head.rays(first)
    found = search_grid(head.cache.values, origins, directions, coarse=64, fine=8)
    hits, _ = hits_of_moved_rays(head, origins, directions, found.depth)
    second = rays_through(cameras[1], cameras[1].project(hits.points.detach().double().numpy() * MM_PER_UNIT)[0], 1, CPU)

    def residuals(start: Start) -> Residuals:
        head = PosedHead(prior, 64, CPU, code=start.code)
        head.move(start)
        return match_residuals(first, second, CONFIG.cameras, CONFIG.rays, head, 100.0)

    now = residuals(here)
    assert len(now.values) == 2 * len(first)  # all hit
    assert now.values.abs().max() < 1e-4
    kinds = {"pose": (column, now.jacobian[:, column])}
    if column < 6:
        shared = 7 + len(here.code)
        for camera, by in enumerate(now.by_rays):
            kinds[f"camera {camera}"] = (shared + 6 * camera + column, by.by_motion[:, column])
    for name, (at, expected) in kinds.items():
        update = torch.zeros(7 + len(here.code) + 18, dtype=torch.float64)
        update[at] = 0.01 if 7 <= at < 7 + len(here.code) else 3e-4
        ahead, behind = residuals(_moved(here, update)), residuals(_moved(here, -update))
        slope = (ahead.values - behind.values) / (2 * float(update[at]))
        assert (slope - expected).abs().median() < 0.1 * expected.abs().mean(), name

"""Spots: where two rays meet, which do not, what they pull at, and that photos of a painted head find its surface."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from recon.test_head_mesh import Ball
from recon.test_matches import HEAD_FROM_WORLD, YAWS, paint, true_camera

from avatar_kit import load_prior
from avatar_kit.config import Config, MeshConfig, SpotsConfig
from avatar_kit.conventions import MM_PER_UNIT, transform_points
from avatar_kit.kernels.mesh_queries import MeshQueries
from avatar_kit.mesh.extraction import extract
from avatar_kit.recon.matches import tied_start
from avatar_kit.recon.pose import HeadPose
from avatar_kit.recon.rays import RayBank, Rays
from avatar_kit.recon.spots import spots_loss, spots_of
from avatar_kit.render.renderer import Renderer
from avatar_kit.types import Array, Photo, Scene

CPU = torch.device("cpu")
GENERATOR = torch.Generator().manual_seed(0)


def rays_from(eye: Array, points: Array) -> Rays:
    towards = points - eye
    directions = torch.from_numpy((towards / np.linalg.norm(towards, axis=1, keepdims=True)).astype(np.float32))
    nothing = torch.zeros(len(points), 3)
    origins = torch.from_numpy(np.broadcast_to(eye, points.shape).astype(np.float32))
    return Rays(origins, directions, nothing[:, 0] > 0, nothing, nothing, nothing[:, 0], torch.zeros(len(points), dtype=torch.int64))


def test_rays_begin_where_they_meet_and_others_are_left_out() -> None:
    unit = 100.0  # of the head frame, in this world's
    points = np.random.default_rng(0).uniform(-30, 30, (50, 3))
    left, right, beside_left = np.array([-100.0, 0, 500]), np.array([150.0, 20, 450]), np.array([-101.0, 0, 500])
    found = spots_of(rays_from(left, points), rays_from(right, points), unit=unit)
    assert found is not None
    np.testing.assert_allclose(found.origins, points, atol=0.05)
    missed = points + np.where(np.arange(50) % 2, 5.0, 0.0)[:, None] * (0, 1, 0)  # every other one by 5, which is 0.05 units
    found = spots_of(rays_from(left, points), rays_from(right, missed), unit=unit)
    assert found is not None
    np.testing.assert_allclose(found.origins, points[::2], atol=0.05)
    assert spots_of(rays_from(left, points), rays_from(beside_left, points), unit=unit) is None  # nearly the same ray
    assert spots_of(rays_from(left, points), rays_from(right, 2 * right - points), unit=unit) is None  # they meet behind a camera


def test_far_spots_pull_and_near_ones_do_not() -> None:
    field, config = Ball(0.5), SpotsConfig(near=0.03, per_step=100)
    condition, pose = field.condition(torch.zeros(1, 1)), HeadPose(np.eye(4), CPU)
    eye = np.array([0.0, 0.0, 5.0])

    def loss(*radii: float) -> float:
        points = np.array([[0.0, radius, 0.0] for radius in radii])
        spots = dataclasses.replace(rays_from(eye, points), origins=torch.from_numpy(points.astype(np.float32)))
        return float(spots_loss(field, condition, pose, spots, config, 10, GENERATOR))

    assert loss(0.52, 0.48) == 0.0
    assert loss(0.6, 0.4) == pytest.approx(2 * 0.07 / 10, rel=1e-4)
    assert loss(0.9) == loss(0.8) == pytest.approx(0.2 / 10, rel=1e-4)  # no further pulls harder


def test_photos_of_a_painted_head_with_a_shoulder_of_its_own_have_spots_on_it() -> None:
    prior, config = load_prior(), Config()
    head = extract(prior.field, prior.mean_latent, MeshConfig(resolution=128, sliver_depth=0))
    low = np.clip((-0.5 - head.vertices[:, 1]) / 0.2, 0, 1)  # below the chin 16 mm further forward than any head of the prior
    mesh = dataclasses.replace(head, vertices=head.vertices + low[:, None] * (0, 0, 0.08))
    renderer, photos = Renderer(mesh.transformed(np.linalg.inv(HEAD_FROM_WORLD))), []
    for yaw in YAWS:
        camera = true_camera(yaw)
        seen = renderer.render(camera)
        image = np.where(seen.mask[..., None], paint(seen.points / MM_PER_UNIT, 5), 1.0).astype(np.float32)
        photos.append(Photo(image, seen.mask, camera, name=f"{yaw}"))
    scene = Scene(tuple(photos), (0, 1, 2), "painted", HEAD_FROM_WORLD)
    start = tied_start(scene, RayBank(scene, 256, CPU, located=True), prior, HEAD_FROM_WORLD, config)
    assert start.cameras is None
    assert start.spots is not None
    points = transform_points(HEAD_FROM_WORLD, start.spots.origins.double().numpy())
    on_shoulders = points[points[:, 1] < -0.7]
    assert len(on_shoulders) > 20
    off = MeshQueries(mesh).closest(torch.from_numpy(on_shoulders)).distance.abs().numpy() * MM_PER_UNIT
    assert np.median(off) < 1.5
    freed = dataclasses.replace(config, cameras=dataclasses.replace(config.cameras, refine=True))  # whose rays are not to be believed
    for without in (dataclasses.replace(config, spots=SpotsConfig(weight=0.0)), freed):
        assert tied_start(scene, RayBank(scene, 256, CPU, located=True), prior, HEAD_FROM_WORLD, without).spots is None

"""The visual hull: distances in closed form, lumps that are cut off, and a photo that is not believed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from recon.test_head_mesh import Ball

from avatar_kit.config import Config, MeshConfig, TextureConfig
from avatar_kit.conventions import similarity
from avatar_kit.field.radiance import RadianceField
from avatar_kit.recon.fit import FittedHead
from avatar_kit.recon.hull import beyond_outlines
from avatar_kit.recon.meshing import head_meshes
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.score.protocols import is_watertight
from avatar_kit.types import Array, Mesh, Photo, Scene

RADIUS, DISTANCE, FOCAL, SIZE = 0.5, 40.0, 2000.0, 128  # far away: rays are nearly parallel, a pixel is 0.02 wide
PIXEL = DISTANCE / FOCAL


def disc_photo(yaw: float, *, radius: float = RADIUS) -> Photo:
    """Of a ball about the origin."""
    camera = orbit_camera(yaw_deg=yaw, pitch_deg=0, distance=DISTANCE, target=np.zeros(3), focal_px=FOCAL, size=SIZE)
    mask = np.linalg.norm(camera.pixel_grid() - SIZE / 2, axis=-1) * PIXEL < radius
    return Photo(np.zeros((SIZE, SIZE, 3), np.float32), mask, camera)


def scene_of(*photos: Photo) -> Scene:
    return Scene(photos, tuple(range(len(photos))), "ball")


def test_distances_are_those_to_the_cylinders_of_the_outlines() -> None:
    world_from_head = similarity(3.0, np.eye(3), np.array([0.1, 0.2, -0.1]))
    photos = [replace(photo, camera=replace(photo.camera, world_from_camera=_scaled(photo, world_from_head))) for photo in
              (disc_photo(0.0), disc_photo(90.0))]  # fmt: skip
    found = beyond_outlines(torch.ones(33, 33, 33), scene_of(*photos), np.linalg.inv(world_from_head)).numpy()
    axis = np.linspace(-1, 1, 33)
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    true = np.maximum(np.hypot(x, y), np.hypot(z, y)) - RADIUS  # along z and along x
    near = np.abs(true) < 0.3
    np.testing.assert_allclose(found[near], true[near], atol=1.0 * PIXEL)
    for side in (1, -1):  # pixels' centres lie up to half a pixel from the outline: on average that is made up for
        beside = (side * true > 0) & (side * true < 4 * PIXEL)
        assert abs(float((found[beside] - true[beside]).mean())) < 0.2 * PIXEL


def _scaled(photo: Photo, world_from_head: Array) -> Array:
    moved = world_from_head @ photo.camera.world_from_camera
    moved[:3, :3] /= 3.0
    return moved


def ball(*photos: Photo, margin: float = 0.03) -> Mesh:
    settings = MeshConfig(resolution=64, coarse=16, extractor="warp", refine=False, unseen_blur=0, outline_margin=margin)
    fitted = FittedHead(Ball(RADIUS), torch.zeros(1), RadianceField(Config().radiance), np.eye(4), None, None, -1.0, [], 0)
    return head_meshes(fitted, scene_of(*photos), Config(mesh=settings, texture=TextureConfig(size=0))).fine


def without_columns(photo: Photo, beyond: float) -> Photo:
    """The same where nothing of the subject is seen further to the right than that."""
    return replace(photo, mask=photo.mask & ((photo.camera.pixel_grid()[..., 0] - SIZE / 2) * PIXEL < beyond))


def test_what_is_beyond_an_outline_is_cut_off_and_the_rest_stays() -> None:
    front, side = disc_photo(0.0), disc_photo(90.0)
    whole, cut = ball(front, side), ball(without_columns(front, 0.44), side)
    np.testing.assert_allclose(np.linalg.norm(whole.vertices, axis=1), RADIUS, atol=0.004)
    assert is_watertight(cut)
    assert cut.vertices[:, 0].max() == pytest.approx(0.44 + 0.03, abs=PIXEL)
    rest = cut.vertices[:, 0] < 0.44
    np.testing.assert_allclose(np.linalg.norm(cut.vertices[rest], axis=1), RADIUS, atol=0.004)
    assert ball(without_columns(front, 0.44), side, margin=0.0).vertices[:, 0].max() == pytest.approx(RADIUS, abs=0.004)


def test_a_photo_that_would_cut_off_much_is_not_believed() -> None:
    cut = ball(disc_photo(0.0), without_columns(disc_photo(90.0), 0.2))
    np.testing.assert_allclose(np.linalg.norm(cut.vertices, axis=1), RADIUS, atol=0.004)

"""What photos share ties their cameras together: a painted ball, whose coordinates alone say nothing about how it is turned."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from sphere_pairs import sphere_pair

from avatar_kit.conventions import MM_PER_UNIT
from avatar_kit.normals.evaluate import angle_between_deg
from avatar_kit.photos.match import match, shown_by_coordinates, surface_of
from avatar_kit.photos.together import pose_together
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.types import Array, Camera, Photo

SIZE = 200


def in_mm(camera: Camera) -> Camera:
    world_from_camera = camera.world_from_camera.copy()
    world_from_camera[:3, 3] *= MM_PER_UNIT
    return dataclasses.replace(camera, world_from_camera=world_from_camera)


def paint(points: Array) -> Array:
    """Spots (..., 3) that are nowhere alike, the same from all sides."""
    rng = np.random.default_rng(5)
    waves = np.sin(points @ rng.normal(0, 28, (3, 24)) + rng.uniform(0, 6, 24))
    return np.clip(0.5 + 0.12 * (waves @ rng.normal(0, 1, (24, 3))), 0, 1)


def ball(yaw: float, *, mistaken: Array | None = None, painted: bool = True, light: Array | None = None) -> tuple[Photo, Camera]:
    """A photo whose coordinates, and with them its camera, are turned by a rotation vector in degrees; and its true camera."""
    true = orbit_camera(yaw_deg=yaw, pitch_deg=4, distance=4.0, target=np.zeros(3), focal_px=2.6 * SIZE, size=SIZE)
    pair = sphere_pair(true, light=light)
    colors = paint(pair.coordinates) if painted else np.full_like(pair.image, 0.6)
    image = np.where(pair.foreground[..., None], pair.image.mean(-1, keepdims=True) * colors, pair.image).astype(np.float32)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec(np.zeros(3) if mistaken is None else mistaken, degrees=True).as_matrix()
    believed = dataclasses.replace(true, world_from_camera=turn @ true.world_from_camera)
    coordinates = (pair.coordinates @ turn[:3, :3].T).astype(np.float32)
    return Photo(image, pair.foreground, in_mm(believed), pair.normals, f"{yaw}", coordinates=coordinates), in_mm(true)


def between_deg(photos: list[Photo], true: list[Camera]) -> float:
    a, b = (photo.camera.world_from_camera[:3, :3] for photo in photos)
    c, d = (camera.world_from_camera[:3, :3] for camera in true)
    return angle_between_deg(a.T @ b, c.T @ d)


def test_matches_are_where_the_true_cameras_see_the_same_points() -> None:
    (a, camera_a), (b, camera_b) = ball(-15), ball(20, mistaken=np.array([2.0, -5.0, 1.0]), light=np.array([0.7, -0.3, -0.6]))
    found = match(a, b, surface_of(a), shown_by_coordinates(a, b, surface_of(a)))
    assert len(found.first) > 25
    origins, rays = camera_a.rays(found.first)
    middle = (origins * rays).sum(-1)
    depth = -middle - np.sqrt(middle**2 - (origins**2).sum(-1) + (0.6 * MM_PER_UNIT) ** 2)
    pixels, _ = camera_b.project(origins + depth[:, None] * rays)
    off = np.linalg.norm(pixels - found.second, axis=1)
    assert np.median(off) < 0.7  # px; one is 1.5 mm
    assert np.mean(off < 2.0) > 0.9


def test_two_photos_that_take_the_head_for_one_turned_further_come_to_agree() -> None:
    mistakes = [np.array([3.0, -4.0, 1.0]), np.array([-2.0, 5.0, 2.0])]
    photos, true = zip(*(ball(yaw, mistaken=wrong) for yaw, wrong in zip((-10, 12), mistakes, strict=True)), strict=True)
    before = between_deg(list(photos), list(true))
    after = between_deg(pose_together(photos), list(true))
    assert before > 9
    assert after < 1.5


@pytest.mark.parametrize("painted", [True, False])
def test_where_nothing_is_shared_cameras_stay(painted: bool) -> None:
    yaws = (-80, 80) if painted else (-10, 12)
    photos, _ = zip(*(ball(yaw, painted=painted) for yaw in yaws), strict=True)
    for before, after in zip(photos, pose_together(photos), strict=True):
        np.testing.assert_array_equal(before.camera.world_from_camera, after.camera.world_from_camera)


def test_one_photo_stays_as_it_is() -> None:
    photo, _ = ball(0)
    assert pose_together([photo]) == [photo]

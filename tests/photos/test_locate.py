"""The head found from head-frame coordinates, in any world frame, with errors and outliers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from sphere_pairs import sphere_pair

from avatar_kit.conventions import rotation_of, scale_of, similarity
from avatar_kit.photos.locate import locate_head
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.types import Array, Camera, Photo, Scene

WORLD_FROM_HEAD = similarity(37.0, Rotation.from_euler("xyz", (70, -20, 130), degrees=True).as_matrix(), np.array([5.0, -80, 12]))


def photo(yaw: float, rng: np.random.Generator, *, world_from_head: Array = WORLD_FROM_HEAD, wrong: float = 0.2) -> Photo:
    """A ball for a head, seen by a camera of the world; a share of its coordinates is wrong, the rest off by 6 mm."""
    inside = orbit_camera(yaw_deg=yaw, pitch_deg=5, distance=4, target=np.zeros(3), focal_px=180, size=96)
    pair = sphere_pair(inside)
    placed = world_from_head @ inside.world_from_camera
    placed[:3, :3] /= scale_of(world_from_head)
    coordinates = pair.coordinates + rng.normal(0, 0.03, pair.coordinates.shape)
    outliers = rng.random(pair.foreground.shape) < wrong
    coordinates[outliers] = rng.uniform(-0.6, 0.6, (outliers.sum(), 3))
    coordinates = (coordinates * pair.foreground[..., None]).astype(np.float32)
    camera = Camera(inside.intrinsics, placed, 96, 96)
    return Photo(pair.image, pair.foreground, camera, name=f"{yaw}", coordinates=coordinates)


def errors(found: Array | None, world_from_head: Array) -> tuple[float, float, float]:
    """Degrees, relative size, and how far the head's middle is off in units of the head frame."""
    assert found is not None
    difference = found @ world_from_head
    turn = Rotation.from_matrix(rotation_of(difference)).magnitude()
    return float(np.degrees(turn)), abs(scale_of(difference) - 1), float(np.linalg.norm(difference[:3, 3]))


@pytest.mark.parametrize("yaws", [(0, 45, -45), (90, 20)])
def test_photos_agree_on_one_similarity(yaws: tuple[int, ...], rng: np.random.Generator) -> None:
    scene = Scene(tuple(photo(yaw, rng) for yaw in yaws), tuple(range(len(yaws))), "ball")
    degrees, size, middle = errors(locate_head(scene), WORLD_FROM_HEAD)
    assert degrees < 1
    assert size < 0.01
    assert middle < 0.02  # 4 mm


def test_one_photo_has_its_true_size(rng: np.random.Generator) -> None:
    world_from_head = similarity(200.0, rotation_of(WORLD_FROM_HEAD), np.array([1.0, 2, 3]))
    scene = Scene((photo(10, rng, world_from_head=world_from_head),), (0,), "ball", mm_per_world_unit=1.0)
    degrees, size, middle = errors(locate_head(scene), world_from_head)
    assert degrees < 2.5  # a fifth of the coordinates is wrong
    assert size < 1e-6
    assert middle < 0.1  # 20 mm of 800: one photo hardly shows its distance


def test_a_photo_that_is_wrong_altogether_is_outvoted(rng: np.random.Generator) -> None:
    photos = [photo(yaw, rng) for yaw in (0, 40, -40, 15)]
    assert photos[3].coordinates is not None
    photos[3] = dataclasses.replace(photos[3], coordinates=photos[3].coordinates * np.array([-1, 1, -1], np.float32))
    degrees, size, middle = errors(locate_head(Scene(tuple(photos), (0, 1, 2, 3), "ball")), WORLD_FROM_HEAD)
    assert degrees < 3
    assert size < 0.03
    assert middle < 0.05


def test_without_coordinates_nothing_is_claimed(rng: np.random.Generator) -> None:
    bare = dataclasses.replace(photo(0, rng), coordinates=None)
    empty = dataclasses.replace(photo(0, rng), coordinates=np.zeros((96, 96, 3), np.float32))
    assert locate_head(Scene((bare, empty), (0, 1), "ball")) is None

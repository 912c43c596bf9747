"""Normals against the ray: closed forms, and that what a crop shows no longer depends on where the crop lies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from sphere_pairs import BallNet, sphere_pair

from avatar_kit.normals.pool import pack, unpack
from avatar_kit.normals.predict import predict_normals
from avatar_kit.normals.ray_frame import assumed_intrinsics, pixel_rays, to_camera_frame, to_ray_frame
from avatar_kit.types import Array, Camera


def unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_the_least_rotation_takes_the_ray_to_z() -> None:
    rng = np.random.default_rng(0)
    rays, normals = unit(rng.normal(size=(50, 3)) + (0, 0, 2)), unit(rng.normal(size=(50, 3)))
    for ray, normal in zip(rays, normals):
        axis = np.cross((0, 0, 1), ray)
        rotation = Rotation.from_rotvec(axis / np.linalg.norm(axis) * np.arccos(ray[2]))
        assert np.allclose(to_camera_frame(normal, ray), rotation.apply(normal), atol=1e-12)
        assert np.allclose(to_ray_frame(normal, ray), rotation.inv().apply(normal), atol=1e-12)
    assert np.allclose(to_ray_frame(rays, rays), (0, 0, 1))


def test_rays_go_through_the_middles_of_pixels() -> None:
    rays = pixel_rays(np.array([[2.0, 0, 1.5], [0, 2.0, 0.5], [0, 0, 1]]), 1, 3)
    assert np.allclose(rays[0], unit(np.array([[-0.5, 0, 1], [0, 0, 1], [0.5, 0, 1]])))
    assert np.allclose(pixel_rays(assumed_intrinsics(5, 9), 5, 9)[2, 4], (0, 0, 1))


@pytest.fixture
def turned_cameras() -> list[Camera]:
    """Cameras of one centre 800 mm from a ball, on it and turned away from it by 20 degrees, both cropped around it."""
    cameras = []
    for degrees in (0.0, 20.0):
        turn = np.eye(4)
        turn[:3, :3] = Rotation.from_euler("y", degrees, degrees=True).as_matrix() @ np.diag([1, -1, -1])
        turn[2, 3] = 4.0
        focal, slant = 256.0, np.cos(np.radians(degrees))
        middle, _ = Camera(np.diag([focal * slant, focal * slant, 1.0]), turn, 64, 64).project(np.zeros(3))
        intrinsics = np.array([[focal * slant, 0, 32 - middle[0]], [0, focal * slant, 32 - middle[1]], [0, 0, 1.0]])
        cameras.append(Camera(intrinsics, turn, 64, 64))
    return cameras


def test_a_crop_off_the_axis_has_the_normals_of_one_on_it(turned_cameras: list[Camera]) -> None:
    pairs = [sphere_pair(camera) for camera in turned_cameras]
    straight, aside = (unpack([pack(pair)]).normals[0].permute(1, 2, 0).numpy() for pair in pairs)
    both = pairs[0].foreground & pairs[1].foreground

    def apart(a: Array, b: Array) -> float:
        return float(np.degrees(np.arccos(np.clip((unit(a) * unit(b)).sum(-1)[both], -1, 1))).mean())

    with np.errstate(invalid="ignore"):
        assert apart(pairs[0].normals, pairs[1].normals) > 15
        assert apart(straight, aside) < 3  # the picture off the axis is stretched by 1 / cos 20


class BallNetOfRays(BallNet):
    in_ray_frame = True


def test_the_intrinsics_take_predictions_to_the_camera_frame(turned_cameras: list[Camera]) -> None:
    def error(camera: Camera, *, stated: bool) -> float:
        pair = sphere_pair(camera)
        intrinsics = camera.intrinsics if stated else None
        found = predict_normals(pair.image, BallNetOfRays(), pair.foreground, intrinsics=intrinsics)  # pyright: ignore
        both = found.mask & pair.foreground
        return float(np.degrees(np.arccos(np.clip((found.normals * pair.normals).sum(-1)[both], -1, 1))).mean())

    on_axis, aside = turned_cameras
    assert error(aside, stated=True) < error(on_axis, stated=True) + 2
    assert error(aside, stated=False) > error(aside, stated=True) + 10

"""What no photo sees is smooth; what one sees stays as the field has it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mesh.test_mesh import LATENT, Ball
from scipy.spatial import KDTree

from avatar_kit.config import MeshConfig
from avatar_kit.conventions import BOX_MAX, BOX_MIN
from avatar_kit.field.on_grid import narrow_band, on_finer_grid, sdf_on_grid
from avatar_kit.mesh.extraction import extract
from avatar_kit.recon.meshing import seen_share
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.score.protocols import is_watertight
from avatar_kit.types import Array, Mesh, Photo, Scene

RADIUS, BUMP = 0.5, 0.02
CONFIG = MeshConfig(resolution=128, coarse=32, extractor="warp", sliver_depth=0.0)


class Bumpy(Ball):
    """About the distance to a ball with waves 0.14 units long on it."""

    def forward(self, points: torch.Tensor, conditions: torch.Tensor) -> torch.Tensor:
        return super().forward(points, conditions) - BUMP * torch.sin(points * 45).prod(-1)


def front(sdf: torch.Tensor) -> torch.Tensor:
    """1 for z above 0.1, 0 below -0.1."""
    z = torch.linspace(BOX_MIN, BOX_MAX, len(sdf))
    return ((z + 0.1) / 0.2).clamp(0, 1).expand(sdf.shape)


def height(mesh: Mesh) -> Array:
    return np.linalg.norm(mesh.vertices, axis=1) - RADIUS


def test_what_is_not_seen_is_smooth_and_what_is_seen_is_not_touched() -> None:
    mesh = extract(Bumpy(RADIUS), LATENT, CONFIG, seen=front)
    assert is_watertight(mesh)
    before, behind = mesh.vertices[:, 2] > 0.13, mesh.vertices[:, 2] < -0.13
    as_it_is = extract(Bumpy(RADIUS), LATENT, CONFIG)
    kept = as_it_is.vertices[as_it_is.vertices[:, 2] > 0.13]
    distance, _ = KDTree(kept).query(mesh.vertices[before])
    assert len(distance) == len(kept)
    assert distance.max() < 1e-5
    assert height(as_it_is).std() > 0.2 * BUMP
    assert height(mesh)[behind].std() < 0.02 * BUMP
    shrinkage = CONFIG.unseen_blur**2 / RADIUS  # of a mean of |x| around the sphere, to second order
    assert abs(height(mesh)[behind].mean()) < 0.2 * shrinkage


def test_without_a_blur_or_without_photos_nothing_is_smoothed() -> None:
    as_it_is = extract(Bumpy(RADIUS), LATENT, CONFIG).vertices
    unblurred = MeshConfig(**{**vars(CONFIG), "unseen_blur": 0.0})
    np.testing.assert_array_equal(extract(Bumpy(RADIUS), LATENT, unblurred, seen=front).vertices, as_it_is)


def test_the_field_is_asked_only_where_it_is_wanted() -> None:
    field = Bumpy(RADIUS)
    coarse = sdf_on_grid(field, LATENT, 16)
    some, all_of_it = (narrow_band(field, LATENT, 32, coarse=coarse, where=where) for where in (front(coarse), None))
    torch.testing.assert_close(all_of_it, narrow_band(field, LATENT, 32, coarse=16))
    z = torch.linspace(BOX_MIN, BOX_MAX, 33)
    torch.testing.assert_close(some[:, :, z < -0.25], on_finer_grid(coarse, 32)[:, :, z < -0.25])
    torch.testing.assert_close(some[:, :, z > 0.25], all_of_it[:, :, z > 0.25])


def test_a_photo_sees_what_its_subject_shows() -> None:
    """From the side of z: the near half where the mask is white, and nothing behind; also in a world of another unit."""
    ball, cells = sdf_on_grid(Ball(RADIUS), LATENT, 64), 64
    camera = orbit_camera(yaw_deg=0, pitch_deg=0, distance=5.0 * 200, target=np.zeros(3), focal_px=600, size=192)
    mask = np.zeros((192, 192), bool)
    mask[:, 96:] = True  # the side of x above 0
    scene = Scene((Photo(np.zeros((192, 192, 3), np.float32), mask, camera),), (0,), "ball")
    share = seen_share(ball, scene, np.diag([1 / 200, 1 / 200, 1 / 200, 1.0])).numpy()

    def at(*point: float) -> float:
        return share[tuple(np.rint((np.array(point) + 1) / 2 * cells).astype(int))]

    assert at(0.2, 0, 0.46) == pytest.approx(1, abs=1e-3)
    assert at(0.2, 0.2, 0.41) == pytest.approx(1, abs=1e-3)
    assert at(-0.3, 0, 0.4) == 0  # off the mask
    assert at(0.2, 0, -0.46) == 0  # behind
    nothing = Scene((Photo(np.zeros((192, 192, 3), np.float32), ~mask & mask, camera),), (0,), "ball")
    assert not seen_share(ball, nothing, np.eye(4)).any()

"""ICP: trimesh's, step for step, and a motion that is known."""

from __future__ import annotations

import numpy as np
import pytest
from trimesh.registration import icp as trimesh_icp

from avatar_kit.conventions import rotation_xyz_deg, similarity, transform_points
from avatar_kit.score.distances import Cloud
from avatar_kit.score.registration import icp


@pytest.fixture
def surface(rng: np.random.Generator) -> np.ndarray:
    """Points on an ellipsoid of 160 x 220 x 200 mm."""
    directions = rng.normal(size=(4000, 3))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True) * (80.0, 110.0, 100.0)


@pytest.mark.parametrize("free", [True, False])
def test_it_is_trimeshs_to_the_digit(surface: np.ndarray, rng: np.random.Generator, free: bool) -> None:
    points = transform_points(similarity(1.03, rotation_xyz_deg(3.0, -2.0, 1.0), np.array([2.0, -1.0, 3.0])), surface[::3])
    points = points + rng.normal(0, 0.5, points.shape)
    expected, _, _ = trimesh_icp(points, surface, scale=free, reflection=free)
    np.testing.assert_allclose(icp(points, Cloud(surface), scale=free, reflection=free), expected, atol=1e-12)


def test_a_small_motion_is_undone(surface: np.ndarray) -> None:
    moved = transform_points(similarity(1.0, rotation_xyz_deg(0.2, 0.1, -0.2), np.array([0.1, 0.2, -0.1])), surface)
    back = transform_points(icp(moved, Cloud(surface), scale=False, reflection=False), moved)
    assert np.linalg.norm(back - surface, axis=1).max() < 1e-6

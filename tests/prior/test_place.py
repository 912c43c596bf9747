"""A head in any pose is found again, also with much that is no head around it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from avatar_kit import load_prior
from avatar_kit.config import MeshConfig
from avatar_kit.conventions import CANONICAL_LANDMARKS, MM_PER_UNIT, rotation_of, scale_of, similarity, transform_points
from avatar_kit.mesh.extraction import extract
from avatar_kit.prior.place import is_turned_over, place, upright_starts
from avatar_kit.prior.storage import HeadPrior
from avatar_kit.types import Array, Mesh


@pytest.fixture(scope="module")
def prior() -> HeadPrior:
    return load_prior()


@pytest.fixture(scope="module")
def mean_head(prior: HeadPrior) -> Mesh:
    return extract(prior.field, prior.mean_latent, MeshConfig(resolution=64))


def ball_sdf(radius: float, centre: tuple[float, float, float], n: int = 65) -> torch.Tensor:
    axis = torch.linspace(-1, 1, n)
    return (torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1) - torch.tensor(centre)).norm(dim=-1) - radius


def test_a_ball_is_laid_on_a_ball(sphere: Mesh, rng: np.random.Generator) -> None:
    """Closed form: the centre must come to the centre; the size may give way by a few percent, not more."""
    matrix, misfit = place(sphere.vertices, ball_sdf(0.5, (0.1, -0.2, 0.05)), [np.eye(4)], rng=rng)
    np.testing.assert_allclose(transform_points(matrix, np.zeros(3)), (0.1, -0.2, 0.05), atol=2e-3)
    assert scale_of(matrix) == pytest.approx(1.0, abs=5e-3)
    assert misfit < 0.01
    _, far = place(sphere.vertices * 0.1, ball_sdf(0.5, (0.0, 0.0, 0.0)), [np.eye(4)], rng=rng)
    assert far > misfit


@pytest.mark.parametrize("with_nose", [True, False])
def test_a_head_in_any_pose_is_found_again(prior: HeadPrior, mean_head: Mesh, rng: np.random.Generator, with_nose: bool) -> None:
    truth = similarity(1.02 / MM_PER_UNIT, Rotation.from_euler("xyz", (70, -20, 130), degrees=True).as_matrix(), np.array([0.3, -2.0, 1.0]))
    mesh_from_head = np.linalg.inv(truth)
    points = transform_points(mesh_from_head, mean_head.vertices)
    nose = transform_points(mesh_from_head, np.array(CANONICAL_LANDMARKS["nose_tip"])) if with_nose else None
    found, misfit = place(points, prior.mean_sdf, upright_starts(points, 1.0, nose), rng=rng)
    assert error_mm(found, truth, points) < 1.0
    assert angle_deg(rotation_of(found), rotation_of(truth)) < 0.5
    assert misfit < 0.2


def test_what_is_no_head_hardly_moves_it(prior: HeadPrior, mean_head: Mesh, rng: np.random.Generator) -> None:
    """A wreath's worth of points a centimetre off, and a block beside the head."""
    wreath = mean_head.vertices[mean_head.vertices[:, 1] > 0.45] * 1.08
    block = rng.uniform(-0.2, 0.2, (len(mean_head.vertices) // 4, 3)) + (0.0, -0.75, -0.3)
    points = np.concatenate([mean_head.vertices, wreath, block])
    start = similarity(1.0, Rotation.from_euler("xyz", (5, -8, 4), degrees=True).as_matrix(), np.array([0.05, 0.08, -0.04]))
    found, _ = place(points, prior.mean_sdf, [start], rng=rng)
    assert error_mm(found, np.eye(4), mean_head.vertices) < 1.5


def test_faces_wound_inwards_are_noticed(prior: HeadPrior, mean_head: Mesh) -> None:
    centres = mean_head.vertices[mean_head.faces].mean(1)
    assert not is_turned_over(centres, mean_head.face_normals, prior.mean_sdf)
    assert is_turned_over(centres, -mean_head.face_normals, prior.mean_sdf)


def error_mm(a: Array, b: Array, points: Array) -> float:
    return float(np.linalg.norm(transform_points(a, points) - transform_points(b, points), axis=1).mean()) * MM_PER_UNIT


def angle_deg(a: Array, b: Array) -> float:
    return float(np.degrees(np.arccos(np.clip((np.trace(a.T @ b) - 1) / 2, -1, 1))))

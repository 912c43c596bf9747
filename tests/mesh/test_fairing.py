"""Fair surfaces: planes and balls that go on, and what is taken for wrong."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from avatar_kit.mesh.fairing import contradicted, fair
from avatar_kit.mesh.relief import ShownNormals
from avatar_kit.types import Array, Mesh


@pytest.fixture(scope="module")
def ball() -> Mesh:
    sphere = trimesh.creation.icosphere(subdivisions=4)
    return Mesh(np.asarray(sphere.vertices, np.float64), np.asarray(sphere.faces, np.int32))


def cap(ball: Mesh, cosine: float) -> Array:
    return ball.vertices[:, 2] > cosine


def test_a_plane_goes_on() -> None:
    """Also over edges of all lengths, and beside the border of an open mesh."""
    rng = np.random.default_rng(0)
    across = np.stack(np.meshgrid(np.arange(15.0), np.arange(15.0)), -1).reshape(-1, 2)
    within = (np.abs(across - 7) < 4).all(1)
    corner = np.arange(15 * 14).reshape(14, 15)[:, :-1].ravel()
    faces = np.concatenate([np.stack([corner, corner + 1, corner + 15], 1), np.stack([corner + 1, corner + 16, corner + 15], 1)])
    flat = np.c_[across + rng.uniform(-0.3, 0.3, across.shape), np.full(len(across), 2.0)]
    bumpy = flat + np.outer(within, [0, 0, 1]) * rng.normal(size=(len(flat), 1))
    found = fair(Mesh(bumpy, faces.astype(np.int32)), within)
    np.testing.assert_allclose(found.vertices[:, 2], 2.0, atol=1e-9)
    np.testing.assert_array_equal(found.vertices[~within], flat[~within])
    np.testing.assert_array_equal(found.faces, faces)


def test_a_crack_in_a_ball_closes_without_an_edge(ball: Mesh) -> None:
    chosen = cap(ball, 0.9)
    cracked = ball.vertices.copy()
    cracked[chosen & (np.abs(ball.vertices[:, 0]) < 0.06)] *= 0.8
    found = fair(Mesh(cracked, ball.faces), chosen)
    # a flat lid would lie 0.1 inside at the pole, with an edge of 26 degrees around
    assert np.abs(np.linalg.norm(found.vertices, axis=1) - 1).max() < 0.015
    angles = trimesh.Trimesh(found.vertices, found.faces, process=False).face_adjacency_angles
    smooth = trimesh.Trimesh(ball.vertices, ball.faces, process=False).face_adjacency_angles
    assert angles.max() < 1.5 * smooth.max()


def test_nothing_to_hold_on_to_or_nothing_wrong_changes_nothing(ball: Mesh) -> None:
    for chosen in (np.zeros(len(ball.vertices), bool), np.ones(len(ball.vertices), bool)):
        assert fair(ball, chosen) is ball


def test_what_normals_contradict_and_what_hides_beside_it_is_wrong(ball: Mesh) -> None:
    own, count = ball.vertices, len(ball.vertices)
    wrong, hidden, unseen = cap(ball, 0.97), cap(ball, 0.9) & ~cap(ball, 0.97), ball.vertices[:, 2] < -0.5
    shown = np.where(wrong[:, None], np.roll(own, 1, axis=1), own)
    certainty = np.where(hidden | unseen, 0.0, 0.1)
    photos = ShownNormals(shown, certainty, np.ones(count))
    np.testing.assert_array_equal(contradicted(ball, own, photos, rings=0), wrong | hidden)
    wider = contradicted(ball, own, photos, rings=6)  # edges of 0.07
    assert (wider >= (wrong | hidden)).all()
    assert not wider[unseen].any()
    assert (wrong | hidden).sum() < wider.sum() < cap(ball, 0.7).sum()


@pytest.mark.parametrize("degrees", [0, 40])
def test_a_shape_that_is_a_little_off_is_not_wrong(ball: Mesh, degrees: float) -> None:
    turn = trimesh.transformations.rotation_matrix(np.radians(degrees), [0, 1, 0])[:3, :3]
    photos = ShownNormals(ball.vertices @ turn.T, np.full(len(ball.vertices), 0.1), np.ones(len(ball.vertices)))
    assert not contradicted(ball, ball.vertices, photos, rings=3).any()

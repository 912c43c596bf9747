"""Synthetic scenes: what their truth holds."""

from __future__ import annotations

import numpy as np
import trimesh

from avatar_kit.conventions import CANONICAL_LANDMARKS, MM_PER_UNIT
from avatar_kit.scene.capture import _reference, capture_head
from avatar_kit.types import Head, Mesh


def test_the_truth_is_what_a_scan_would_hold() -> None:
    """Of a thick tube: its outside and its rim, not the inside of its narrow hole."""
    tube = trimesh.creation.annulus(r_min=4.0, r_max=40.0, height=80.0, sections=48)
    vertices, faces = trimesh.remesh.subdivide_to_size(tube.vertices, tube.faces, 6.0)
    reference = _reference(Mesh(np.asarray(vertices), np.asarray(faces)), np.array([40.0, 0.0, 0.0]))
    radius, height = np.linalg.norm(reference.mesh.vertices[:, :2], axis=1), np.abs(reference.mesh.vertices[:, 2])
    assert not ((radius < 5.0) & (height < 20.0)).any()
    whole = np.linalg.norm(vertices[:, :2], axis=1) > 39.0
    assert (radius > 39.0).sum() == whole.sum()
    assert reference.landmarks["nose_tip"] == np.linalg.norm(reference.mesh.vertices - (40.0, 0.0, 0.0), axis=1).argmin()


def test_a_scan_without_landmarks_has_its_nose_where_heads_have_it(sphere: Mesh) -> None:
    mean = Head("ball", {"body": sphere}, landmarks={"nose_tip": np.array(CANONICAL_LANDMARKS["nose_tip"])})
    with_it, without = (capture_head(head, size=48, views=1, rng=np.random.default_rng(0))[1] for head in (mean, Head("ball", mean.parts)))
    assert without.landmarks == with_it.landmarks
    nose = without.mesh.vertices[without.landmarks["nose_tip"]]
    assert nose[2] > without.mesh.vertices[:, 2].max() - 0.01 * MM_PER_UNIT  # the ball's foremost point


def test_normal_maps_and_truth_are_of_one_surface() -> None:
    """Of a ball of few triangles: what is scored lies nearer the round ball, which interpolated normals show."""
    coarse = trimesh.creation.icosphere(subdivisions=2, radius=0.5)
    ball = Head("ball", {"body": Mesh(np.asarray(coarse.vertices), np.asarray(coarse.faces, np.int32))})
    photos, reference = capture_head(ball, size=64, views=1, rng=np.random.default_rng(0))
    centre = reference.mesh.vertices.mean(0)
    inner, outer = (
        np.linalg.norm(mesh.mean(1) - middle, axis=1)
        for mesh, middle in ((coarse.vertices[coarse.faces] * MM_PER_UNIT, 0), (reference.mesh.vertices[reference.mesh.faces], centre))
    )
    assert 100 - outer.mean() < 0.35 * (100 - inner.mean())
    photo = photos[0]
    assert photo.normals is not None
    assert photo.normals[photo.mask].any(-1).all()

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

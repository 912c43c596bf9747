"""Synthetic scenes: what their truth holds."""

from __future__ import annotations

import numpy as np
import trimesh

from avatar_kit.scene.capture import _reference
from avatar_kit.types import Mesh


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

"""Heads from Anny, the parametric body model on PyPI (code Apache-2.0, shapes CC0 from MakeHuman).

Anny's frame is z up, the face towards -y, metres. Mouth, eye and tongue interiors are removed, the mouth and eye
openings closed, the eyeballs kept as a part of their own, and arms and torso cut off outside the field's box.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from avatar_kit.conventions import MM_PER_UNIT, head_from_landmarks, transform_points
from avatar_kit.heads import surgery
from avatar_kit.types import Array, Head, Mesh

_LANDMARK_VERTICES = {
    "nose_tip": 5038, "sellion": 134, "subnasale": 5056, "chin": 5209,
    "eye_left_inner": 7780, "eye_left_outer": 7766, "eye_right_inner": 1104, "eye_right_outer": 1090,
    "mouth_left": 7256, "mouth_right": 527,
}  # fmt: skip
_INTERIOR = ["mouth_cavity", "eye_cavity.L", "eye_cavity.R", "tongue"]
_EYEBALLS = ["eye_front.L", "eye_back.L", "eye_front.R", "eye_back.R"]
_CHANGES = ("head-", "nose-", "l-eye-", "r-eye-", "eyebrows-", "mouth-", "l-ear-", "r-ear-", "l-cheek-", "r-cheek-",
            "chin-", "forehead-", "neck-", "measure-neck-")  # fmt: skip
_WILD = ("head-trans", "neck-trans", "measure-neck-height", "head-age", "nose-trans-out", "mouth-trans-out")
_TEENAGER, _OLD = 0.5, 1.0  # Anny's age: 1/3 child, 2/3 young adult, 1 old


class AnnyHeads:
    """Samples identities, ages and mild expressions. Building it takes a minute the first time, then under a second."""

    name = "anny"

    def __init__(self) -> None:
        import torch

        import avatar_kit.kernels.runtime  # noqa: F401  (before anny, so that Warp stays quiet)  # isort: skip
        from anny import Anny

        self._torch = torch
        self._model = Anny(local_changes="all", facial_actions="all", phenotypes="all")
        self._changes = [label for label in self._model.local_change_labels if label.startswith(_CHANGES) and not label.startswith(_WILD)]
        self._actions = [label for label in self._model.facial_action_labels if not label.startswith("tongue")]

    @functools.cached_property
    def _topology(self) -> dict[str, Any]:
        """Faces and closing fans, found once on the average adult: all heads share them."""
        from anny.face_segmentation import get_face_segmentation_mask

        faces = self._model.faces.numpy().astype(np.int32)
        labelled = functools.partial(get_face_segmentation_mask, self._model)
        eyeballs = labelled(_EYEBALLS).numpy()
        hidden = labelled(_INTERIOR).numpy() | eyeballs
        vertices = self._in_head_frame(self._vertices(age=0.7))
        near = (np.abs(vertices[:, 0]) < 1.6) & (vertices[:, 1] > -1.8)
        body = faces[~hidden & near[faces].all(1)]
        body_loops, body_caps = surgery.fan_caps(len(vertices), surgery.boundary_loops(body))
        eyes = faces[eyeballs]
        eye_loops, eye_caps = surgery.fan_caps(len(vertices), surgery.boundary_loops(eyes))
        return {
            "body": (np.concatenate([body, body_caps]), body_loops),
            "eyes": (np.concatenate([eyes, eye_caps]), eye_loops),
        }

    def _vertices(self, *, changes: dict[str, float] | None = None, actions: dict[str, float] | None = None, **phenotype: float) -> Array:
        with self._torch.no_grad():
            output = self._model(phenotype_kwargs=phenotype, local_changes_kwargs=changes or None, facial_actions=actions or None)
        v = output["vertices"][0].numpy()
        return np.stack([v[:, 0], v[:, 2], -v[:, 1]], axis=1) * (1000.0 / MM_PER_UNIT)

    def _in_head_frame(self, vertices: Array) -> Array:
        landmarks = {name: vertices[i] for name, i in _LANDMARK_VERTICES.items()}
        return transform_points(head_from_landmarks(landmarks, with_scale=False), vertices)

    @functools.cached_property
    def template(self) -> tuple[Array, Array]:
        """MakeHuman's neutral base mesh in its own file frame (decimetres) and the rows that Anny's vertices came from."""
        from anny.paths import get_anny_root_dir

        lines = (get_anny_root_dir() / "data/mpfb2/3dobjs/base.obj").read_text().splitlines()
        base = np.array([line.split()[1:4] for line in lines if line.startswith("v ")], dtype=float)
        return base, self._model.base_mesh_vertex_indices.numpy()

    def sample(self, rng: np.random.Generator) -> Head:
        """One head without hair; `attributes` balances gender, age and ancestry, `base_vertices` serve hair fitting."""
        ancestry = rng.dirichlet([0.4, 0.4, 0.4])
        phenotype = {
            "gender": float(rng.beta(0.5, 0.5)), "age": float(rng.uniform(_TEENAGER, _OLD)),
            "weight": float(np.clip(rng.normal(0.5, 0.22), 0, 1)), "muscle": float(np.clip(rng.normal(0.5, 0.15), 0, 1)),
            "african": float(ancestry[0]), "asian": float(ancestry[1]), "caucasian": float(ancestry[2]),
        }  # fmt: skip
        changes = self._sample_changes(rng)
        actions: dict[str, float] = {}
        if rng.random() < 0.35:
            chosen = rng.choice(self._actions, size=rng.integers(1, 5), replace=False)
            actions = {str(label): float(rng.uniform(0.05, 0.4)) for label in chosen}
        vertices = self._in_head_frame(self._vertices(changes=changes, actions=actions, **phenotype))
        parts = {
            name: surgery.without_unused(Mesh(surgery.with_cap_vertices(vertices, loops), faces))
            for name, (faces, loops) in self._topology.items()
        }
        return Head(
            name="anny",
            parts=parts,
            attributes={"source": "anny", **phenotype, "expression": actions, "base_vertices": vertices},
            landmarks={name: vertices[i] for name, i in _LANDMARK_VERTICES.items()},
        )

    def _sample_changes(self, rng: np.random.Generator) -> dict[str, float]:
        """Local changes: left and right nearly alike; most small, a few strong."""
        changes: dict[str, float] = {}
        strength = rng.uniform(0.12, 0.42)
        for label in self._changes:
            if label.startswith("r-"):
                continue
            value = float(np.clip(rng.normal(0.0, strength), -0.9, 0.9))
            changes[label] = value
            if label.startswith("l-"):
                changes["r-" + label[2:]] = float(np.clip(value + rng.normal(0.0, 0.06), -1, 1))
        return changes

"""Heads from the ICT-FaceKit light model (MIT): 100 identity modes and 53 expressions, packed in an .npz.

Frame of the file: +y up, face towards +z, +x the subject's left, centimetres. The pack holds the arrays `vertices`,
`faces`, `face_group`, `identity_deltas`, `landmarks68` and, beside it, `ict_facekit_expressions.npz`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from avatar_kit.conventions import MM_PER_UNIT, head_from_landmarks, transform_points
from avatar_kit.heads import surgery
from avatar_kit.types import Head, InputError, Mesh

_LANDMARKS = {
    "nose_tip": 30, "sellion": 27, "subnasale": 33, "chin": 8, "eye_right_outer": 36, "eye_right_inner": 39,
    "eye_left_inner": 42, "eye_left_outer": 45, "mouth_right": 48, "mouth_left": 54,
}  # fmt: skip
_UNITS_PER_CM = 10.0 / MM_PER_UNIT
_SKIN_GROUPS, _EYE_GROUPS = (0, 1), (5, 6, 7, 8)


class IctHeads:
    """Samples identities and mild expressions of the ICT face model."""

    name = "ict"

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"{path}: no such file. Give ict:FILE the path of an ict_facekit_light.npz.")
        with np.load(path, allow_pickle=False) as pack:
            missing = {"vertices", "faces", "face_group", "identity_deltas", "landmarks68"} - set(pack.files)
            if missing:
                raise InputError(f"{path}: lacks the arrays {sorted(missing)}. It is not an ICT-FaceKit light pack.")
            self._neutral = pack["vertices"].astype(np.float64)
            self._identity = pack["identity_deltas"].astype(np.float32)
            self._landmark_vertices = pack["landmarks68"]
            faces, group = pack["faces"].astype(np.int32), pack["face_group"]
        expressions = path.with_name("ict_facekit_expressions.npz")
        self._expressions = np.load(expressions)["expression_deltas"].astype(np.float32) if expressions.is_file() else None
        self._topology = {}
        for name, groups in (("body", _SKIN_GROUPS), ("eyes", _EYE_GROUPS)):
            kept = faces[np.isin(group, groups)]
            loops, caps = surgery.fan_caps(len(self._neutral), surgery.boundary_loops(kept))
            self._topology[name] = (np.concatenate([kept, caps]), loops)

    def sample(self, rng: np.random.Generator) -> Head:
        """One head without hair, cut above the shoulders as the model is."""
        weights = rng.standard_normal(len(self._identity)).astype(np.float32)
        vertices = self._neutral + np.tensordot(weights, self._identity, axes=1)
        if self._expressions is not None and rng.random() < 0.35:
            for index in rng.choice(len(self._expressions), size=rng.integers(1, 4), replace=False):
                vertices = vertices + rng.uniform(0.05, 0.35) * self._expressions[index]
        vertices = vertices * _UNITS_PER_CM * rng.uniform(0.96, 1.04, size=3)  # its skull varies too little
        landmarks = {name: vertices[self._landmark_vertices[i]] for name, i in _LANDMARKS.items()}
        head_from_model = head_from_landmarks(landmarks, with_scale=False)
        vertices = transform_points(head_from_model, vertices)
        parts = {
            name: surgery.without_unused(Mesh(surgery.with_cap_vertices(vertices, loops), faces))
            for name, (faces, loops) in self._topology.items()
        }
        return Head(
            name="ict",
            parts=parts,
            attributes={"source": "ict"},
            landmarks={name: vertices[self._landmark_vertices[i]] for name, i in _LANDMARKS.items()},
        )

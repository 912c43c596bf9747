"""Heads from a folder of scans: .obj, .ply, .stl or .glb, watertight or not.

Scans are in the head frame's axes (+y up, face towards +z) in millimetres with the origin 130 mm behind the nose tip,
unless `NAME.json` stands beside `NAME.obj`: {"landmarks": {"nose_tip": [x, y, z], ...}, "mm_per_unit": 1.0}, then any
frame will do. With "mm_per_unit" left out the landmarks fix the scale too.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from avatar_kit.conventions import MM_PER_UNIT, head_from_landmarks, similarity, transform_points
from avatar_kit.heads import surgery
from avatar_kit.types import Head, InputError, Mesh

_FORMATS = (".obj", ".ply", ".stl", ".glb")
_REACH = 1.6  # units: what lies further from the origin cannot matter inside the box


class FolderHeads:
    """The scans of a folder, in turn by a random draw."""

    name = "folder"

    def __init__(self, folder: Path) -> None:
        self._files = sorted(p for p in folder.iterdir() if p.suffix.lower() in _FORMATS) if folder.is_dir() else []
        if not self._files:
            raise InputError(f"{folder}: no scans in it. folder:DIR takes a folder of {', '.join(_FORMATS)} files.")

    def sample(self, rng: np.random.Generator) -> Head:
        """One scan, in the head frame, cut to the surroundings of the field's box."""
        return self.load(self._files[int(rng.integers(len(self._files)))])

    def load(self, file: Path) -> Head:
        """The scan in `file`.

        Raises:
            InputError: unreadable file, no triangles, or landmarks that are not enough.
        """
        import trimesh

        try:
            raw = trimesh.load_mesh(file, process=False)
            mesh = Mesh(np.asarray(raw.vertices), np.asarray(raw.faces, np.int32))
        except Exception as error:
            raise InputError(f"{file}: cannot be read as a mesh ({error}). Export it again as .ply or .obj.") from error
        if len(mesh.faces) == 0:
            raise InputError(f"{file}: holds no triangles. A scan must be a surface, not a point cloud.")
        head_from_scan, landmarks = similarity(1.0 / MM_PER_UNIT, np.eye(3), np.zeros(3)), {}
        notes = file.with_suffix(".json")
        if notes.is_file():
            stated = json.loads(notes.read_text())
            points = {name: np.asarray(p, float) for name, p in stated.get("landmarks", {}).items()}
            unit = stated.get("mm_per_unit")
            to_units = similarity(1.0 if unit is None else unit / MM_PER_UNIT, np.eye(3), np.zeros(3))
            points = {name: transform_points(to_units, p) for name, p in points.items()}
            try:
                head_from_scan = head_from_landmarks(points, with_scale=unit is None) @ to_units
            except ValueError as error:
                raise InputError(f"{notes}: {error}") from error
            landmarks = {n: transform_points(head_from_landmarks(points, with_scale=unit is None), p) for n, p in points.items()}
        mesh = mesh.transformed(head_from_scan)
        near = (np.abs(mesh.vertices[mesh.faces]) < _REACH).all((1, 2))
        body = surgery.without_unused(Mesh(mesh.vertices, mesh.faces[near]))
        return Head(file.stem, {"body": body}, {"source": "folder", "file": file.name}, landmarks)

"""Heads from a folder of scans: .obj, .ply, .stl or .glb, watertight or not.

Scans are in the head frame's axes (+y up, face towards +z) in millimetres with the origin 130 mm behind the nose tip,
unless `NAME.json` stands beside `NAME.obj`: {"landmarks": {"nose_tip": [x, y, z], ...}, "mm_per_unit": 1.0}, then any
frame will do. With "mm_per_unit" left out the landmarks fix the scale too; it can also stand alone. A scan that cannot
be used is left out with a warning.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Collection
from pathlib import Path

import numpy as np

from avatar_kit.conventions import BOX_MAX, MM_PER_UNIT, head_from_landmarks, similarity, transform_points
from avatar_kit.heads import check, surgery
from avatar_kit.types import Array, Head, InputError, Mesh

_FORMATS = (".obj", ".ply", ".stl", ".glb")
_REACH = 1.6  # units: what lies further from the origin cannot matter inside the box


class FolderHeads:
    """The scans of a folder.

    Args:
        scans: names of the files to use; all by default.
        without: names of those to leave.

    Raises:
        InputError: no scans in the folder, or one that is named in `scans` is not.
    """

    name = "folder"

    def __init__(self, folder: Path, *, scans: Collection[str] = (), without: Collection[str] = ()) -> None:
        self._folder = folder
        there = sorted(p for p in folder.iterdir() if p.suffix.lower() in _FORMATS) if folder.is_dir() else []
        if not there:
            raise InputError(f"{folder}: no scans in it. folder:DIR takes a folder of {', '.join(_FORMATS)} files.")
        gone = sorted(set(scans) - {file.name for file in there})
        if gone:
            raise InputError(f"{folder}: lacks {gone[0]}, which was there when the scans were shared out. Put it back.")
        self._files = [file for file in there if file.name not in without and (not scans or file.name in scans)]
        if not self._files:
            raise InputError(f"{folder}: of its {len(there)} scans none are left, all are held out. Add more scans.")
        self._unusable: dict[Path, str] = {}

    def __len__(self) -> int:
        return len(self._files)

    def numbered(self, seed: int, number: int) -> Head:
        """Head `number` of a seed, the same whatever was asked for before: every scan once, in a random order, then again in another.

        In the place of a scan that cannot be used stands another one.

        Raises:
            InputError: as `sample`.
        """
        turn, place = divmod(number, len(self._files))
        file = self._files[int(np.random.default_rng([seed, turn, 2]).permutation(len(self._files))[place])]
        return self._try(file) or self.sample(np.random.default_rng([seed, number]))

    def hold_out(self, count: int) -> tuple[str, ...]:
        """Names of `count` usable scans to score with, fewer where else none would be left; the same for the same files.

        A hash of the name decides, so that scans of one kind, which names often sort together, do not all go.
        """
        usable: list[str] = []
        for file in sorted(self._files, key=lambda file: hashlib.sha256(file.name.encode()).hexdigest()):
            if self._try(file) is not None:
                usable.append(file.name)
            if len(usable) > count:
                break
        return tuple(sorted(usable[: min(count, len(usable) - 1)]))

    def sample(self, rng: np.random.Generator) -> Head:
        """One scan by a random draw, in the head frame, cut to the surroundings of the field's box.

        Raises:
            InputError: no scan of the folder can be used. Some that cannot be are a warning.
        """
        while len(self._unusable) < len(self._files):
            file = self._files[int(rng.integers(len(self._files)))]
            head = self._try(file)  # one that fails is drawn again and not struck off: a head must not depend on those before it
            if head is not None:
                return head
        raise InputError(f"{self._folder}: none of its {len(self._files)} scans can be used. {next(iter(self._unusable.values()))}")

    def _try(self, file: Path) -> Head | None:
        """The scan, or None, with a warning the first time, where it cannot be used."""
        if file in self._unusable:
            return None
        try:
            return self.load(file)
        except InputError as error:
            self._unusable[file] = str(error)
            warnings.warn(f"left out: {error}", stacklevel=3)
            return None

    def load(self, file: Path) -> Head:
        """The scan in `file`.

        Raises:
            InputError: unreadable file, no surface, landmarks that are not enough, or not a head's size, place or pose.
        """
        import trimesh

        try:
            raw = trimesh.load_mesh(file, process=False)
            mesh = Mesh(np.asarray(raw.vertices), np.asarray(raw.faces, np.int32))
        except Exception as error:
            raise InputError(f"{file}: cannot be read as a mesh ({error}). Export it again as .ply or .obj.") from error
        if len(mesh.faces) == 0:
            raise InputError(f"{file}: holds no triangles. A scan must be a surface, not a point cloud.")
        defect = check.surface_defect(mesh)
        if defect:
            raise InputError(f"{file}: {defect}.")
        notes = file.with_suffix(".json")
        points, unit = _read_notes(notes)
        head_from_scan = similarity((unit or 1.0) / MM_PER_UNIT, np.eye(3), np.zeros(3))
        if points:
            to_units = np.eye(4) if unit is None else head_from_scan
            points = {name: transform_points(to_units, p) for name, p in points.items()}
            try:
                head_from_units = head_from_landmarks(points, with_scale=unit is None)
            except ValueError as error:
                raise InputError(f"{notes}: {error}") from error
            head_from_scan = head_from_units @ to_units
            points = {name: transform_points(head_from_units, p) for name, p in points.items()}
        mesh = mesh.transformed(head_from_scan)
        defect = check.size_defect(mesh)
        if defect:
            raise InputError(
                f'{file}: {defect}. Scale it to millimetres, or state its unit in {notes.name}: {{"mm_per_unit": 10}} for centimetres, '
                "1000 for metres."
            )
        corners = mesh.vertices[mesh.faces]
        if not (np.abs(corners.mean(1)) < BOX_MAX).all(1).any():
            raise InputError(
                f"{file}: none of it lies within {MM_PER_UNIT:.0f} mm of the origin, which should be 130 mm behind the nose tip. "
                f"Move it, or state landmarks in {notes.name}."
            )
        near = (np.abs(corners) < _REACH).all((1, 2))
        body = surgery.without_unused(Mesh(mesh.vertices, mesh.faces[near]))
        defect = None if points else check.pose_defect(body)
        if defect:
            raise InputError(f"{file}: {defect}. Turn it so that +y is up and the face looks to +z, or state landmarks in {notes.name}.")
        return Head(file.stem, {"body": body}, {"source": "folder", "file": file.name}, points)


def _read_notes(notes: Path) -> tuple[dict[str, Array], float | None]:
    """The landmarks (each (3,), in the scan's frame and unit) and the unit in mm of a scan's `notes`, where there are any."""
    if not notes.is_file():
        return {}, None
    accepted = 'It should be {"landmarks": {"nose_tip": [x, y, z], ...}, "mm_per_unit": 1.0}, of which either can be left out.'
    try:
        stated = json.loads(notes.read_text())
        points = {str(name): np.asarray(point, float) for name, point in stated.get("landmarks", {}).items()}
        unit = None if stated.get("mm_per_unit") is None else float(stated["mm_per_unit"])
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{notes}: cannot be understood ({error}). {accepted}") from error
    wrong = [name for name, point in points.items() if point.shape != (3,) or not np.isfinite(point).all()]
    if wrong:
        raise InputError(f"{notes}: {', '.join(wrong)} is not three finite numbers. {accepted}")
    if unit is not None and not (math.isfinite(unit) and unit > 0):
        raise InputError(f"{notes}: mm_per_unit is {unit}, not a positive number. {accepted}")
    return points, unit

"""A mesh to fit the prior to, from a file or a scene with its truth, brought into the head frame."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from torch import Tensor

from avatar_kit.conventions import CANONICAL_LANDMARKS, MM_PER_UNIT, head_from_landmarks, scale_of, similarity, transform_points
from avatar_kit.heads.folder import FolderHeads
from avatar_kit.mesh.files import read_mesh
from avatar_kit.prior.fit_mesh import moved_head
from avatar_kit.prior.place import place, upright_starts
from avatar_kit.scene.h3ds import H3dsFolder, read_reference
from avatar_kit.score.protocols import nose_tip
from avatar_kit.types import Array, Head, InputError, Mesh

_EXTENT_MM = (80.0, 3000.0)  # between which the longest side of a head or bust lies
_POINTS = 20_000
_HEAD_RADIUS = 0.8  # units around the nose tip: the head without its shoulders
_CROPS, _FEWEST = 3, 200
_MISFIT = 0.75  # of `place`: beyond, the mesh is no head


@dataclass(frozen=True, eq=False)
class Target:
    """A mesh in the head frame.

    Attributes:
        head: one part, the mesh.
        frame: how its place in the head frame is known, in words.
        estimated: it was estimated, not stated.
        mm_per_head_unit: true millimetres; not 200 where the mesh was scaled to the size of heads.
    """

    head: Head
    frame: str
    estimated: bool
    mm_per_head_unit: float

    def mm_after(self, moved: Array) -> float:
        """True millimetres of a unit once the head was moved by a similarity (4, 4)."""
        return self.mm_per_head_unit / scale_of(moved)


def read_target(path: Path, mean_sdf: Tensor, *, mm_per_unit: float | None = None, in_head_frame: bool = False, seed: int = 0) -> Target:
    """Read a mesh file, or the truth of a scene folder, and bring it into the head frame.

    The frame is that which is stated: by `in_head_frame`, a file's NAME.json (`heads.folder`), a scene's views.json or three
    landmarks. Else it is estimated: the mesh is laid on the mean head, turned in every way, from its nose tip where there is one.

    Args:
        mean_sdf: of the prior's mean head, (n, n, n).
        mm_per_unit: of the mesh; by default what the scene says, else 1.
        in_head_frame: it is there already, but for the unit.

    Raises:
        InputError: no mesh, no head, or not in millimetres.
    """
    if path.is_dir():
        mesh, landmarks, stated, unit = _of_scene(path)
        unit = mm_per_unit or unit
    elif path.with_suffix(".json").is_file() and path.is_file() and not in_head_frame and mm_per_unit is None:
        head = FolderHeads(path.parent).load(path)
        return Target(head, f"stated by {path.with_suffix('.json').name}", False, MM_PER_UNIT)
    else:
        mesh, landmarks, stated, unit = read_mesh(path), {}, None, mm_per_unit or 1.0
    _check_unit(path, mesh, unit)
    if in_head_frame:
        return _target(path, mesh, landmarks, similarity(unit / MM_PER_UNIT, np.eye(3), np.zeros(3)), "stated by the user", False, unit)
    if stated is not None:
        return _target(path, mesh, landmarks, stated, "stated by the scene", False, unit)
    rng = np.random.default_rng(seed)
    shape = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    points = np.asarray(trimesh.sample.sample_surface(shape, _POINTS, seed=seed)[0])
    nose = landmarks.get("nose_tip")
    around_nose = _HEAD_RADIUS * MM_PER_UNIT / unit  # in the mesh's unit
    everything = points
    if nose is not None:  # a bust's shoulders, stand or whole body would outvote its head
        points = points[np.linalg.norm(points - nose, axis=1) < around_nose]
    try:
        head_units: dict[str, Array] = {name: point * unit / MM_PER_UNIT for name, point in landmarks.items()}
        to_units = similarity(unit / MM_PER_UNIT, np.eye(3), np.zeros(3))
        starts, frame = [head_from_landmarks(head_units, with_scale=False) @ to_units], "from landmarks"
    except ValueError:  # too few of them
        starts = upright_starts(points, unit, nose)
        frame = "laid on the mean head" + (" from the nose tip" if nose is not None else "")
    head_from_mesh, misfit = place(points, mean_sdf, starts, rng=rng)
    for _ in range(_CROPS if nose is None else 0):  # the same crop, by where the nose must be
        at = transform_points(np.linalg.inv(head_from_mesh), np.array(CANONICAL_LANDMARKS["nose_tip"]))
        points = everything[np.linalg.norm(everything - at, axis=1) < around_nose]
        if len(points) < _FEWEST:  # there is no head there
            misfit = 1.0
            break
        head_from_mesh, misfit = place(points, mean_sdf, [head_from_mesh], rng=rng)
    if misfit > _MISFIT:
        raise InputError(
            f"{path}: no head was found in it (misfit {misfit:.2f}; heads have less than {_MISFIT}). "
            "State its frame: NAME.json with landmarks beside it (docs/formats.md), or --in-head-frame."
        )
    return _target(path, mesh, landmarks, head_from_mesh, frame, True, unit)


def _target(path: Path, mesh: Mesh, landmarks: dict[str, Array], head_from_mesh: Array, frame: str, estimated: bool, unit: float) -> Target:
    head = Head(path.resolve().stem, {"body": mesh}, {"source": str(path)}, landmarks)
    return Target(moved_head(head, head_from_mesh), frame, estimated, unit / scale_of(head_from_mesh))


def _of_scene(path: Path) -> tuple[Mesh, dict[str, Array], Array | None, float]:
    """Mesh, landmarks (3,) each, head_from_world where it is stated, and the unit in mm."""
    reference = read_reference(path)
    if reference is None:
        raise InputError(f"{path}/full_head.obj: missing. Give a scene with its true mesh, or a mesh file.")
    landmarks = {name: reference.mesh.vertices[index] for name, index in reference.landmarks.items()}
    if "nose" in landmarks:
        landmarks["nose_tip"] = nose_tip(reference)
    if not (path / "cameras.npz").is_file():
        return reference.mesh, landmarks, None, 1.0
    folder = H3dsFolder(path)
    stated = folder.notes.get("head_from_world")
    return reference.mesh, landmarks, None if stated is None else np.asarray(stated, float), folder.mm_per_world_unit


def _check_unit(path: Path, mesh: Mesh, unit: float) -> None:
    if not np.isfinite(mesh.vertices).all():
        raise InputError(f"{path}: holds vertices that are not finite. Export it again.")
    extent = float(np.ptp(mesh.vertices, axis=0).max()) * unit
    if not _EXTENT_MM[0] <= extent <= _EXTENT_MM[1]:
        raise InputError(
            f"{path}: its longest side is {extent:.3g} mm, which no head has. "
            "Give its unit: --mm-per-unit 1000 for metres, 10 for centimetres, 25.4 for inches."
        )

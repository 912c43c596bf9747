"""What cannot be compared is refused, each kind with its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import trimesh

from avatar_kit.mesh.files import read_mesh, write_mesh, write_obj
from avatar_kit.scene.h3ds import read_reference
from avatar_kit.score.checks import check_prediction, check_truth
from avatar_kit.score.evaluate import evaluate_path
from avatar_kit.types import InputError, Mesh, Reference


@pytest.fixture
def head() -> Mesh:
    """A ball of a head's size, millimetres."""
    shape = trimesh.creation.icosphere(subdivisions=3, radius=100.0)
    return Mesh(np.asarray(shape.vertices), np.asarray(shape.faces, np.int32))


def scaled(mesh: Mesh, factor: float) -> Mesh:
    return replace(mesh, vertices=mesh.vertices * factor)


def torn(mesh: Mesh) -> Mesh:
    vertices = mesh.vertices.copy()
    vertices[7] = np.nan
    return replace(mesh, vertices=vertices)


def test_sound_ones_pass_in_any_stated_unit(head: Mesh) -> None:
    check_truth(Reference(head, {}, None), 1.0, "truth")
    check_truth(Reference(scaled(head, 0.001), {}, None), 1000.0, "truth")
    check_prediction(scaled(head, 1.3), Reference(head, {}, None), "ours")
    far = np.array([[2000.0, 0, 0], [2001, 0, 0], [2000, 1, 0]])
    floaters = Mesh(np.concatenate([head.vertices, far]), np.concatenate([head.faces, [[642, 643, 644]]]).astype(np.int32))
    check_prediction(floaters, Reference(head, {}, None), "ours")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda mesh: scaled(mesh, 0.001), "a .glb is in metres"),
        (lambda mesh: scaled(mesh, 0.1), "0.1 times as large"),
        (lambda mesh: replace(mesh, faces=mesh.faces[:0]), "no triangles"),
        (torn, "1 of its 642 vertices"),
    ],
)
def test_predictions_that_say_nothing_are_refused(head: Mesh, broken: Callable[[Mesh], Mesh], words: str) -> None:
    with pytest.raises(InputError, match=f"^ours: .*{words}"):
        check_prediction(broken(head), Reference(head, {}, None), "ours")


@pytest.mark.parametrize(
    ("broken", "words"),
    [(lambda mesh: scaled(mesh, 0.001), "metres.*views.json"), (lambda mesh: replace(mesh, faces=mesh.faces[:0]), "no tri")],
)
def test_truths_that_say_nothing_are_refused(head: Mesh, broken: Callable[[Mesh], Mesh], words: str) -> None:
    with pytest.raises(InputError, match=f"^full_head.obj: .*{words}"):
        check_truth(Reference(broken(head), {}, None), 1.0, "full_head.obj")


def test_files_in_metres_are_named(head: Mesh, tmp_path: Path) -> None:
    write_mesh(tmp_path / "truth.ply", head)
    write_mesh(tmp_path / "small.ply", scaled(head, 0.001))
    with pytest.raises(InputError, match=r"small.ply: is 0.001 times"):
        evaluate_path(tmp_path / "small.ply", tmp_path / "truth.ply")
    with pytest.raises(InputError, match=r"small.ply: its vertices lie 0.1 mm .* Is it in metres"):  # both: 0.0 mm apart otherwise
        evaluate_path(tmp_path / "small.ply", tmp_path / "small.ply")


def test_files_without_faces_are_no_meshes(tmp_path: Path) -> None:
    (tmp_path / "points.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\n")
    (tmp_path / "empty.ply").write_bytes(b"")
    for name in ("points.obj", "empty.ply"):
        with pytest.raises(InputError, match=name):
            read_mesh(tmp_path / name)


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("full_head.obj", "v 0 0 0\n", r"full_head.obj: (holds no triangles|cannot be read)"),
        ("full_head.obj", "v 0 0 0\nf 1 2\n", r"full_head.obj: (holds no triangles|cannot be read)"),
        ("landmarks.txt", "nose_tip\n", r"landmarks.txt: .*name of a landmark"),
        ("landmarks.txt", "nose_tip 642\n", r"landmarks.txt: 642 is no vertex of full_head.obj, which has 642"),
        ("regions/face_sphere.txt", "1\ntwo\n", r"face_sphere.txt: .*number of a vertex"),
        ("regions/face_sphere.txt", "-1\n", r"face_sphere.txt: -1 is no vertex"),
    ],
)
def test_a_scenes_truth_that_is_broken_is_named(head: Mesh, tmp_path: Path, file: str, text: str, words: str) -> None:
    write_obj(tmp_path / "full_head.obj", head)
    (tmp_path / "regions").mkdir()
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=words):
        read_reference(tmp_path)

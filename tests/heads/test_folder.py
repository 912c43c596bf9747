"""Folders of scans: what cannot be a head is left out and said, the rest goes on."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from avatar_kit.conventions import CANONICAL_LANDMARKS, MM_PER_UNIT
from avatar_kit.heads.folder import FolderHeads
from avatar_kit.heads.sampler import HeadSampler, open_source
from avatar_kit.heads.surgery import simplified
from avatar_kit.scene.h3ds import read_reference
from avatar_kit.types import Array, InputError, Mesh

DEMO = Path(str(resources.files("avatar_kit") / "weights" / "demo"))


@pytest.fixture(scope="module")
def scan() -> Mesh:
    """The bundled head, in the head frame's axes and millimetres."""
    reference = read_reference(DEMO)
    assert reference is not None
    mesh = simplified(reference.mesh, 20_000)
    nose = reference.mesh.vertices[reference.landmarks["nose_tip"]]
    return Mesh(mesh.vertices - nose + (0, 0, 130), mesh.faces)


def write(file: Path, vertices: Array, faces: Array, **notes: object) -> Path:
    trimesh.Trimesh(vertices, faces, process=False).export(file)
    if notes:
        file.with_suffix(".json").write_text(json.dumps(notes))
    return file


def load(file: Path) -> Mesh:
    return FolderHeads(file.parent).load(file).parts["body"]


def test_a_scan_in_millimetres_is_taken_as_it_is(scan: Mesh, tmp_path: Path) -> None:
    body = load(write(tmp_path / "scan.ply", scan.vertices, scan.faces))
    corners = scan.vertices[scan.faces] / MM_PER_UNIT
    corners = corners[(np.abs(corners) < 1.6).all((1, 2))].reshape(-1, 3)
    assert len(body.faces) == len(corners) / 3
    np.testing.assert_allclose(body.bounds, [corners.min(0), corners.max(0)], atol=1e-5)


def test_folders_without_scans_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no scan")
    with pytest.raises(InputError, match=rf"{tmp_path.name}: no scans in it"):
        FolderHeads(tmp_path)


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".stl", ".glb"])
def test_vertices_that_are_no_numbers_are_named(suffix: str, scan: Mesh, tmp_path: Path) -> None:
    vertices = scan.vertices.copy()
    vertices[[20, 31]] = np.nan
    with pytest.raises(InputError, match=rf"scan\{suffix}: .* vertices are not finite"):
        load(write(tmp_path / f"scan{suffix}", vertices, scan.faces))


def test_a_vertex_that_no_triangle_uses_may_be_anything(scan: Mesh, tmp_path: Path) -> None:
    vertices = np.concatenate([scan.vertices, [[np.nan] * 3]])
    assert np.isfinite(load(write(tmp_path / "scan.ply", vertices, scan.faces)).vertices).all()


def test_meshes_of_no_area_are_named(scan: Mesh, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"point\.ply: its triangles have no area"):
        load(write(tmp_path / "point.ply", np.zeros_like(scan.vertices), scan.faces))
    with pytest.raises(InputError, match=r"line\.ply: its triangles have no area"):
        load(write(tmp_path / "line.ply", scan.vertices, scan.faces[:, [0, 0, 1]]))


@pytest.mark.parametrize(("unit", "mm"), [("metres", 1000), ("centimetres", 10)])
def test_other_units_are_detected_and_can_be_stated(unit: str, mm: int, scan: Mesh, tmp_path: Path) -> None:
    vertices = scan.vertices / mm
    with pytest.raises(InputError, match=rf"scan\.ply: it is .* seems to be in {unit}, .* one unit is {mm} mm\. .* scan\.json"):
        load(write(tmp_path / "scan.ply", vertices, scan.faces))
    stated = load(write(tmp_path / "stated.ply", vertices, scan.faces, mm_per_unit=mm))
    truth = load(write(tmp_path / "truth.ply", scan.vertices, scan.faces))
    np.testing.assert_allclose(stated.vertices, truth.vertices, atol=1e-5)


def test_a_size_of_no_unit_is_named(scan: Mesh, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"scan\.ply: it is .* no head's size"):
        load(write(tmp_path / "scan.ply", scan.vertices / 1e6, scan.faces))


def test_a_scan_far_from_the_origin_is_named(scan: Mesh, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"scan\.ply: none of it lies within 200 mm"):
        load(write(tmp_path / "scan.ply", scan.vertices + 3000, scan.faces))


@pytest.mark.parametrize(
    ("axis", "degrees", "how"), [("z", 180, "be upside down"), ("x", 180, "be upside down"), ("x", 90, "lie"), ("x", -90, "lie")]
)
def test_turned_heads_are_said_and_landmarks_turn_them(axis: str, degrees: float, how: str, scan: Mesh, tmp_path: Path) -> None:
    turn = Rotation.from_euler(axis, degrees, degrees=True)
    file = write(tmp_path / "scan.ply", turn.apply(scan.vertices), scan.faces)
    with pytest.raises(InputError, match=rf"scan\.ply: it seems to {how}.* by {abs(degrees)} degrees .*scan\.json"):
        load(file)
    landmarks = {name: (turn.apply(point) * MM_PER_UNIT).tolist() for name, point in CANONICAL_LANDMARKS.items()}
    file.with_suffix(".json").write_text(json.dumps({"landmarks": landmarks, "mm_per_unit": 1}))
    truth = load(write(tmp_path / "truth.ply", scan.vertices, scan.faces))
    np.testing.assert_allclose(load(file).vertices, truth.vertices, atol=1e-5)


def test_slight_turns_and_parts_of_a_head_are_no_defect(scan: Mesh, tmp_path: Path) -> None:
    for i, (pitch, yaw) in enumerate([(25, 0), (-25, 0), (0, 40), (0, -40), (15, 30)]):
        turned = Rotation.from_euler("YX", [yaw, pitch], degrees=True).apply(scan.vertices)
        load(write(tmp_path / f"turned_{i}.ply", turned, scan.faces))
    centre = scan.vertices[scan.faces].mean(1)
    load(write(tmp_path / "face.ply", scan.vertices, scan.faces[centre[:, 2] > 20]))
    load(write(tmp_path / "no_neck.ply", scan.vertices, scan.faces[centre[:, 1] > -80]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be understood"),
        ("[]", "cannot be understood"),
        ('{"mm_per_unit": 0}', "not a positive number"),
        ('{"mm_per_unit": "cm"}', "cannot be understood"),
        ('{"landmarks": {"nose_tip": [0, 1]}}', "nose_tip is not three finite numbers"),
        ('{"landmarks": {"nose_tip": [0, 1, 2]}}', "at least three"),
    ],
)
def test_wrong_notes_are_named(text: str, message: str, scan: Mesh, tmp_path: Path) -> None:
    file = write(tmp_path / "scan.ply", scan.vertices, scan.faces)
    file.with_suffix(".json").write_text(text)
    with pytest.raises(InputError, match=rf"scan\.json: .*{message}"):
        load(file)


def test_bad_scans_are_left_out_and_the_rest_goes_on(scan: Mesh, tmp_path: Path) -> None:
    """A head is the same whatever was asked for before it."""
    write(tmp_path / "a_good.ply", scan.vertices, scan.faces)
    write(tmp_path / "b_metres.ply", scan.vertices / 1000, scan.faces)
    (tmp_path / "c_broken.ply").write_text("nothing")
    write(tmp_path / "d_good.ply", scan.vertices * 1.1, scan.faces)
    source = FolderHeads(tmp_path)
    with pytest.warns(UserWarning, match="left out") as said:
        names = [source.sample(np.random.default_rng(seed)).name for seed in range(12)]
    assert set(names) == {"a_good", "d_good"}
    assert sorted(Path(str(one.message).split(": ")[1]).name for one in said) == ["b_metres.ply", "c_broken.ply"]  # each once
    with pytest.warns(UserWarning, match="left out"):
        again = [FolderHeads(tmp_path).sample(np.random.default_rng(seed)).name for seed in reversed(range(12))]
    assert again[::-1] == names
    for file in tmp_path.glob("*_good.ply"):
        file.unlink()
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(InputError, match=r"none of its 2 scans can be used\. .*(metres|c_broken)"),
    ):
        FolderHeads(tmp_path).sample(np.random.default_rng(0))


def balls(folder: Path, count: int) -> None:
    for i in range(count):
        ball = trimesh.creation.icosphere(subdivisions=3, radius=90 + i)
        write(folder / f"ball_{i}.ply", np.asarray(ball.vertices), np.asarray(ball.faces))


def test_every_scan_has_its_turn_before_one_comes_again(tmp_path: Path) -> None:
    balls(tmp_path, 5)
    sampler = HeadSampler(FolderHeads(tmp_path), seed=3)
    files = [sampler.head(number).attributes["file"] for number in range(15)]
    rounds = [files[:5], files[5:10], files[10:]]
    assert all(len(set(names)) == 5 for names in rounds)
    assert rounds[0] != rounds[1] or rounds[1] != rounds[2]  # in another order
    again = HeadSampler(open_source(f"folder:{tmp_path}"), seed=3)  # as in another process, and in another order
    assert [again.head(number).attributes["file"] for number in reversed(range(15))] == files[::-1]
    assert [HeadSampler(FolderHeads(tmp_path), seed=4).head(number).attributes["file"] for number in range(15)] != files


def test_in_the_place_of_a_bad_scan_stands_another(tmp_path: Path) -> None:
    balls(tmp_path, 4)
    (tmp_path / "ball_2.ply").write_text("nothing")
    names = []
    for numbers in (range(8), reversed(range(8))):
        source = FolderHeads(tmp_path)
        with pytest.warns(UserWarning, match=r"left out: .*ball_2\.ply"):
            names.append({number: source.numbered(0, number).name for number in numbers})
    assert names[0] == names[1]
    assert set(names[0].values()) == {"ball_0", "ball_1", "ball_3"}


def test_scans_to_hold_out_are_usable_and_leave_some(tmp_path: Path) -> None:
    balls(tmp_path, 6)
    held_out = FolderHeads(tmp_path).hold_out(2)
    assert len(held_out) == 2
    assert FolderHeads(tmp_path).hold_out(2) == held_out
    assert set(held_out) < set(FolderHeads(tmp_path).hold_out(4))
    rest = FolderHeads(tmp_path, without=held_out)
    assert {rest.numbered(0, number).attributes["file"] for number in range(4)}.isdisjoint(held_out)
    assert {FolderHeads(tmp_path, scans=held_out).numbered(0, number).attributes["file"] for number in range(2)} == set(held_out)
    for name in held_out:
        (tmp_path / name).write_text("nothing")
    with pytest.warns(UserWarning, match="left out"):
        assert set(FolderHeads(tmp_path).hold_out(2)).isdisjoint(held_out)
    with pytest.warns(UserWarning, match="left out"):
        assert len(FolderHeads(tmp_path).hold_out(6)) == 3  # of four that can be used
    (tmp_path / held_out[0]).unlink()
    with pytest.raises(InputError, match=rf"lacks {held_out[0]}"):
        FolderHeads(tmp_path, scans=held_out)

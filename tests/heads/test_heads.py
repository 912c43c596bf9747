"""Head sources: closed parts in the head frame, balanced attributes, reproducible draws."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from avatar_kit.conventions import CANONICAL_LANDMARKS, head_from_landmarks, rotation_xyz_deg, similarity, transform_points
from avatar_kit.heads import hair, surgery
from avatar_kit.heads.makehuman import carry, closed_volume
from avatar_kit.heads.mouth import mouth_filling
from avatar_kit.heads.sampler import HeadSampler, open_source
from avatar_kit.kernels.mesh_queries import MeshQueries, UnionQueries
from avatar_kit.mesh.topology import Topology, topology
from avatar_kit.score.protocols import is_watertight
from avatar_kit.types import Head, InputError, Mesh


def check_head(head: Head) -> None:
    """What every head must be: in the frame, solid where it should be, hollow where it should not."""
    assert np.linalg.norm(head.landmarks["nose_tip"] - CANONICAL_LANDMARKS["nose_tip"]) < 0.12  # 24 mm
    probe = torch.tensor([[0.0, 0.2, 0.0], [0.0, -0.25, 0.3], [0.0, 0.0, 0.98], [0.9, 0.6, 0.9], [0.0, 1.0, 0.0]])
    sign = UnionQueries(list(head.parts.values())).signed_distance(probe) < 0
    assert sign.tolist() == [True, True, False, False, False], head.attributes
    left, right = head.landmarks["eye_left_outer"], head.landmarks["eye_right_outer"]
    assert left[0] > right[0] + 0.3
    assert head.landmarks["sellion"][1] > head.landmarks["chin"][1] + 0.35


def check_mouth(head: Head) -> None:
    """Solid from 6 to 30 mm behind the lips, which stay as they are."""
    filling = mouth_filling(head)
    assert filling is not None
    assert is_watertight(filling)
    lips = filling.vertices[:, 2].max() + 0.03
    behind = torch.tensor([[0.0, -0.172, lips - depth] for depth in np.linspace(0.04, 0.15, 8)], dtype=torch.float32)
    assert (MeshQueries(filling).signed_distance(behind) < -0.005).all()
    body = head.parts["body"]
    front = (body.vertices[:, 2] > lips - 0.02) & (np.abs(body.vertices[:, 1] + 0.172) < 0.06)
    assert front.any()
    assert (MeshQueries(filling).signed_distance(torch.from_numpy(body.vertices[front]).float()) > 0).all()


def test_scans_get_no_filling(sphere: Mesh) -> None:
    assert mouth_filling(Head("scan", {"body": sphere}, {"source": "folder"})) is None


def test_landmarks_bring_any_frame_to_the_head_frame(rng: np.random.Generator) -> None:
    moved = similarity(37.0, rotation_xyz_deg(20, -130, 60), np.array([4.0, -5, 6]))
    points = {name: transform_points(moved, np.array(p)) for name, p in CANONICAL_LANDMARKS.items()}
    back = head_from_landmarks(points, with_scale=True)
    np.testing.assert_allclose(back @ moved, np.eye(4), atol=1e-9)
    with pytest.raises(ValueError, match="at least three"):
        head_from_landmarks({"nose_tip": np.zeros(3), "unknown": np.zeros(3)}, with_scale=True)


def test_holes_are_found_and_closed(sphere: Mesh) -> None:
    centre = sphere.vertices[sphere.faces].mean(1)
    kept = (centre[:, 2] < 0.4) & (centre[:, 0] > -0.4)
    holed = surgery.without_unused(Mesh(sphere.vertices, sphere.faces[kept]))
    assert len(surgery.boundary_loops(holed.faces)) == 2
    closed = surgery.close_holes(holed)
    assert is_watertight(closed)
    assert (MeshQueries(closed).signed_distance(torch.zeros(1, 3)) < 0).all()


def test_cut_by_plane_is_closed_and_flat(sphere: Mesh) -> None:
    cut = surgery.cut_by_plane(sphere, np.array([0, -0.2, 0]), np.array([0, 1.0, 0]))
    assert cut.vertices[:, 1].min() == pytest.approx(-0.2)
    assert is_watertight(cut)
    assert len(surgery.cut_by_plane(sphere, np.array([0, 2.0, 0]), np.array([0, 1.0, 0])).faces) == 0


@pytest.fixture(scope="module")
def ball_head() -> Mesh:
    """Something with a skull and a neck: an ellipsoid on a cylinder."""
    skull = trimesh.creation.icosphere(subdivisions=4, radius=1.0)
    skull.apply_scale((0.4, 0.55, 0.5))
    skull.apply_translation((0, 0.2, 0.05))
    return Mesh(np.asarray(skull.vertices), np.asarray(skull.faces, np.int32))


@pytest.mark.parametrize("style", hair.STYLES)
def test_hair_is_a_closed_volume_that_leaves_the_face_free(style: str, ball_head: Mesh, rng: np.random.Generator) -> None:
    grid = hair.head_grid(ball_head)
    volume = hair.hair_volume(grid, style, rng)
    if style == "none":
        assert volume is None
        return
    assert volume is not None
    assert is_watertight(volume)
    queries = MeshQueries(volume)
    face = torch.tensor([[0.0, 0.1, 0.56], [0.1, -0.1, 0.55]])
    assert (queries.signed_distance(face) > 0).all()
    back = torch.tensor([[0.0, 0.45, -0.41]])
    assert queries.signed_distance(back).item() < 0.03


def test_strips_of_hair_become_solid(ball_head: Mesh) -> None:
    """Strips 12 mm above the skin, with gaps of 12 mm between them, and one lock in the air: one solid without handles."""
    shell = trimesh.creation.icosphere(subdivisions=5, radius=1.0)
    shell.apply_scale((0.46, 0.61, 0.56))
    shell.apply_translation((0, 0.2, 0.05))
    centre = shell.triangles_center
    azimuth = np.arctan2(centre[:, 0], centre[:, 2] - 0.05)
    kept = (centre[:, 1] > 0.3) & (np.mod(azimuth, np.pi / 12) < np.pi / 24)
    lock = trimesh.creation.icosphere(subdivisions=2, radius=0.05).apply_translation((0.8, 0.6, 0))
    strips = trimesh.util.concatenate([shell.submesh([kept], append=True), lock])
    volume = closed_volume(Mesh(np.asarray(strips.vertices), np.asarray(strips.faces, np.int32)), hair.head_grid(ball_head))
    assert volume is not None
    assert topology(volume) == Topology(components=1, genus=0, boundary_loops=0, boundary_edges=0)
    angle = torch.arange(0, 2 * np.pi, np.pi / 48)
    around = torch.stack([torch.sin(angle), torch.full_like(angle, 0.5), torch.cos(angle)], -1)
    for scale in (1.02, 1.12):  # just above the skin; at the strips
        points = around * torch.tensor([0.4, 0.55, 0.5]) * scale * torch.tensor([0.866, 1.0, 0.866]) + torch.tensor([0, 0.2, 0.05])
        assert (MeshQueries(volume).signed_distance(points) < 0).all()


def test_long_hair_hangs_lower_than_short(ball_head: Mesh) -> None:
    grid = hair.head_grid(ball_head)
    low = {
        style: np.mean([hair.hair_volume(grid, style, np.random.default_rng(i)).vertices[:, 1].min() for i in range(3)])
        for style in ("short", "long")
    }
    assert low["long"] < low["short"] - 0.1


@pytest.mark.parametrize("kind", ["neckline", "collar", "hood"])
def test_clothes_are_closed_volumes(kind: str, ball_head: Mesh, rng: np.random.Generator) -> None:
    neck = trimesh.creation.cylinder(radius=0.3, height=1.2, sections=32)
    neck.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, (1, 0, 0)))
    neck.apply_translation((0, -0.7, -0.05))
    body = Mesh(
        np.concatenate([ball_head.vertices, neck.vertices]),
        np.concatenate([ball_head.faces, neck.faces + len(ball_head.vertices)]).astype(np.int32),
    )
    volume = hair.clothes_volume(hair.head_grid(body), kind, rng)
    assert volume is not None
    assert is_watertight(volume)


def test_styles_follow_the_head_they_are_carried_to(sphere: Mesh, rng: np.random.Generator) -> None:
    moved = similarity(2.0, rotation_xyz_deg(5, 10, -4), np.array([1.0, 2, 3]))
    points = sphere.vertices[::7] * 1.1
    carried = carry(points, sphere.vertices, transform_points(moved, sphere.vertices))
    np.testing.assert_allclose(carried, transform_points(moved, points), atol=1e-6)


def test_ict_heads(shared: Path) -> None:
    source = open_source(f"ict:{shared / 'heads/ict_facekit_light.npz'}")
    for i in range(3):
        check_head(source.sample(np.random.default_rng(i)))


def test_anny_heads_with_hair() -> None:
    """The only test that builds Anny; the first time on a machine this takes a minute."""
    sampler = HeadSampler(open_source("anny"), seed=3)
    heads = [sampler.head(i) for i in range(6)]
    for head in heads:
        check_head(head)
        assert is_watertight(head.parts["body"]) or "clothes" in head.parts or head.attributes["hair"]
        check_mouth(head)
    again = HeadSampler(sampler.source, seed=3).head(4)
    np.testing.assert_array_equal(again.parts["body"].vertices, heads[4].parts["body"].vertices)
    assert {"gender", "age", "hair", "clothes"} <= set(heads[0].attributes)
    assert not np.allclose(heads[0].parts["body"].vertices[:100], heads[1].parts["body"].vertices[:100])


def test_folder_of_scans_in_any_frame(tmp_path: Path, sphere: Mesh) -> None:
    moved = similarity(200.0, rotation_xyz_deg(10, 70, 0), np.array([100.0, 50, 0]))
    trimesh.Trimesh(transform_points(moved, sphere.vertices), sphere.faces).export(tmp_path / "scan.ply")
    landmarks = {name: transform_points(moved, np.array(p)).tolist() for name, p in CANONICAL_LANDMARKS.items()}
    (tmp_path / "scan.json").write_text(json.dumps({"landmarks": landmarks, "mm_per_unit": 1.0}))
    head = open_source(f"folder:{tmp_path}").sample(np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(head.parts["body"].vertices, axis=1), 0.5, atol=1e-5)


@pytest.mark.parametrize(
    ("spec", "message"), [("smpl", "unknown source"), ("ict:nowhere.npz", "no such file"), ("folder:nowhere", "no such file or folder")]
)
def test_unknown_sources_are_named(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_source(spec)

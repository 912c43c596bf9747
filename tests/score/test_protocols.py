"""Metrics: known damages make them worse by known amounts, and the h3ds protocol is the package's."""

from __future__ import annotations

import importlib.util
import json
import sys
import types

import numpy as np
import pytest
import trimesh

from avatar_kit.conventions import rotation_xyz_deg, similarity
from avatar_kit.render.visibility import visible_vertices
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.score.distances import nearest
from avatar_kit.score.paper import _without_close, paper_score, sample_evenly
from avatar_kit.score.protocols import as_json, f_score, h3ds_score, is_watertight, metric_score
from avatar_kit.types import InputError, Mesh, Reference, concatenate


@pytest.fixture
def truth() -> Reference:
    """An ellipsoid of 160 x 220 x 200 mm; the nose tip is its foremost vertex."""
    shape = trimesh.creation.icosphere(subdivisions=5)
    mesh = Mesh(np.asarray(shape.vertices) * (80.0, 110.0, 100.0), np.asarray(shape.faces, np.int32))
    return Reference(mesh, {"nose_tip": int(mesh.vertices[:, 2].argmax())}, None)


def grown(mesh: Mesh, mm: float) -> Mesh:
    normals = mesh.vertices / np.square([80.0, 110.0, 100.0])
    return Mesh(mesh.vertices + mm * normals / np.linalg.norm(normals, axis=1, keepdims=True), mesh.faces)


def test_a_perfect_mesh_scores_zero(truth: Reference) -> None:
    metric, h3ds = metric_score(truth.mesh, truth), h3ds_score(truth.mesh, truth)
    assert metric.face_mm < 1e-4
    assert h3ds.face_mm < 1e-3
    assert metric.watertight
    assert metric.normal_deg < 2.0  # vertex against face normals


def test_metric_measures_an_offset_to_the_digit(truth: Reference) -> None:
    score = metric_score(grown(truth.mesh, 2.0), truth)
    assert score.face_mm == pytest.approx(2.0, abs=0.02)
    assert score.head_mm == pytest.approx(2.0, abs=0.02)
    assert score.face_reverse_mm == pytest.approx(2.0, abs=0.02)


def test_what_cameras_see_is_told_from_what_they_do_not(truth: Reference) -> None:
    """A head that is 3 mm too large behind, photographed from before."""
    behind = truth.mesh.vertices[:, 2] < 0
    grows = grown(truth.mesh, 3.0).vertices
    half = Mesh(np.where(behind[:, None], grows, truth.mesh.vertices), truth.mesh.faces)
    camera = orbit_camera(yaw_deg=0.0, pitch_deg=0.0, distance=2000.0, target=np.zeros(3), focal_px=400.0, size=128)
    score = metric_score(half, truth, cameras=(camera,))
    assert score.head_visible_mm < 0.1
    assert score.head_unseen_mm == pytest.approx(3.0, abs=0.3)


def test_ninety_per_cent_of_the_face_is_nearer_than_its_percentile(truth: Reference) -> None:
    nose = truth.mesh.vertices[truth.landmarks["nose_tip"]]
    away = np.linalg.norm(truth.mesh.vertices - nose, axis=1)
    cap = away < np.quantile(away[away < 95], 0.15)  # of the face; they lie 6 mm further out
    bumpy = Mesh(np.where(cap[:, None], grown(truth.mesh, 6.0).vertices, truth.mesh.vertices), truth.mesh.faces)
    score = h3ds_score(bumpy, truth)
    assert score.face_p90_mm > 2.5 * score.face_mm
    assert score.face_p90_mm < 6.0


def test_h3ds_absorbs_a_size_error_and_metric_does_not(truth: Reference) -> None:
    smaller = Mesh(truth.mesh.vertices * 0.95, truth.mesh.faces)
    h3ds = h3ds_score(smaller, truth)
    assert h3ds.face_mm < 0.35 * h3ds.face_raw_mm
    assert h3ds.scale == pytest.approx(1 / 0.95, abs=0.03)
    assert metric_score(smaller, truth).head_mm > 4.0


def test_h3ds_undoes_a_motion(truth: Reference) -> None:
    moved = truth.mesh.transformed(similarity(1.0, rotation_xyz_deg(2.0, 3.0, -1.0), np.array([2.0, 1.0, -1.5])))
    assert h3ds_score(moved, truth).face_mm < 0.5 * h3ds_score(moved, truth).face_raw_mm


def test_noise_and_missing_parts_make_it_worse(truth: Reference, rng: np.random.Generator) -> None:
    noisy = Mesh(truth.mesh.vertices + rng.normal(0, 1.0, truth.mesh.vertices.shape), truth.mesh.faces)
    assert metric_score(noisy, truth).normal_deg > metric_score(truth.mesh, truth).normal_deg + 5
    kept = truth.mesh.vertices[truth.mesh.faces][..., 1].max(1) < 60
    topless = Mesh(truth.mesh.vertices, truth.mesh.faces[kept])
    score = metric_score(topless, truth)
    assert score.head_mm > 1.0
    assert not score.watertight


LANDMARKS = ("right_eye", "left_eye", "nose_tip", "nose_base", "right_lips", "left_lips")


def bumpy(rng: np.random.Generator, subdivisions: int) -> Mesh:
    """A head-sized ellipsoid with random smooth bumps."""
    shape = trimesh.creation.icosphere(subdivisions=subdivisions)
    at = np.asarray(shape.vertices)
    waves, phases = rng.normal(0, 2.0, (6, 3)), rng.uniform(0, 6, 6)
    height = 1 + 0.02 * np.sin(at @ waves.T + phases).sum(1)
    return Mesh(at * height[:, None] * (80.0, 110.0, 100.0), np.asarray(shape.faces, np.int32))


@pytest.mark.parametrize("with_landmarks", [False, True])
def test_h3ds_protocol_is_the_packages_to_the_digit(
    with_landmarks: bool, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`evaluate_scene` of h3ds 0.4.0 on 20 random pairs, its data replaced by ours and NumPy's old name for int restored."""
    monkeypatch.setattr(np, "int", int, raising=False)
    for name in ("gdown", "toml"):  # for downloads and configurations, which are not used here
        if importlib.util.find_spec(name) is None:
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    package = pytest.importorskip("h3ds.dataset", reason="the h3ds package is not installed")
    from h3ds.mesh import Mesh as PackageMesh

    def theirs(mesh: Mesh) -> PackageMesh:
        made = PackageMesh()
        made.vertices, made.faces = mesh.vertices.copy(), mesh.faces.copy()
        return made

    for _ in range(20):
        truth, predicted = bumpy(rng, 4), bumpy(rng, 4)
        predicted = predicted.transformed(similarity(rng.uniform(0.95, 1.05), rotation_xyz_deg(*rng.normal(0, 3, 3)), rng.normal(0, 3, 3)))
        corners = {name: int(rng.integers(len(truth.vertices))) for name in LANDMARKS}
        reference = Reference(truth, corners, None)
        region = np.flatnonzero(np.linalg.norm(truth.vertices - truth.vertices[corners["nose_tip"]], axis=1) < 95)
        scene = package.H3DS.__new__(package.H3DS)
        scene.load_mesh = lambda _, truth=truth: theirs(truth)
        scene.load_landmarks = lambda _, corners=corners: corners
        scene.load_region = lambda _, name, region=region: region
        given = corners if with_landmarks else None
        face, _, _, _ = scene.evaluate_scene("x", theirs(predicted), given, "face_sphere")
        head, _, _, _ = scene.evaluate_scene("x", theirs(predicted), given)
        score = h3ds_score(predicted, reference, landmarks=given)
        assert score.face_mm == pytest.approx(face.mean(), abs=1e-6)
        assert score.head_mm == pytest.approx(head.mean(), abs=1e-6)


def test_landmarks_that_lack_a_name_are_refused(truth: Reference) -> None:
    with pytest.raises(InputError, match="nose_tip"):
        h3ds_score(truth.mesh, truth, landmarks={"chin": 0})


def test_what_no_view_sees_is_told_apart(truth: Reference) -> None:
    camera = orbit_camera(yaw_deg=0, pitch_deg=0, distance=900, target=np.zeros(3), focal_px=800, size=400)
    visible = visible_vertices(truth.mesh, (camera,), tolerance=1.0)
    assert visible[truth.mesh.vertices[:, 2] > 30].all()
    assert not visible[truth.mesh.vertices[:, 2] < 0].any()


def test_a_reference_without_a_nose_is_rejected(truth: Reference) -> None:
    with pytest.raises(InputError, match="nose_tip"):
        metric_score(truth.mesh, Reference(truth.mesh, {}, None))


def test_a_face_region_does_without_a_nose(truth: Reference) -> None:
    """As the message for a reference that has neither says."""
    nose = truth.mesh.vertices[truth.landmarks["nose_tip"]]
    region = np.flatnonzero(np.linalg.norm(truth.mesh.vertices - nose, axis=1) < 95)
    stated, bigger = Reference(truth.mesh, {}, region), grown(truth.mesh, 2.0)
    score, with_nose = metric_score(bigger, stated), metric_score(bigger, truth)
    assert score.face_mm == with_nose.face_mm
    assert score.face_reverse_mm == pytest.approx(2.0, abs=0.02)
    assert score.f1_1mm == with_nose.f1_1mm == 0.0
    assert score.f1_5mm == with_nose.f1_5mm == 1.0
    behind = Mesh(bigger.vertices * np.where(bigger.vertices[:, 2:] < -50, 1.5, 1.0), bigger.faces)
    assert metric_score(behind, stated).face_reverse_mm == pytest.approx(2.0, abs=0.02)  # the back of the head is no face
    assert h3ds_score(bigger, stated).face_mm == h3ds_score(bigger, truth).face_mm
    with pytest.raises(InputError, match=r"region is empty.*face_sphere\.txt"):
        metric_score(bigger, Reference(truth.mesh, truth.landmarks, region[:0]))


def test_what_is_not_known_is_none_in_json(truth: Reference) -> None:
    found = as_json(metric_score(truth.mesh, truth))
    assert found["head_visible_mm"] is None
    assert found["head_unseen_mm"] is None
    assert found["watertight"] is True
    json.dumps(found, allow_nan=False)


def test_watertightness_sees_a_missing_and_a_flipped_face(sphere: Mesh) -> None:
    assert is_watertight(sphere)
    assert not is_watertight(Mesh(sphere.vertices, sphere.faces[1:]))
    flipped = sphere.faces.copy()
    flipped[0] = flipped[0][::-1]
    assert not is_watertight(Mesh(sphere.vertices, flipped))


def test_the_papers_protocol_is_rigid_and_does_not_care_where_vertices_lie(truth: Reference) -> None:
    shape = trimesh.creation.icosphere(subdivisions=3)
    coarse = Mesh(np.asarray(shape.vertices) * (80.0, 110.0, 100.0), np.asarray(shape.faces, np.int32))
    moved = coarse.transformed(similarity(1.0, rotation_xyz_deg(1.0, 2.0, -1.0), np.array([1.0, 1.0, -1.0])))
    score, raw = paper_score(moved, truth), h3ds_score(coarse, truth)
    assert score.face_mm < 0.6 * score.face_raw_mm
    assert score.face_mm < 0.8  # facets of 12 mm leave 0.3 mm, samples 0.8 mm apart 0.3
    assert raw.face_mm > 2.0  # vertex to vertex
    smaller = Mesh(truth.mesh.vertices * 0.95, truth.mesh.faces)
    assert paper_score(smaller, truth).head_mm > 1.5 * h3ds_score(smaller, truth).head_mm


def test_samples_keep_their_distance_and_leave_no_holes(sphere: Mesh) -> None:
    points = sample_evenly(sphere, 0.05)
    distance = np.linalg.norm(points[:, None] - points[None], axis=-1) + np.eye(len(points))
    assert distance.min() > 0.05
    assert nearest(sphere.vertices, points)[0].max() < 0.125


def test_points_that_are_too_close_are_those_that_trimesh_names(rng: np.random.Generator) -> None:
    points = rng.uniform(0, 1, (4000, 3))
    assert np.array_equal(_without_close(points, 0.06), trimesh.points.remove_close(points, 0.06)[0])


def test_f_scores_count_both_directions() -> None:
    near, far = np.array([0.5, 0.5, 3.0, 3.0]), np.array([0.5, 0.5, 0.5, 0.5])
    assert f_score(near, far, 1.0) == pytest.approx(2 * 0.5 * 1 / 1.5)
    assert f_score(far, near, 1.0) == pytest.approx(2 * 0.5 * 1 / 1.5)
    assert f_score(near + 9, far, 1.0) == 0.0


def test_what_is_there_too_much_shows_in_the_reverse_only(truth: Reference) -> None:
    extra = trimesh.creation.icosphere(subdivisions=3, radius=40)
    floater = Mesh(np.asarray(extra.vertices) + (0, 0, -200), np.asarray(extra.faces, np.int32))
    score, clean = metric_score(concatenate([truth.mesh, floater]), truth), metric_score(truth.mesh, truth)
    assert score.head_mm == pytest.approx(clean.head_mm, abs=1e-3)
    assert score.head_reverse_mm > clean.head_reverse_mm + 3

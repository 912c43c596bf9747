"""Relief from normals: ripples whose height is known, what must stay, what must not be believed; the kernel against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from avatar_kit.kernels.height_system import height_system
from avatar_kit.mesh.photo_views import PhotoViews
from avatar_kit.mesh.relief import ShownNormals, _edges, photo_normals, relief
from avatar_kit.render.renderer import Renderer, vertex_normals
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.types import Array, Mesh, Photo

RADIUS = 100.0


@pytest.fixture(scope="module")
def ball() -> Mesh:
    """Edges of some 2.8."""
    sphere = trimesh.creation.icosphere(subdivisions=5, radius=RADIUS)
    return Mesh(np.asarray(sphere.vertices, np.float64), np.asarray(sphere.faces, np.int32))


def rippled(ball: Mesh, waves: float, height: float) -> tuple[Array, Array]:
    """Heights over the ball (V,), `waves` of them along x on its diameter, and the unit normals (V, 3) of that surface."""
    outward = ball.vertices / RADIUS
    phase = np.pi * waves * outward[:, 0]
    slope = height * np.pi * waves * np.cos(phase)[:, None] * (np.array([1.0, 0, 0]) - outward[:, :1] * outward) / RADIUS
    normals = outward - slope
    return height * np.sin(phase), normals / np.linalg.norm(normals, axis=1, keepdims=True)


def heights(mesh: Mesh) -> Array:
    return np.linalg.norm(mesh.vertices, axis=1) - RADIUS


def bent(ball: Mesh, shown: Array, certainty: float | Array, *, reach: float = 30.0, held: Array | None = None) -> Mesh:
    count = len(ball.vertices)
    nobody = np.zeros(count, bool) if held is None else held
    photos = ShownNormals(shown, np.broadcast_to(certainty, count), np.ones(count))
    return relief(ball, ball.vertices / RADIUS, photos, reach=reach, held=nobody)


def test_ripples_rise_to_their_height(ball: Mesh) -> None:
    wanted, normals = rippled(ball, 6, 0.5)
    found = heights(bent(ball, normals, 1.0, reach=100.0))
    assert np.corrcoef(found, wanted)[0, 1] > 0.97  # 0.999 if solved to the end
    assert np.std(found) == pytest.approx(np.std(wanted), rel=0.08)  # 3 % are lost to edges of a twelfth of a wave


@pytest.mark.parametrize("certainty", [1.0, 25.0])
def test_what_is_wider_than_the_reach_stays(ball: Mesh, certainty: float) -> None:
    """A wave is left to k^2 / (k^2 + 1 / reach^2), k its wave number; the reach grows with the certainty's root."""
    reach, waves = 4.0 / certainty**0.5, 4.0
    wanted, normals = rippled(ball, waves, 0.5)
    equator = np.abs(ball.vertices[:, 0]) < 20
    found = heights(bent(ball, normals, certainty, reach=reach))
    k = np.pi * waves / RADIUS
    share = k**2 / (k**2 + 1 / 4.0**2)
    assert np.std(found[equator]) / np.std(wanted[equator]) == pytest.approx(share, rel=0.15)


def test_nothing_moves_without_certainty_or_reason(ball: Mesh) -> None:
    _, normals = rippled(ball, 10, 0.5)
    assert bent(ball, normals, 0.0) is ball
    assert np.abs(heights(bent(ball, ball.vertices / RADIUS, 1.0))).max() < 0.02


def test_held_vertices_stay(ball: Mesh) -> None:
    _, normals = rippled(ball, 10, 0.5)
    held = ball.vertices[:, 1] < 0
    found = np.abs(heights(bent(ball, normals, 1.0, held=held)))
    assert found[held].max() < 0.01
    assert found[~held].max() > 0.4


def test_normals_of_another_surface_are_not_believed(ball: Mesh) -> None:
    """In a cap the photos show what lies before it: normals at right angles to the surface's. It neither moves far nor folds over."""
    cap = ball.vertices[:, 2] > 80
    shown = np.where(cap[:, None], [1.0, 0, 0], ball.vertices / RADIUS)
    found = bent(ball, shown, 1.0)
    assert np.abs(heights(found)).max() < 3.0
    assert (np.einsum("fc,fc->f", found.face_normals, ball.face_normals)).min() > 0.3


def test_where_the_surface_would_fold_it_stays(ball: Mesh) -> None:
    """Photos show a ring of it leaning over by 80 degrees, which they are certain of: there they are not believed in the end, but are
    still where they show ripples."""
    outward = ball.vertices / RADIUS
    away = np.degrees(np.arccos(np.clip(outward[:, 2], -1, 1)))
    sideways = outward[:, 2:] * outward - (0, 0, 1)
    sideways /= np.maximum(np.linalg.norm(sideways, axis=1, keepdims=True), 1e-9)
    _, shown = rippled(ball, 6, 0.5)
    ring = (away > 35) & (away < 45)
    lean = np.radians(80)
    shown[ring] = (np.cos(lean) * outward + np.sin(lean) * sideways)[ring]
    found = bent(ball, shown, np.where(ring, 1e4, 1.0), reach=100.0)
    folded = np.einsum("vc,vc->v", outward, vertex_normals(found)) < 0.3
    assert not folded.any()
    wanted = rippled(ball, 6, 0.5)[0]
    back = away > 90
    assert np.corrcoef(heights(found)[back], wanted[back])[0, 1] > 0.9


def test_lumps_are_smoothed_where_photos_say_nothing(ball: Mesh, rng: np.random.Generator) -> None:
    lumpy = Mesh(ball.vertices * (1 + 0.002 * rng.normal(size=(len(ball.vertices), 1))), ball.faces)
    front = ball.vertices[:, 2] > 0
    own = vertex_normals(lumpy)
    shown = np.where(front[:, None], ball.vertices / RADIUS, 0.0)
    photos = ShownNormals(shown, front.astype(float), np.ones(len(front)))
    found = relief(lumpy, own, photos, reach=20.0, held=np.zeros(len(front), bool))
    deep = np.abs(ball.vertices[:, 2]) > 10
    before, after = (vertex_normals(mesh) for mesh in (lumpy, found))
    outward = ball.vertices / RADIUS
    for side, share in ((front & deep, 0.3), (~front & deep, 0.5)):
        rough, smooth = (np.arccos(np.clip((n * outward).sum(1), -1, 1))[side].mean() for n in (before, after))
        assert smooth < share * rough


def test_a_terrace_keeps_its_height_above_what_photos_hide(ball: Mesh) -> None:
    """A cap stands 2 above the ball. Photos that do not see the step around it would have it sink into the ball."""
    outward = ball.vertices / RADIUS
    away = np.degrees(np.arccos(outward[:, 2]))
    terrace = Mesh(ball.vertices + 2.0 * np.clip((30 - away) / 4 + 0.5, 0, 1)[:, None] * outward, ball.faces)
    evenness = np.where(np.abs(away - 30) < 4, 0.001, 1.0)
    own, nobody = vertex_normals(terrace), np.zeros(len(away), bool)
    cap, around = away < 15, (away > 45) & (away < 60)
    heights_kept = []
    for even in (np.ones(len(away)), evenness):
        found = heights(relief(terrace, own, ShownNormals(outward, even, even), reach=100.0, held=nobody))
        heights_kept.append(found[cap].mean() - found[around].mean())
    assert heights_kept[0] < 1.0
    assert heights_kept[1] > 1.8


def test_the_system_is_that_of_plain_loops(rng: np.random.Generator) -> None:
    """Least sum over edges (a, b) of s min(w) (m . (x_b + h_b u_b - x_a - h_a u_a))^2, m half the sum of the normals at its ends."""
    edges = [(0, 1), (1, 2), (2, 0), (2, 3), (3, 0)]
    stiffness = {edge: rng.uniform(0.2, 1) for edge in edges}
    points, up, wanted = rng.normal(size=(3, 4, 3)).astype(np.float32)
    weight = rng.uniform(0.5, 2, 4).astype(np.float32)
    matrix, pull = np.zeros((4, 4)), np.zeros(4)
    for (a, b), stiff in stiffness.items():
        m = (wanted[a] + wanted[b]) / 2
        row = np.zeros(4)
        row[a], row[b] = -m @ up[a], m @ up[b]
        strength = stiff * min(weight[a], weight[b])
        matrix += strength * np.outer(row, row)
        pull -= strength * row * (m @ (points[b] - points[a]))
    both = sorted([(a, b, s) for (a, b), s in stiffness.items()] + [(b, a, s) for (a, b), s in stiffness.items()])
    rows = np.searchsorted([a for a, _, _ in both], np.arange(5)).astype(np.int32)
    ends, values = np.array([b for _, b, _ in both], np.int32), np.array([s for _, _, s in both], np.float32)
    found = height_system(*map(torch.from_numpy, (rows, ends, values, points, up, wanted, weight)))
    dense = np.diag(found.diagonal.numpy())
    for (a, b, _), value in zip(both, found.beside.numpy(), strict=True):
        dense[a, b] -= value
    np.testing.assert_allclose(dense, matrix, atol=1e-5)
    np.testing.assert_allclose(found.pull.numpy(), pull, atol=1e-5)


def test_photos_show_the_normals_of_what_they_see(ball: Mesh) -> None:
    """Given ones count a hundred times as much as predicted ones that are fully confident; what no photo shows has none."""
    renderer, outward = Renderer(ball), ball.vertices / RADIUS
    views = []
    for yaw, confidence in ((-40, None), (40, 1.0)):
        camera = orbit_camera(yaw_deg=yaw, pitch_deg=0, distance=600, target=np.zeros(3), focal_px=700, size=256)
        seen = renderer.render(camera)
        image, there = np.zeros((256, 256, 3), np.float32), np.ones((256, 256), np.float32)
        views.append(Photo(image, seen.mask, camera, seen.normals, confidence=None if confidence is None else there))
    shown, certainty, evenness = photo_normals(PhotoViews(tuple(views), renderer), ball.vertices, outward)
    known = certainty > 0
    assert np.degrees(np.arccos(np.clip((shown * outward).sum(1)[known], -1, 1))).max() < 2
    left, right = (view.camera.centre / 600 for view in views)
    assert certainty[outward @ left > 0.95].min() > 99
    assert certainty[(outward @ right > 0.9) & (outward @ left < 0)] == pytest.approx(1.0, abs=0.05)
    assert not known[(outward @ left < 0) & (outward @ right < 0)].any()
    assert not shown[~known].any()
    assert evenness[outward @ left > 0.9].min() > 0.9  # a ball has no creases


@pytest.mark.parametrize("size", [128, 1024])
def test_certainty_ends_at_creases(ball: Mesh, size: int) -> None:
    """Photos show a roof: within a pixel of its ridge, one of a photo of 512, normals say nothing of heights. One alone is believed."""
    camera = orbit_camera(yaw_deg=0, pitch_deg=0, distance=600, target=np.zeros(3), focal_px=2.4 * size, size=size)
    left = np.arange(size)[:, None] < size / 2
    roof = np.where(left, [-0.5, 0, -(0.75**0.5)], [0.5, 0, -(0.75**0.5)]).astype(np.float32)
    photo = Photo(np.zeros((size, size, 3), np.float32), np.ones((size, size), bool), camera, np.tile(roof, (size, 1, 1)))
    x = np.linspace(-40, 40, 161)
    points = np.stack([x, 0 * x, np.sqrt(RADIUS**2 - x**2)], axis=1)
    found = photo_normals(PhotoViews((photo, photo), Renderer(ball)), points, points / RADIUS)
    pixel = 500 / camera.intrinsics[0, 0] * max(1, size // 512)
    ridge, beside = np.abs(x) < 0.5 * pixel, np.abs(x) > 2.6 * pixel
    assert found.evenness[ridge].max() < 0.01
    assert found.evenness[beside].min() == 1.0
    np.testing.assert_allclose(found.certainty[beside], 200.0, rtol=1e-5)
    assert (photo_normals(PhotoViews((photo,), Renderer(ball)), points, points / RADIUS).evenness == 1).all()


def test_points_that_no_photo_sees_have_no_normals(ball: Mesh) -> None:
    camera = orbit_camera(yaw_deg=0, pitch_deg=0, distance=600, target=np.zeros(3), focal_px=300, size=128)
    renderer = Renderer(ball)
    seen = renderer.render(camera)
    photo = Photo(np.zeros((128, 128, 3), np.float32), seen.mask, camera, seen.normals)
    back = ball.vertices[ball.vertices[:, 2] < -50]
    found = photo_normals(PhotoViews((photo,), renderer), back, back / RADIUS)
    assert not found.normals.any()
    assert not found.certainty.any()
    assert (found.evenness == 1).all()


def test_edges_carry_the_cotangents_of_the_angles_that_face_them(rng: np.random.Generator) -> None:
    """Against a loop over the triangles; the diagonals of a flat grid, whose angles are right ones, are edges all the same."""
    axis = np.arange(5.0)
    x, y = (part.ravel() for part in np.meshgrid(axis, axis))
    flat = np.stack([x, y, np.zeros_like(x)], axis=1)
    corner = (np.arange(4)[:, None] * 5 + np.arange(4)).ravel()
    faces = np.concatenate([np.stack([corner, corner + 1, corner + 6], 1), np.stack([corner, corner + 6, corner + 5], 1)])
    for points in (flat, flat + rng.normal(0, 0.1, flat.shape)):
        expected: dict[tuple[int, int], float] = {}
        for face in faces:
            for k in range(3):
                a, b, facing = face[k], face[(k + 1) % 3], face[(k + 2) % 3]
                u, v = points[a] - points[facing], points[b] - points[facing]
                cotangent = float(u @ v / np.linalg.norm(np.cross(u, v)))
                for pair in ((a, b), (b, a)):
                    expected[pair] = expected.get(pair, 0.0) + cotangent / 2
        edges = _edges(points, faces)
        starts = np.repeat(np.arange(len(points)), np.diff(edges.rows))
        assert set(zip(starts.tolist(), edges.end.tolist(), strict=True)) == {(int(a), int(b)) for a, b in expected}
        for a, b, stiffness in zip(starts, edges.end, edges.stiffness, strict=True):
            assert stiffness == pytest.approx(np.clip(expected[a, b], 0.0, 4.0), abs=1e-6)

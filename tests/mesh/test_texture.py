"""The avatar's lighter mesh, its charts, and the texture that photos give it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from conftest import as_mesh

from avatar_kit.kernels.mesh_queries import MeshQueries
from avatar_kit.mesh.bake import bake
from avatar_kit.mesh.charts import charts
from avatar_kit.mesh.files import read_mesh, write_mesh
from avatar_kit.mesh.paint import _EXPECTED, continued, shown_colors
from avatar_kit.mesh.photo_views import PhotoViews
from avatar_kit.mesh.unwrap import simplify, unwrap, without_short_edges
from avatar_kit.render.renderer import Renderer, vertex_normals
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.types import Array, Camera, Mesh, Photo, concatenate

GREY = 0.5


def camera_at(yaw_deg: float, size: int = 192) -> Camera:
    return orbit_camera(yaw_deg=yaw_deg, pitch_deg=10, distance=3.0, target=np.zeros(3), focal_px=2.2 * size, size=size)


def paint(points: Array) -> Array:
    """A colour for each point of space: smooth, different on every side."""
    return 0.5 + 0.4 * np.sin(points * (7.0, 9.0, 8.0) + (0.3, 0.1, 0.7))


def photograph(mesh: Mesh, camera: Camera) -> Photo:
    seen = Renderer(mesh).render(camera)
    return Photo(np.where(seen.mask[..., None], paint(seen.points), 1.0).astype(np.float32), seen.mask, camera)


def grey(mesh: Mesh) -> Mesh:
    return replace(mesh, colors=np.full((len(mesh.vertices), 3), GREY))


def laid_flat(mesh: Mesh, size: int) -> Mesh:
    return unwrap(mesh, charts(mesh.vertices, mesh.faces, size))


@pytest.fixture(scope="module")
def ball() -> Mesh:
    """Radius 0.5, grey, 20 thousand faces."""
    return grey(as_mesh(trimesh.creation.icosphere(subdivisions=5, radius=0.5)))


@pytest.fixture(scope="module")
def flat(ball: Mesh) -> Mesh:
    return laid_flat(grey(simplify(ball, 4000)), 256)


def test_a_simplified_ball_stays_round(ball: Mesh) -> None:
    light = simplify(ball, 2000)
    assert len(light.faces) == pytest.approx(2000, rel=0.05)
    distance = MeshQueries(light).closest(torch.from_numpy(ball.vertices)).distance
    assert float(distance.max()) < 0.01  # 2 % of the radius; chords of 2000 equal triangles lie 0.002 below it
    assert simplify(ball, 10**6).faces is ball.faces
    assert len(simplify(ball, len(ball.faces) - 2).faces) < len(ball.faces)


def test_short_edges_are_drawn_together(ball: Mesh) -> None:
    middle = ball.vertices[ball.faces[0]].mean(0)  # a vertex split in two by a hair's breadth: two slivers
    near = middle + 1e-7 * (ball.vertices[ball.faces[0, 0]] - middle)
    a, b, c = ball.faces[0]
    n = len(ball.vertices)
    fan = np.array([[a, b, n], [b, c, n], [c, n + 1, n], [c, a, n + 1], [a, n, n + 1]], np.int32)
    split = Mesh(np.vstack([ball.vertices, middle, near]), np.concatenate([ball.faces[1:], fan]))
    whole = without_short_edges(split, 0.1)
    assert len(whole.vertices) == n + 1
    assert len(whole.faces) == len(ball.faces) + 2


def test_charts_lie_side_by_side(flat: Mesh) -> None:
    assert flat.texture is not None
    uv = flat.texture.uv[flat.faces]
    assert uv.min() >= 0
    assert uv.max() <= 1
    edges = uv[:, 1:] - uv[:, :1]
    area = np.abs(np.linalg.det(edges)).sum() / 2
    down = MeshQueries(Mesh(np.column_stack([flat.texture.uv, np.zeros(len(flat.vertices))]), flat.faces))
    axis = (np.arange(400) + 0.5) / 400
    grid = np.stack([*np.meshgrid(axis, axis), np.ones((400, 400))], axis=-1).reshape(-1, 3).astype(np.float32)
    hit = down.cast_rays(torch.from_numpy(grid), torch.tensor([0.0, 0, -1]).expand(len(grid), 3).contiguous()).face >= 0
    assert float(hit.float().mean()) == pytest.approx(area, rel=0.03)  # charts on top of each other would cover less than their area
    assert area > 0.4


def test_normals_do_not_break_at_seams(flat: Mesh) -> None:
    assert len(flat.vertices) > len(np.unique(flat.vertices, axis=0))  # there are seams
    outward = flat.vertices / np.linalg.norm(flat.vertices, axis=1, keepdims=True)
    assert (vertex_normals(flat) * outward).sum(1).min() > 0.99


def test_a_baked_ball_looks_like_its_photos_from_between_them(ball: Mesh, flat: Mesh) -> None:
    photos = tuple(photograph(ball, camera_at(yaw)) for yaw in (-30, 30))
    baked = Renderer(bake(flat, PhotoViews(photos, Renderer(ball)), 512))
    for yaw in (-30, 0, 20):
        seen = baked.render(camera_at(yaw))
        assert seen.colors is not None
        face_on = seen.mask & (seen.normals[..., 2] < -0.8)
        assert np.abs(seen.colors - paint(seen.points))[face_on].mean() < 0.01
    behind = baked.render(camera_at(180))
    assert behind.colors is not None
    np.testing.assert_allclose(behind.colors[behind.mask & (behind.normals[..., 2] < -0.8)], GREY, atol=1e-3)


def test_what_hides_something_is_not_painted_on_it(ball: Mesh) -> None:
    small = as_mesh(trimesh.creation.icosphere(subdivisions=3, radius=0.12))
    before = Mesh(small.vertices + (0, 0, 1.0), small.faces)
    both = concatenate([ball, before])
    both = grey(both)
    camera = camera_at(0)
    seen = Renderer(both).render(camera)
    red = np.where((seen.face >= len(ball.faces))[..., None], (1.0, 0, 0), (0, 0, 1.0)).astype(np.float32)
    baked = bake(laid_flat(both, 512), PhotoViews((Photo(red, seen.mask, camera),), Renderer(both)), 512)
    shown = Renderer(baked).render(orbit_camera(yaw_deg=40, pitch_deg=10, distance=3, target=np.zeros(3), focal_px=420, size=192))
    assert shown.colors is not None
    big = shown.mask & (np.linalg.norm(shown.points, axis=-1) < 0.51)
    assert shown.colors[big][:, 0].max() < GREY + 0.1  # grey where hidden, blue where seen: no red
    assert (shown.colors[big][:, 2] > 0.9).mean() > 0.3


def tube(length: int, around: int = 5) -> Mesh:
    """Squares, each cut in two, its vertices ring by ring along it."""
    y, turn = (part.ravel() for part in np.mgrid[: length + 1, :around])
    ring, corner = (part.ravel() for part in np.mgrid[:length, :around])
    here, beside = ring * around + corner, ring * around + (corner + 1) % around
    faces = np.concatenate([np.stack([here, beside, here + around], 1), np.stack([beside, beside + around, here + around], 1)])
    angle = 2 * np.pi * turn / around
    return Mesh(np.stack([np.cos(angle), y, np.sin(angle)], axis=1), faces.astype(np.int32))


def test_colours_go_over_into_each_other_where_nothing_is_certain() -> None:
    """Between two ends that are certain they change evenly; what is certain stays, and what hangs on nothing certain is grey."""
    band = tube(20)
    height = band.vertices[:, 1]
    ends = (height == 0) | (height == 20)
    colors = np.where(ends[:, None], (height[:, None] / 20) * (1.0, 0.5, 0.0), 7.0)
    found = continued(band, colors, ends.astype(float))
    np.testing.assert_allclose(found, height[:, None] / 20 * (1.0, 0.5, 0.0), atol=0.005)
    np.testing.assert_allclose(continued(band, colors, 0.0 * height), 0.5, atol=1e-6)
    two = concatenate([band, Mesh(band.vertices + (9, 0, 0), band.faces)])
    apart = continued(two, np.full((len(two.vertices), 3), 0.2), np.repeat([1.0, 0.0], len(height)))
    np.testing.assert_allclose(apart[: len(height)], 0.2, atol=1e-4)
    np.testing.assert_allclose(apart[len(height) :], 0.5, atol=1e-4)


def test_colours_hardly_go_on_where_that_is_not_easy() -> None:
    """A ring of low ease takes nearly all of the difference, as the largest of resistances in a row does."""
    band = tube(20)
    height = band.vertices[:, 1]
    ends = (height == 0) | (height == 20)
    colors = np.repeat((height > 10)[:, None].astype(float), 3, axis=1)
    found = continued(band, colors, ends.astype(float), ease=np.where(height == 10, 0.005, 1.0))
    assert found[height < 10].max() < 0.06
    assert found[height > 10].min() > 0.94
    np.testing.assert_allclose(found[height == 10], 0.5, atol=0.02)


def test_colours_go_over_into_what_is_expected() -> None:
    """From one certain end, as x" = w (x - e) has it in finite differences: two neighbours a ring up and two down; not where other
    colours say how they go on."""
    band = tube(40)
    height, expected = band.vertices[:, 1], np.array([0.2, 0.6, 0.9])
    end = (height == 0).astype(float)
    colors, wanted = np.full((len(height), 3), 0.4), np.broadcast_to(expected, (len(height), 3))
    found = continued(band, colors, end, expected=wanted)
    bend = _EXPECTED / 4
    ratio = 1 + bend - np.sqrt(bend * (2 + bend))
    np.testing.assert_allclose(found[height < 20], (expected + (0.4 - expected) * ratio ** height[:, None])[height < 20], atol=0.015)
    assert np.abs(found - expected)[height == 40].max() < 0.02
    alike = colors, np.ones(len(height))
    np.testing.assert_allclose(continued(band, colors, end, like=alike, expected=wanted), 0.4, atol=1e-3)


def test_paint_knows_what_photos_show_and_how_well(ball: Mesh) -> None:
    photos = tuple(photograph(ball, camera_at(yaw)) for yaw in (-30, 30))
    outward = ball.vertices / 0.5
    colors, certainty = shown_colors(PhotoViews(photos, Renderer(ball)), ball.vertices, outward)
    sure = certainty > 0.9
    assert np.abs(colors - paint(ball.vertices))[sure].max() < 0.05
    towards = np.stack([photo.camera.centre / 3.0 for photo in photos])
    cosine = (outward @ towards.T).max(1)
    assert sure[cosine > 0.8].all()
    assert (certainty[cosine < 0.1] == 0).all()


def white_and_black(ball: Mesh, *cameras: Camera) -> tuple[Array, Array, Array]:
    """What photos of a ball show of it, where the first is white and the others are black: (V,), how certain it is, and outwards."""
    photos = []
    for camera in cameras:
        seen = Renderer(ball).render(camera)
        photos.append(Photo(np.full((*seen.mask.shape, 3), 0.0 if photos else 1.0, np.float32), seen.mask, camera))
    outward = ball.vertices / 0.5
    colors, certainty = shown_colors(PhotoViews(tuple(photos), Renderer(ball)), ball.vertices, outward)
    return colors[:, 0], certainty, outward


@pytest.mark.parametrize("order", [1, -1])
def test_photos_do_not_mix(ball: Mesh, order: int) -> None:
    """Of two the one with more pixels is shown, whichever comes first; and what the other sees alone."""
    fine, coarse = camera_at(0), camera_at(30, 128)
    shown, certainty, outward = white_and_black(ball, *(fine, coarse)[::order])
    shown = shown if order == 1 else 1 - shown
    straight = outward @ fine.centre / 3.0
    assert shown[straight > 0.85].min() > 0.95
    alone = (certainty > 0) & (straight < 0.1)
    assert alone.sum() > 20
    assert shown[alone].max() < 1e-6


def test_of_two_like_photos_of_one_side_one_is_first(ball: Mesh) -> None:
    left, right = camera_at(-8), camera_at(8)
    shown, certainty, outward = white_and_black(ball, left, right)
    middle = np.median(shown[(certainty == 1) & (np.abs(outward[:, 0]) < 0.05)])
    assert max(middle, 1 - middle) == pytest.approx(1 / (1 + 1.25**-8), abs=0.03)


def test_each_side_is_shown_by_the_photo_before_it(ball: Mesh) -> None:
    """Two like photos 60 degrees apart: the one that looks straighter at the ball takes over, within some degrees, and neither is first."""
    left, right = camera_at(-30), camera_at(30)
    shown, certainty, outward = white_and_black(ball, left, right)
    straight = np.log((outward @ left.centre).clip(1e-3) / (outward @ right.centre).clip(1e-3))
    seen = certainty == 1
    assert shown[seen & (straight > 0.3)].min() > 0.9
    assert shown[seen & (straight < -0.3)].max() < 0.1
    assert np.median(shown[seen & (np.abs(straight) < 0.05)]) == pytest.approx(0.5, abs=0.03)


def test_texture_needs_uv_and_colours(ball: Mesh) -> None:
    with pytest.raises(ValueError, match="unwrap"):
        bake(ball, PhotoViews((), Renderer(ball)), 64)


def test_a_textured_mesh_comes_back_from_its_file(flat: Mesh, ball: Mesh, tmp_path: Path) -> None:
    baked = bake(flat, PhotoViews((photograph(ball, camera_at(0)),), Renderer(ball)), 256)
    write_mesh(tmp_path / "ball.glb", baked)
    back = read_mesh(tmp_path / "ball.glb")
    assert back.texture is not None
    assert baked.texture is not None
    np.testing.assert_allclose(back.vertices, baked.vertices, atol=1e-6)
    camera = camera_at(0)
    pictures = [Renderer(mesh).render(camera).colors for mesh in (baked, back)]
    assert pictures[0] is not None
    assert pictures[1] is not None
    assert np.abs(pictures[0] - pictures[1]).mean() < 0.01  # JPEG

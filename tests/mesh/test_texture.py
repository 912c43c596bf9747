"""The avatar's lighter mesh, its charts, and the texture that photos give it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from conftest import as_mesh

from avatar_kit.kernels.mesh_queries import MeshQueries
from avatar_kit.mesh.bake import bake
from avatar_kit.mesh.files import read_mesh, write_mesh
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


@pytest.fixture(scope="module")
def ball() -> Mesh:
    """Radius 0.5, grey, 20 thousand faces."""
    round_mesh = as_mesh(trimesh.creation.icosphere(subdivisions=5, radius=0.5))
    return Mesh(round_mesh.vertices, round_mesh.faces, np.full((len(round_mesh.vertices), 3), GREY))


@pytest.fixture(scope="module")
def flat(ball: Mesh) -> Mesh:
    return unwrap(simplify(ball, 4000), 256)


def test_a_simplified_ball_stays_round(ball: Mesh) -> None:
    light = simplify(ball, 2000)
    assert len(light.faces) == pytest.approx(2000, rel=0.05)
    distance = MeshQueries(light).closest(torch.from_numpy(ball.vertices)).distance
    assert float(distance.max()) < 0.01  # 2 % of the radius; chords of 2000 equal triangles lie 0.002 below it
    assert light.colors is not None
    np.testing.assert_allclose(light.colors, GREY)
    assert simplify(ball, 10**6) is ball
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
    baked = Renderer(bake(flat, photos, 512, surface=Renderer(ball)))
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
    both = Mesh(both.vertices, both.faces, np.full((len(both.vertices), 3), GREY))
    camera = camera_at(0)
    seen = Renderer(both).render(camera)
    red = np.where((seen.face >= len(ball.faces))[..., None], (1.0, 0, 0), (0, 0, 1.0)).astype(np.float32)
    baked = bake(unwrap(both, 512), (Photo(red, seen.mask, camera),), 512, surface=Renderer(both))
    shown = Renderer(baked).render(orbit_camera(yaw_deg=40, pitch_deg=10, distance=3, target=np.zeros(3), focal_px=420, size=192))
    assert shown.colors is not None
    big = shown.mask & (np.linalg.norm(shown.points, axis=-1) < 0.51)
    assert shown.colors[big][:, 0].max() < GREY + 0.1  # grey where hidden, blue where seen: no red
    assert (shown.colors[big][:, 2] > 0.9).mean() > 0.3


def test_texture_needs_uv_and_colours(ball: Mesh) -> None:
    with pytest.raises(ValueError, match="unwrap"):
        bake(ball, (), 64, surface=Renderer(ball))


def test_a_textured_mesh_comes_back_from_its_file(flat: Mesh, ball: Mesh, tmp_path: Path) -> None:
    baked = bake(flat, (photograph(ball, camera_at(0)),), 256, surface=Renderer(ball))
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

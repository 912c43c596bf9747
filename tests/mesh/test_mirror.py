"""Colours of the side that no photo shows: a ball painted alike on both, photographed from one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh
from conftest import as_mesh
from mesh.test_texture import camera_at, grey, laid_flat, tube

from avatar_kit.conventions import transform_points
from avatar_kit.mesh.bake import bake
from avatar_kit.mesh.mirror import MirrorImage
from avatar_kit.mesh.paint import continued, shown_colors
from avatar_kit.mesh.photo_views import PhotoViews
from avatar_kit.mesh.unwrap import simplify
from avatar_kit.render.renderer import Renderer, vertex_normals
from avatar_kit.types import Array, Camera, Mesh, Photo

SIZE = 192
LIGHT = 0.15  # that the right side has more than the left one


def paint(points: Array, waves: float) -> Array:
    """Alike on both sides of x = 0."""
    return 0.5 + 0.3 * np.sin(waves * np.abs(points) * (1.0, 0.8, 0.9) + (0.3, 0.1, 0.7))


@pytest.fixture(scope="module")
def ball() -> Mesh:
    return grey(as_mesh(trimesh.creation.icosphere(subdivisions=5, radius=0.5)))


def photographed(ball: Mesh, camera: Camera, waves: float) -> PhotoViews:
    seen = Renderer(ball).render(camera)
    image = np.where(seen.mask[..., None], paint(seen.points, waves), 1.0).astype(np.float32)
    return PhotoViews((Photo(image, seen.mask, camera),), Renderer(ball))


@pytest.mark.parametrize("moved", [False, True])
def test_the_other_side_is_where_the_head_frame_has_it(ball: Mesh, moved: bool) -> None:
    """In the head frame, and in a world that is turned, larger and elsewhere."""
    head_from_world = np.eye(4)
    if moved:
        head_from_world = trimesh.transformations.rotation_matrix(0.7, [1, 2, 3], [0.2, 0.1, 0.0]) @ np.diag([0.01, 0.01, 0.01, 1.0])
    world_from_head = np.linalg.inv(head_from_world)
    camera = camera_at(60)
    surface = ball.transformed(world_from_head)
    placed = Camera(camera.intrinsics, _rigid(world_from_head, camera.world_from_camera), SIZE, SIZE)
    seen = Renderer(surface).render(placed)
    colors = paint(transform_points(head_from_world, seen.points.reshape(-1, 3)).reshape(seen.points.shape), 6.0)
    photo = Photo(np.where(seen.mask[..., None], colors, 1.0).astype(np.float32), seen.mask, placed)
    mirror = MirrorImage(PhotoViews((photo,), Renderer(surface)), surface, head_from_world)
    found, certainty = mirror.shown(surface.vertices)
    x = ball.vertices[:, 0]
    there = certainty > 0.9
    assert there[x < -0.35].mean() > 0.6
    assert (certainty[x > 0.3] == 0).all()
    assert np.abs(found[there] - paint(ball.vertices[there], 6.0)).max() < 0.06
    off = mirror.shown(surface.vertices + (0.2 / head_from_world_scale(head_from_world)) * vertex_normals(surface))[1]
    assert (off == 0).all()  # 40 mm from the surface: no mirror image


def head_from_world_scale(similarity: Array) -> float:
    return float(np.cbrt(np.linalg.det(similarity[:3, :3])))


def _rigid(similarity: Array, world_from_camera: Array) -> Array:
    """A camera's place after a similarity of the world."""
    moved = similarity @ world_from_camera
    moved[:3, :3] /= head_from_world_scale(similarity)
    return moved


def test_differences_of_other_colours_are_taken_over_and_their_level_is_not() -> None:
    """A band whose ends are certain; between them it is like another one that is as much darker everywhere, and half as much ragged."""
    band = tube(20)
    height = band.vertices[:, 1]
    wanted = 0.5 + 0.02 * height[:, None] * (1.0, -0.5, 0.2) + 0.1 * np.sin(height)[:, None]
    ends = ((height == 0) | (height == 20)).astype(float)
    other = wanted - 0.3
    found = continued(band, np.where(ends[:, None] > 0, wanted, 9.0), ends, like=(other, np.ones(len(height))))
    np.testing.assert_allclose(found, wanted, atol=0.005)
    nothing = continued(band, wanted, ends, like=(other, np.zeros(len(height))))
    np.testing.assert_array_equal(nothing, continued(band, wanted, ends))


def test_differences_count_where_both_ends_are_certain() -> None:
    """A jump of other colours between what is certain of them and what is not stays theirs."""
    band = tube(20)
    height = band.vertices[:, 1]
    other = np.where(height <= 10, 0.0, 5.0)[:, None] * (1.0, 1.0, 1.0)
    found = continued(band, np.full((len(height), 3), 0.4), (height == 0).astype(float), like=(other, (height <= 10).astype(float)))
    np.testing.assert_allclose(found, 0.4, atol=0.01)


def test_a_texture_shows_the_other_side_where_no_photo_shows_this_one(ball: Mesh) -> None:
    """With waves finer than the vertices of the lighter mesh are apart."""
    views = photographed(ball, camera_at(55, 512), 60.0)
    light = simplify(ball, 2000)
    mirror = MirrorImage(views, light, np.eye(4))
    shown = shown_colors(views, light.vertices, vertex_normals(light))
    errors = {}
    for name, image in (("none", None), ("mirror", mirror)):
        like = image.shown(light.vertices) if image else None
        colored = replace(light, colors=continued(light, *shown, like=like))
        baked = bake(laid_flat(colored, 512), views, 512, image)
        seen = Renderer(baked).render(camera_at(-60, 256))
        other = seen.mask & (seen.points[..., 0] < -0.3)
        assert seen.colors is not None
        errors[name] = np.abs(seen.colors[other] - paint(seen.points[other], 60.0)).mean()
    assert errors["none"] > 0.15
    assert errors["mirror"] < 0.06

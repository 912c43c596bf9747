"""The mesh of a fit: finer where photos see it, finest on the face, closed, on the surface."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from mesh.test_mesh import Ball

from avatar_kit.config import Config, MeshConfig, TextureConfig
from avatar_kit.field.radiance import RadianceField
from avatar_kit.mesh.extraction import extract
from avatar_kit.mesh.photo_views import PhotoViews
from avatar_kit.recon.fit import FittedHead
from avatar_kit.recon.meshing import head_meshes, refined_where_seen
from avatar_kit.render.renderer import Renderer
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.score.protocols import is_watertight
from avatar_kit.types import Array, Mesh, Photo, Scene

RADIUS, RESOLUTION = 0.5, 32


def ball_mesh(**settings: bool) -> Mesh:
    config = Config(mesh=MeshConfig(resolution=RESOLUTION, coarse=16, extractor="warp", **settings))
    camera = orbit_camera(yaw_deg=0, pitch_deg=0, distance=5.0, target=np.zeros(3), focal_px=300, size=64)
    scene = Scene((Photo(np.zeros((64, 64, 3), np.float32), np.ones((64, 64), bool), camera),), (0,), "ball")
    fitted = FittedHead(Ball(RADIUS), torch.zeros(1), RadianceField(config.radiance), np.eye(4), None, None, -1.0, [], 0)
    return head_mesh(fitted, scene, config)


def head_mesh(fitted: FittedHead, scene: Scene, config: Config) -> Mesh:
    coarse = extract(fitted.field, fitted.latent, config.mesh)
    mesh = refined_where_seen(coarse, PhotoViews(scene.photos, Renderer(coarse)), fitted, config)
    np.testing.assert_array_equal(mesh.vertices[: len(coarse.vertices)], coarse.vertices)
    return mesh


def edges_at(mesh: Mesh, middle: Array, reach: float) -> float:
    """Mean length of the edges of the faces near a point."""
    corners = mesh.vertices[mesh.faces]
    near = np.linalg.norm(corners.mean(1) - middle, axis=1) < reach
    return float(np.linalg.norm(corners[near] - np.roll(corners[near], 1, axis=1), axis=-1).mean())


def test_the_seen_side_is_finer_and_the_face_finer_still() -> None:
    front, back = np.array([0.0, 0.0, RADIUS]), np.array([0.0, 0.0, -RADIUS])
    plain, once, twice = ball_mesh(refine=False), ball_mesh(refine_face=False), ball_mesh()
    coarse = edges_at(plain, front, 0.2)
    assert abs(edges_at(once, front, 0.2) / coarse - 0.5) < 0.05
    assert abs(edges_at(twice, front, 0.2) / coarse - 0.25) < 0.05
    assert abs(edges_at(twice, back, 0.2) / coarse - 1.0) < 0.05  # which no photo sees
    for mesh in (plain, once, twice):
        assert is_watertight(mesh)
        np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), RADIUS, atol=0.004)
    off = [
        np.abs(np.linalg.norm(mesh.vertices[count:], axis=1) - RADIUS).mean()
        for mesh, count in ((plain, 0), (once, len(plain.vertices)), (twice, len(once.vertices)))
    ]
    assert max(off[1:]) < 2 * off[0]  # middles of straight edges are off three times as far


def test_a_surface_without_a_face_is_left_as_it_is() -> None:
    """A ball so small that none of it is near where noses are."""
    fitted = FittedHead(Ball(0.1), torch.zeros(1), RadianceField(Config().radiance), np.eye(4), None, None, -1.0, [], 0)
    camera = orbit_camera(yaw_deg=0, pitch_deg=0, distance=5.0, target=np.zeros(3), focal_px=300, size=64)
    scene = Scene((Photo(np.zeros((64, 64, 3), np.float32), np.ones((64, 64), bool), camera),), (0,), "ball")
    mesh = head_mesh(fitted, scene, Config(mesh=MeshConfig(resolution=48, coarse=24, extractor="warp")))
    assert is_watertight(mesh)


@pytest.mark.parametrize("relief", [0.015, 0.0])
def test_the_mesh_takes_the_relief_of_the_normal_maps(relief: float) -> None:
    """The field is a ball, its photo of one with ripples of 0.005 units: these are on the seen side of the mesh, unless relief is off."""
    sphere = trimesh.creation.icosphere(subdivisions=5, radius=RADIUS)
    ripple = 0.005 * np.sin(30 * sphere.vertices[:, 0])
    rippled = Mesh(sphere.vertices * (1 + ripple / RADIUS)[:, None], np.asarray(sphere.faces, np.int32))
    camera = orbit_camera(yaw_deg=0, pitch_deg=0, distance=5.0, target=np.zeros(3), focal_px=900, size=256)
    seen = Renderer(rippled).render(camera)
    scene = Scene((Photo(np.zeros((256, 256, 3), np.float32), seen.mask, camera, seen.normals),), (0,), "ball")
    settings = MeshConfig(resolution=64, coarse=16, extractor="warp", relief=relief, refine_face=False, unseen_blur=0)
    fitted = FittedHead(Ball(RADIUS), torch.zeros(1), RadianceField(Config().radiance), np.eye(4), None, None, -0.4, [], 0)
    meshes = head_meshes(fitted, scene, Config(mesh=settings, texture=TextureConfig(size=0)))
    for mesh in (meshes.light, meshes.fine):
        assert is_watertight(mesh)
        assert mesh.vertices[:, 1].min() == pytest.approx(-0.4, abs=1e-3)  # the cut stays flat
        facing = (mesh.vertices[:, 2] > 0.3) & (mesh.vertices[:, 1] > -0.3)
        found = np.linalg.norm(mesh.vertices[facing], axis=1) - RADIUS
        share = found @ np.sin(30 * mesh.vertices[facing, 0]) / (0.5 * facing.sum()) / 0.005
        assert share == pytest.approx(0.9 if relief else 0.0, abs=0.15)


def test_what_no_given_normals_vouch_for_is_meshed_with_fewer_cells() -> None:
    camera = orbit_camera(yaw_deg=0, pitch_deg=0, distance=5.0, target=np.zeros(3), focal_px=300, size=64)
    settings = MeshConfig(resolution=64, resolution_unsure=32, coarse=16, extractor="warp", refine=False, relief=0, fair=0)
    fitted = FittedHead(Ball(RADIUS), torch.zeros(1), RadianceField(Config().radiance), np.eye(4), None, None, -1.0, [], 0)
    photo = Photo(np.zeros((64, 64, 3), np.float32), np.ones((64, 64), bool), camera)
    facing = np.broadcast_to(np.array([0, 0, -1.0], np.float32), (64, 64, 3))
    given, predicted = replace(photo, normals=facing), replace(photo, normals=facing, confidence=np.full((64, 64), 0.1, np.float32))

    def vertices(*photos: Photo, most: int = 64) -> Array:
        scene = Scene(photos, tuple(range(len(photos))), "ball")
        return head_meshes(fitted, scene, Config(mesh=replace(settings, resolution=most))).fine.vertices

    fine, coarse = vertices(given), vertices(given, most=32)
    assert len(fine) > 3 * len(coarse)
    np.testing.assert_array_equal(vertices(given, predicted), fine)
    for unsure in (photo, predicted):
        np.testing.assert_array_equal(vertices(unsure), coarse)
        np.testing.assert_array_equal(vertices(unsure, most=32), coarse)


class CrackedBall(Ball):
    """With a groove around it at a height of y, 0.06 deep and 0.03 wide."""

    def __init__(self, y: float) -> None:
        super().__init__(RADIUS)
        self.y = y

    def forward(self, points: torch.Tensor, conditions: torch.Tensor) -> torch.Tensor:
        return super().forward(points, conditions) + 0.06 * torch.exp(-(((points[..., 1] - self.y) / 0.02) ** 2))


@pytest.mark.parametrize(
    ("y", "given", "around", "left"),
    [(0.3, False, 0.04, False), (0.3, False, 0.0, True), (0.3, True, 0.04, True), (0.15, False, 0.04, True)],
)
def test_cracks_that_predicted_normals_contradict_are_closed(y: float, given: bool, around: float, left: bool) -> None:
    """The photos' normals are a ball's. Cracks among the features of the face stay, and so do those that given normals leave."""
    sphere = trimesh.creation.icosphere(subdivisions=5, radius=RADIUS)
    camera = orbit_camera(yaw_deg=0, pitch_deg=0, distance=5.0, target=np.zeros(3), focal_px=900, size=256)
    seen = Renderer(Mesh(np.asarray(sphere.vertices), np.asarray(sphere.faces, np.int32))).render(camera)
    sure = None if given else np.full((256, 256), 0.1, np.float32)
    scene = Scene((Photo(np.zeros((256, 256, 3), np.float32), seen.mask, camera, seen.normals, confidence=sure),), (0,), "ball")
    settings = MeshConfig(resolution=160, coarse=32, extractor="warp", refine=False, relief=0, unseen_blur=0, fair=around)
    fitted = FittedHead(CrackedBall(y), torch.zeros(1), RadianceField(Config().radiance), np.eye(4), None, None, -0.4, [], 0)
    mesh = head_meshes(fitted, scene, Config(mesh=settings, texture=TextureConfig(size=0))).fine
    assert is_watertight(mesh)
    assert mesh.vertices[:, 1].min() == pytest.approx(-0.4, abs=1e-3)
    front = (mesh.vertices[:, 2] > 0.3) & (np.abs(mesh.vertices[:, 0]) < 0.1) & (np.abs(mesh.vertices[:, 1] - y) < 0.05)
    depth = RADIUS - np.linalg.norm(mesh.vertices[front], axis=1).min()
    assert depth == pytest.approx(0.06, abs=0.002) if left else depth < 0.03  # the upper ends of its walls lean little, and stay

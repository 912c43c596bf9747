"""Colours of a head that one photo shows from the front."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from conftest import as_mesh

from avatar_kit.config import TextureConfig
from avatar_kit.conventions import transform_points
from avatar_kit.mesh.photo_views import PhotoViews
from avatar_kit.recon.appearance import painted
from avatar_kit.recon.meshing import HeadMeshes
from avatar_kit.render.renderer import Renderer
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.types import Mesh, Photo

RED, BLUE = np.array([0.8, 0.3, 0.2]), np.array([0.1, 0.1, 0.6])


@pytest.fixture(scope="module")
def head() -> Mesh:
    """As high as an average head, and as deep."""
    ball = trimesh.creation.icosphere(subdivisions=4)
    return as_mesh(ball.apply_transform(np.diag([0.45, 0.8, 0.5, 1.0])))


@pytest.mark.parametrize("scale", [1.0, 200.0])
def test_the_back_of_a_head_has_the_colour_of_its_hair(head: Mesh, scale: float) -> None:
    """Blue above the forehead and red below, of which the photo shows more: in the head frame, and in a world in millimetres."""
    world = head.transformed(np.diag([scale, scale, scale, 1.0]))
    camera = orbit_camera(yaw_deg=0, pitch_deg=0, distance=5.0 * scale, target=np.zeros(3), focal_px=900, size=256)
    seen = Renderer(world).render(camera)
    image = np.where((seen.points[..., 1:2] > 0.55 * scale), BLUE, RED)
    photo = Photo(np.where(seen.mask[..., None], image, 1.0).astype(np.float32), seen.mask, camera)
    head_from_world = np.diag([1 / scale, 1 / scale, 1 / scale, 1.0])
    views = PhotoViews((photo,), Renderer(world))
    fine, _, avatar = painted(HeadMeshes(world, None, world, views), head_from_world, TextureConfig(size=0), "cpu")
    assert avatar is fine
    assert fine.colors is not None
    points = transform_points(head_from_world, fine.vertices)
    back, neck, face = (points[:, 2] < -0.35) & (points[:, 1] > 0.0), points[:, 1] < -0.6, (points[:, 2] > 0.4) & (points[:, 1] < 0.3)
    assert np.abs(fine.colors[back] - BLUE).max() < 0.1
    assert np.abs(fine.colors[neck] - RED).max() < 0.15
    assert np.abs(fine.colors[face] - RED).max() < 0.02

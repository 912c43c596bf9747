"""Pictures of results whose photos differ: in shape, and in whether they have normals."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import trimesh

from avatar_kit.recon.preview import preview_sheet
from avatar_kit.render.renderer import Renderer
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.score.picture import error_sheet
from avatar_kit.types import Camera, Mesh, Photo, Reference, Scene


def _photo(height: int, width: int, *, normals: bool) -> Photo:
    square = orbit_camera(yaw_deg=0.0, pitch_deg=0.0, distance=4.0, target=np.zeros(3), focal_px=300.0, size=400)
    intrinsics = square.intrinsics.copy()
    intrinsics[:2, 2] = width / 2, height / 2
    camera = Camera(intrinsics, square.world_from_camera, width, height)
    facing = np.broadcast_to(np.float32([0, 0, -1]), (height, width, 3))
    full = np.ones((height, width), bool)
    return Photo(np.full((height, width, 3), 0.5, np.float32), full, camera, facing if normals else None, f"{width}.png")


@pytest.fixture
def result(sphere: Mesh) -> Any:
    """Of a wide photo with normals and a tall one without."""
    ball = replace(sphere, colors=np.full(sphere.vertices.shape, 0.5))
    scene = Scene((_photo(300, 400, normals=True), _photo(400, 300, normals=False)), (0, 1), "ball", mm_per_world_unit=200.0)
    return SimpleNamespace(scene=scene, mesh=ball, renderer=Renderer(ball), avatar=ball, device="cpu")


def test_preview_has_a_column_for_each_photo(result: Any) -> None:
    sheet = np.asarray(preview_sheet(result))
    assert sheet.shape == (5 * 256, 2 * 256, 3)
    normals = sheet[256:512]
    assert normals[:, :256].mean((0, 1))[2] > 180  # towards the camera is blue
    assert (normals[:, 256:] == 255).all()  # none is white


def test_error_sheet_takes_photos_of_any_shape(result: Any) -> None:
    larger = trimesh.creation.icosphere(subdivisions=3, radius=0.5 + 1.5 / 200.0)
    reference = Reference(Mesh(np.asarray(larger.vertices), np.asarray(larger.faces, np.int32)), {}, None)
    sheet = np.asarray(error_sheet(result, reference))
    assert sheet.shape[0] == 4 * 256
    truth = sheet[3 * 256 :, :512]
    assert (truth != 255).any(-1)[:, :256].sum() == pytest.approx((truth != 255).any(-1)[:, 256:].sum(), rel=0.01)

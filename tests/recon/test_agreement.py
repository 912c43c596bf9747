"""How well photos agree with a ball, where all is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from mesh.test_mesh import Ball
from scipy.spatial.transform import Rotation

from avatar_kit.config import Config
from avatar_kit.field.radiance import RadianceField
from avatar_kit.recon.agreement import agreements, doubt_about_cameras
from avatar_kit.recon.fit import FittedHead
from avatar_kit.render.renderer import Renderer
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.types import Mesh, Photo, Scene

RADIUS = 0.5


def fitted(lowest: float = -1.0) -> FittedHead:
    return FittedHead(Ball(RADIUS), torch.zeros(1), RadianceField(Config().radiance), np.eye(4), None, None, lowest, [], 0)


@pytest.fixture
def ball(sphere: Mesh) -> Mesh:
    return replace(sphere, vertices=sphere.vertices * RADIUS / np.linalg.norm(sphere.vertices[0]))


@pytest.fixture
def photo(ball: Mesh) -> Photo:
    camera = orbit_camera(yaw_deg=20, pitch_deg=0, distance=5.0, target=np.zeros(3), focal_px=600, size=160)
    seen = Renderer(ball).render(camera)
    return Photo(np.full((160, 160, 3), 0.5, np.float32), seen.mask, camera, seen.normals, "front.jpg")


def scene_of(*photos: Photo) -> Scene:
    return Scene(photos, tuple(range(len(photos))), "ball")


def test_a_photo_of_the_head_itself_agrees(ball: Mesh, photo: Photo) -> None:
    (found,) = agreements(ball, fitted(), scene_of(photo), "cpu")
    assert found.name == "front.jpg"
    assert found.mask_iou == 1.0
    assert found.normals_deg == pytest.approx(0.0, abs=0.1)
    assert found.doubt(alone=True) is None
    (found,) = agreements(ball, fitted(), scene_of(replace(photo, normals=None)), "cpu")
    assert found.normals_deg is None


def test_normals_that_are_turned_are_as_far_off(ball: Mesh, photo: Photo) -> None:
    assert photo.normals is not None
    turn = Rotation.from_euler("z", 30, degrees=True).as_matrix()
    (found,) = agreements(ball, fitted(), scene_of(replace(photo, normals=(photo.normals @ turn.T).astype(np.float32))), "cpu")
    sine = np.linalg.norm(photo.normals[photo.mask][:, :2], axis=1)  # from the axis they turn about
    expected = np.degrees(2 * np.arcsin(sine * np.sin(np.radians(15)))).mean()
    assert found.normals_deg == pytest.approx(expected, abs=0.2)


def test_a_mask_of_something_else_is_named(ball: Mesh, photo: Photo) -> None:
    shifted = replace(photo, mask=np.roll(photo.mask, 40, axis=1), name="side.jpg")
    good, bad = agreements(ball, fitted(), scene_of(photo, shifted), "cpu")
    assert good.doubt(alone=False) is None
    assert bad.mask_iou == pytest.approx((photo.mask & shifted.mask).sum() / (photo.mask | shifted.mask).sum(), abs=0.01)
    doubt = bad.doubt(alone=False)
    assert doubt is not None
    assert doubt.startswith("side.jpg: ")
    assert "IoU 0." in doubt
    assert "leave it out" in doubt
    assert "leave it out" not in str(bad.doubt(alone=True))


def test_what_lies_below_the_cut_does_not_count(ball: Mesh, photo: Photo) -> None:
    bust = photo.mask.copy()
    bust[115:] = True  # shoulders from well below the ball's middle on
    with_shoulders = scene_of(replace(photo, mask=bust))
    (all_counts,) = agreements(ball, fitted(), with_shoulders, "cpu")
    (above,) = agreements(ball, fitted(lowest=-0.25), with_shoulders, "cpu")
    assert all_counts.doubt(alone=False) is not None
    assert above.mask_iou > 0.95


def test_cameras_that_bring_little_together_are_doubted() -> None:
    assert doubt_about_cameras(None) is None  # as stated, or one photo
    assert doubt_about_cameras(0.6) is None
    doubt = doubt_about_cameras(0.08)
    assert doubt is not None
    assert "more than 10 degrees off" in doubt
    assert "8 %" in doubt

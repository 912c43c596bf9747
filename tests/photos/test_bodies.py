"""Photos whose mask has lost the body end at the neck, if another photo's has it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from avatar_kit.conventions import MM_PER_UNIT
from avatar_kit.normals.crop import NECK, Crop
from avatar_kit.photos.bodies import NOTE, down_to_the_neck
from avatar_kit.photos.understand import Understood
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.types import Array, Photo

SIZE = 120


def seen(name: str, *, body: bool, yaw: float = 0.0) -> Understood:
    """A head of 80 mm on a neck, with a body as wide as the photo or with a collar alone."""
    camera = orbit_camera(yaw_deg=yaw, pitch_deg=0, distance=1400, target=np.zeros(3), focal_px=300, size=SIZE)
    x, y = np.moveaxis(camera.pixel_grid(), -1, 0)
    neck = neck_row(yaw)
    mask = (np.hypot(x - 60, y - 60) < 20) | ((y > 60) & (y < neck + 5) & (abs(x - 60) < 8)) | (body & (y > neck))
    maps = np.broadcast_to(y[..., None], (SIZE, SIZE, 3)).astype(np.float32)
    photo = Photo(maps, mask, camera, normals=maps, name=name, confidence=maps[..., 0], coordinates=maps)
    return Understood(name, photo, Crop(0, 0, SIZE), 1, yaw, 0, 0, 1400, 300, "stated", 1, np.zeros((32, 32)), ["a note"])


def neck_row(yaw: float) -> float:
    camera = orbit_camera(yaw_deg=yaw, pitch_deg=0, distance=1400, target=np.zeros(3), focal_px=300, size=SIZE)
    return float(camera.project(np.array([0.0, NECK * MM_PER_UNIT, 0.0]))[0][1])


@pytest.mark.parametrize("yaw", [0.0, 40.0])
def test_a_lost_body_is_left_out_with_all_maps(yaw: float) -> None:
    whole, lost = seen("whole", body=True), seen("lost", body=False, yaw=yaw)
    kept, cut = down_to_the_neck([whole, lost], ["whole", "lost"])
    assert kept is whole
    assert cut.notes == ["a note", NOTE]
    rows = int(neck_row(yaw))
    assert 60 < rows < SIZE - 20
    for name in ("image", "mask", "normals", "confidence", "coordinates"):
        np.testing.assert_array_equal(getattr(cut.photo, name), getattr(lost.photo, name)[:rows])
    assert cut.photo.camera.height == rows
    assert cut.photo.mask.any()
    np.testing.assert_array_equal(cut.photo.camera.intrinsics, lost.photo.camera.intrinsics)


def test_a_photo_that_is_upside_down_stays() -> None:
    whole, lost = seen("whole", body=True), seen("lost", body=False)
    turned = lost.photo.camera.world_from_camera @ np.diag([-1.0, -1.0, 1.0, 1.0])
    camera = dataclasses.replace(lost.photo.camera, world_from_camera=turned)
    over = dataclasses.replace(lost, photo=dataclasses.replace(lost.photo, mask=np.zeros((SIZE, SIZE), bool), camera=camera))
    assert down_to_the_neck([whole, over], ["whole", "lost"])[1] is over


def half_a_body(mask: Array) -> Array:
    """With three fifths of the body's width: busts."""
    return mask & (np.arange(SIZE) < 64)


def test_busts_and_masks_that_were_given_stay() -> None:
    whole, lost = seen("whole", body=True), seen("lost", body=False)
    bust = dataclasses.replace(whole, photo=dataclasses.replace(whole.photo, mask=half_a_body(whole.photo.mask)))
    for found, names in ([bust, lost], ["whole", "lost"]), ([whole, lost], ["whole"]), ([whole, bust], ["whole", "lost"]), ([], []):
        assert down_to_the_neck(found, names) == found


def test_a_photo_that_ends_at_the_chin_lacks_nothing() -> None:
    whole, lost = seen("whole", body=True), seen("lost", body=False)
    rows = int(neck_row(0)) + 6
    photo = dataclasses.replace(lost.photo, mask=lost.photo.mask[:rows], camera=dataclasses.replace(lost.photo.camera, height=rows))
    close = dataclasses.replace(lost, photo=photo)
    assert down_to_the_neck([whole, close], ["whole", "lost"])[1] is close

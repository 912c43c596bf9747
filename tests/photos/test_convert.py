"""Posed photos of other tools become scenes: the bundled scene, described in metres and without masks, comes back in millimetres."""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from avatar_kit.normals.storage import load_estimator
from avatar_kit.photos.convert import convert
from avatar_kit.scene.h3ds import H3dsFolder
from avatar_kit.scene.posed_files import PosedFile
from avatar_kit.types import Array, Camera, InputError

DEMO = Path(str(resources.files("avatar_kit") / "weights" / "demo"))
METRES = 1e-3


def in_metres(camera: Camera) -> Camera:
    moved = camera.world_from_camera.copy()
    moved[:3, 3] *= METRES
    return replace(camera, world_from_camera=moved)


def posed(views: list[int], distortion: Array | None = None) -> list[PosedFile]:
    folder = H3dsFolder(DEMO)
    return [
        PosedFile(folder.images[view], in_metres(folder.photo(view).camera), np.zeros(4) if distortion is None else distortion)
        for view in views
    ]


def test_masks_are_predicted_and_the_heads_size_says_the_unit() -> None:
    photos, unit = convert(posed([0, 2, 3]), load_estimator(None))
    assert unit == pytest.approx(1000, rel=0.08)
    truth = H3dsFolder(DEMO)
    for photo, view in zip(photos, (0, 2, 3), strict=True):
        true = truth.photo(view)
        assert (photo.mask & true.mask).sum() / (photo.mask | true.mask).sum() > 0.93
        np.testing.assert_allclose(photo.camera.centre, true.camera.centre * unit / 1000, atol=1e-6)


def test_a_stated_unit_is_taken_and_one_photo_needs_it() -> None:
    photos, unit = convert(posed([0]), load_estimator(None), mm_per_unit=1000.0)
    assert unit == 1000.0
    np.testing.assert_allclose(photos[0].camera.centre, H3dsFolder(DEMO).photo(0).camera.centre, atol=1e-6)
    with pytest.raises(InputError, match="--mm-per-unit"):
        convert(posed([0]), load_estimator(None))


def test_photos_are_undistorted(tmp_path: Path) -> None:
    """A grid of dots, bent by OpenCV's own formula, lies straight again."""
    true = H3dsFolder(DEMO).photo(0)
    distortion = np.array([1.5, 0.0, 0.0, 0.0])  # the lens is long: corners lie 0.35 from its axis
    k = true.camera.intrinsics
    height, width = true.mask.shape
    at = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).reshape(-1, 1, 2).astype(np.float32)
    pinhole = k - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    straight = cv2.undistortPoints(at, pinhole, distortion, P=pinhole).reshape(height, width, 2)
    bent = cv2.remap(true.image, straight[..., 0], straight[..., 1], cv2.INTER_LINEAR)
    Image.fromarray((bent * 255).round().astype(np.uint8)).save(tmp_path / "img_0000.png")
    file = replace(posed([0], distortion)[0], file=tmp_path / "img_0000.png")
    (photo,), _ = convert([file], load_estimator(None), mm_per_unit=1000.0)
    inner = (slice(40, -40), slice(40, -40))
    assert np.abs(photo.image - true.image)[inner].mean() < 0.3 * np.abs(bent - true.image)[inner].mean()

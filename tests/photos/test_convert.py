"""Posed photos of other tools become scenes: the bundled scene, described in metres and without masks, comes back in millimetres."""

from __future__ import annotations

import weakref
from dataclasses import replace
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from avatar_kit.conventions import transform_points
from avatar_kit.normals.storage import load_estimator
from avatar_kit.photos import convert as conversion
from avatar_kit.photos.convert import convert
from avatar_kit.scene.cameras import turned
from avatar_kit.scene.h3ds import H3dsFolder
from avatar_kit.scene.photo_file import PhotoFile, read_photo
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
        PosedFile(folder.images[view], in_metres(folder.photo(view).camera), np.zeros(5) if distortion is None else distortion)
        for view in views
    ]


def test_masks_are_predicted_and_the_heads_size_says_the_unit() -> None:
    photos, unit, head_from_world = convert(posed([0, 2, 3]), load_estimator(None))
    assert unit == pytest.approx(1000, rel=0.08)
    assert head_from_world is not None
    for photo, yaw_deg in zip(photos, (0, 45, -45), strict=True):  # as the bundled scene's three views are
        x, _, z = transform_points(head_from_world, photo.camera.centre[None])[0]
        assert np.degrees(np.arctan2(x, z)) == pytest.approx(yaw_deg, abs=15)
    truth = H3dsFolder(DEMO)
    for photo, view in zip(photos, (0, 2, 3), strict=True):
        true = truth.photo(view)
        assert (photo.mask & true.mask).sum() / (photo.mask | true.mask).sum() > 0.93
        np.testing.assert_allclose(photo.camera.centre, true.camera.centre * unit / 1000, atol=1e-6)


def test_a_stated_unit_is_taken_and_one_photo_needs_it() -> None:
    photos, unit, _ = convert(posed([0]), load_estimator(None), mm_per_unit=1000.0)
    assert unit == 1000.0
    np.testing.assert_allclose(photos[0].camera.centre, H3dsFolder(DEMO).photo(0).camera.centre, atol=1e-6)
    with pytest.raises(InputError, match="--mm-per-unit"):
        convert(posed([0]), load_estimator(None))


def test_photos_are_undistorted(tmp_path: Path) -> None:
    """A grid of dots, bent by OpenCV's own formula, lies straight again."""
    true = H3dsFolder(DEMO).photo(0)
    distortion = np.array([1.5, 0.0, 0.0, 0.0, 0.5])  # the lens is long: corners lie 0.35 from its axis
    k = true.camera.intrinsics
    height, width = true.mask.shape
    at = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).reshape(-1, 1, 2).astype(np.float32)
    pinhole = k - np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
    straight = cv2.undistortPoints(at, pinhole, distortion, P=pinhole).reshape(height, width, 2)
    bent = cv2.remap(true.image, straight[..., 0], straight[..., 1], cv2.INTER_LINEAR)
    Image.fromarray((bent * 255).round().astype(np.uint8)).save(tmp_path / "img_0000.png")
    file = replace(posed([0], distortion)[0], file=tmp_path / "img_0000.png")
    (photo,), *_ = convert([file], load_estimator(None), mm_per_unit=1000.0)
    inner = (slice(40, -40), slice(40, -40))
    assert np.abs(photo.image - true.image)[inner].mean() < 0.3 * np.abs(bent - true.image)[inner].mean()


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, 1), (8, 3)])
def test_photos_that_exif_turns_are_turned_with_their_cameras(tmp_path: Path, orientation: int, turns: int) -> None:
    """Stored lying or upside down, with the camera of the stored pixels, they become what the upright photo becomes, lens and all."""
    distortion = np.array([1.5, 0.0, 0.05, -0.1, 0.5])
    upright = posed([2], distortion)[0]
    image = np.asarray(Image.open(upright.file))[:, 40:]  # no longer square
    k = upright.camera.intrinsics - np.array([[0, 0, 40], [0, 0, 0], [0, 0, 0.0]])
    upright = replace(upright, file=tmp_path / "upright.png", camera=Camera(k, upright.camera.world_from_camera, *image.shape[1::-1]))
    Image.fromarray(image).save(upright.file)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = replace(upright.turned(-turns), file=tmp_path / "stored.png")
    Image.fromarray(np.rot90(image, turns)).save(stored.file, exif=exif)
    (expected, found), *_ = convert([upright, stored], load_estimator(None), mm_per_unit=1000.0)
    np.testing.assert_allclose(found.image, expected.image, atol=0.02)
    np.testing.assert_array_equal(found.mask, expected.mask)
    np.testing.assert_allclose(found.camera.intrinsics, expected.camera.intrinsics, atol=1e-6)
    np.testing.assert_allclose(found.camera.world_from_camera, expected.camera.world_from_camera, atol=1e-6)


def test_turned_lenses_bend_as_opencv_says() -> None:
    """The stored photo undistorted and then turned is the photo turned and then undistorted."""
    stored = posed([2], np.array([1.5, -2.0, 0.2, -0.1, 0.5]))[0]
    image = H3dsFolder(DEMO).photo(2).image
    for turns in (1, 2, 3):
        lying = stored.turned(turns)
        straight = conversion._undistorted(np.rot90(image, -turns), lying.camera, lying.distortion)
        np.testing.assert_allclose(straight, np.rot90(conversion._undistorted(image, stored.camera, stored.distortion), -turns), atol=0.02)
        assert turned(lying.camera, -turns).intrinsics == pytest.approx(stored.camera.intrinsics)


def test_a_photo_of_another_shape_than_its_camera_is_refused_by_name(tmp_path: Path) -> None:
    file = posed([0])[0]
    with Image.open(file.file) as picture:
        width, height = picture.size
        picture.crop((0, 0, width, height - 40)).save(tmp_path / "cropped.jpg")
        exif = Image.Exif()
        exif[0x0112] = 2
        picture.save(tmp_path / "mirrored.jpg", exif=exif)
        picture.resize((301, 300 * height // width)).save(tmp_path / "small.png")
    with pytest.raises(InputError, match=rf"cropped\.jpg: is {width} x {height - 40} .* camera {width} x {height}\. Give the photos"):
        convert([replace(file, file=tmp_path / "cropped.jpg")], load_estimator(None), mm_per_unit=1000.0)
    with pytest.raises(InputError, match=r"mirrored\.jpg: is mirrored"):
        convert([replace(file, file=tmp_path / "mirrored.jpg")], load_estimator(None), mm_per_unit=1000.0)
    assert len(convert([replace(file, file=tmp_path / "small.png")], load_estimator(None), mm_per_unit=1000.0)[0]) == 1


def test_photos_are_not_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    images: list[weakref.ref[Array]] = []
    alive: list[int] = []

    def read(file: Path) -> PhotoFile:
        found = read_photo(file)
        images.append(weakref.ref(found.image))
        return found

    monkeypatch.setattr(conversion, "read_photo", read)
    net = load_estimator(None)
    photos, *_ = convert(posed([0, 2]), net, on_photo=lambda: alive.append(sum(image() is not None for image in images)))
    assert alive == [0, 0]
    assert photos[1].image.shape == photos[-1].image.shape == (*photos[1].mask.shape, 3)
    assert [photo.name for photo in photos[1:]] == ["img_0002.jpg"]

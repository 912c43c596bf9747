"""Posed photos of another tool become a scene folder: undistorted, with masks, in millimetres."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, overload

import cv2
import numpy as np

from avatar_kit.conventions import MM_PER_UNIT, scale_of
from avatar_kit.normals.estimator import Estimator
from avatar_kit.normals.predict import predict_normals
from avatar_kit.photos.find import closer_look, find_heads, subject_mask
from avatar_kit.photos.locate import agreed_place, what_says
from avatar_kit.scene.cameras import resized
from avatar_kit.scene.photo_file import read_mask, read_photo
from avatar_kit.scene.posed_files import PosedFile
from avatar_kit.types import Array, Camera, InputError, Photo


class Converted(Sequence[Photo]):
    """Photos that are read, undistorted and turned upright anew whenever they are asked for: a hundred would fill the memory.

    Args:
        kept: files and the masks of what they become, (H, W) bool, packed by `numpy.packbits`.
        mm_per_unit: of the files' world; the photos' world is in millimetres.
    """

    def __init__(self, kept: Sequence[tuple[PosedFile, Array]], mm_per_unit: float) -> None:
        self._kept, self._mm_per_unit = kept, mm_per_unit

    def __len__(self) -> int:
        return len(self._kept)

    @overload
    def __getitem__(self, index: int) -> Photo: ...
    @overload
    def __getitem__(self, index: slice) -> Converted: ...
    def __getitem__(self, index: int | slice) -> Photo | Converted:
        if isinstance(index, slice):
            return Converted(self._kept[index], self._mm_per_unit)
        posed, packed = self._kept[index]
        image, _, camera = _pinhole(posed, None)
        mask = np.unpackbits(packed, count=camera.width * camera.height).reshape(camera.height, camera.width).astype(bool)
        return Photo(image, mask, _scaled(camera, self._mm_per_unit), name=posed.file.name)


class Conversion(NamedTuple):
    """Photos that are upright and undistorted, in a world in millimetres.

    Attributes:
        mm_per_unit: of the world that the files' cameras are in.
        head_from_world: a similarity (4, 4) from the world in millimetres; None where the photos do not say where the head is.
    """

    photos: Converted
    mm_per_unit: float
    head_from_world: Array | None


def convert(
    files: Sequence[PosedFile], net: Estimator, *, masks: Path | None = None, mm_per_unit: float | None = None,
    on_photo: Callable[[], object] | None = None,
) -> Conversion:  # fmt: skip
    """Those of the photos in which there is a head, with masks.

    Args:
        masks: a folder with NAME.png, white on the subject, upright as the photos are seen; predicted where there is none.
        mm_per_unit: of the files' world; without, the size of the head says it.

    Raises:
        InputError: no head in any photo, or none whose size can be told.
    """
    kept, said, failures = [], [], []
    for posed in files:
        try:
            photo = _photo(posed, net, masks)
            kept.append((posed, np.packbits(photo.mask)))
            said.append(what_says(photo))
            del photo  # before the next one is read
        except InputError as error:
            failures.append(str(error))
        if on_photo:
            on_photo()
    if not kept:
        raise InputError("no photo can be used. " + " ".join(failures))
    for failure in failures:
        warnings.warn(f"left out: {failure}", stacklevel=2)
    several = [says for says in said if says is not None]
    place = agreed_place(several, 1.0) if len(several) > 1 else None
    if mm_per_unit is None:
        if place is None:
            raise InputError("the photos do not say how large the head is. Give --mm-per-unit, millimetres of one unit of the cameras.")
        mm_per_unit = scale_of(place) * MM_PER_UNIT
    head_from_world = None if place is None else place @ np.diag([1 / mm_per_unit] * 3 + [1.0])
    return Conversion(Converted(kept, mm_per_unit), mm_per_unit, head_from_world)


def _photo(posed: PosedFile, net: Estimator, masks: Path | None) -> Photo:
    """With mask, confidence and coordinates; its world is the file's."""
    image, mask, camera = _pinhole(posed, masks)
    if mask is None:
        first = find_heads(image, net, name=posed.file.name)[0]
        mask = subject_mask(image, net, closer_look(image, net, first, name=posed.file.name))
    maps = predict_normals(image, net, mask, intrinsics=camera.intrinsics, name=posed.file.name)
    return Photo(image, mask, camera, None, posed.file.name, maps.confidence, maps.coordinates)


def _pinhole(posed: PosedFile, masks: Path | None) -> tuple[Array, Array | None, Camera]:
    """Image, mask where one is given, and camera of a photo as it is seen upright and without distortion.

    Raises:
        InputError: unreadable, or not the picture that the camera is of.
    """
    read = read_photo(posed.file)
    if read.quarter_turns is None:
        raise InputError(f"{posed.file}: is mirrored by its EXIF orientation, which no camera does. Save it without that orientation.")
    stored, camera = read.size[:: -1 if read.quarter_turns % 2 else 1], posed.camera
    if abs(stored[0] * camera.height - stored[1] * camera.width) > 2 * max(*stored, camera.width, camera.height):
        raise InputError(
            f"{posed.file}: is {stored[0]} x {stored[1]} pixels as it is stored, its camera {camera.width} x {camera.height}. "
            "Give the photos that the cameras were computed from, neither cropped nor turned."
        )
    posed = posed.turned(read.quarter_turns)
    image, mask = read.image, read.mask
    camera = resized(posed.camera, image.shape[1], image.shape[0])
    if masks is not None and (masks / f"{posed.file.stem}.png").is_file():
        mask = read_mask(masks / f"{posed.file.stem}.png", image.shape[:2])
    if posed.distortion.any():
        image = _undistorted(image, camera, posed.distortion)
        mask = None if mask is None else _undistorted(mask.astype(np.float32), camera, posed.distortion) > 0.5
    return image, mask, camera


def _undistorted(image: Array, camera: Camera, distortion: Array) -> Array:
    k = camera.intrinsics.copy()
    k[:2, 2] -= 0.5  # OpenCV's pixel centres lie on whole numbers
    return cv2.undistort(np.ascontiguousarray(image), k, distortion)


def _scaled(camera: Camera, factor: float) -> Camera:
    world_from_camera = camera.world_from_camera.copy()
    world_from_camera[:3, 3] *= factor
    return replace(camera, world_from_camera=world_from_camera)

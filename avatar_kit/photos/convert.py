"""Posed photos of another tool become a scene folder: undistorted, with masks, in millimetres."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from avatar_kit.conventions import MM_PER_UNIT, scale_of
from avatar_kit.normals.predict import Estimator, predict_normals
from avatar_kit.photos.find import closer_look, find_heads, subject_mask
from avatar_kit.photos.locate import locate_head
from avatar_kit.scene.cameras import resized
from avatar_kit.scene.photo_file import read_mask, read_photo
from avatar_kit.scene.posed_files import PosedFile
from avatar_kit.types import Array, Camera, InputError, Photo, Scene


def convert(
    files: Sequence[PosedFile], net: Estimator, *, masks: Path | None = None, mm_per_unit: float | None = None,
    on_photo: Callable[[], object] | None = None,
) -> tuple[list[Photo], float]:  # fmt: skip
    """Photos with masks and cameras in a world in millimetres.

    Args:
        masks: a folder with NAME.png, white on the subject; predicted where there is none.
        mm_per_unit: of the files' world; without, the size of the head says it.

    Returns:
        the photos in which there is a head, and the millimetres of one unit.

    Raises:
        InputError: no head in any photo, or none whose size can be told.
    """
    photos, failures = [], []
    for posed in files:
        try:
            photos.append(_photo(posed, net, masks))
        except InputError as error:
            failures.append(str(error))
        if on_photo:
            on_photo()
    if not photos:
        raise InputError("no photo can be used. " + " ".join(failures))
    for failure in failures:
        warnings.warn(f"left out: {failure}", stacklevel=2)
    if mm_per_unit is None:
        head_from_world = locate_head(Scene(tuple(photos), tuple(range(len(photos))), "converted")) if len(photos) > 1 else None
        if head_from_world is None:
            raise InputError("the photos do not say how large the head is. Give --mm-per-unit, millimetres of one unit of the cameras.")
        mm_per_unit = scale_of(head_from_world) * MM_PER_UNIT
    return [replace(photo, camera=_scaled(photo.camera, mm_per_unit)) for photo in photos], mm_per_unit


def _photo(posed: PosedFile, net: Estimator, masks: Path | None) -> Photo:
    read = read_photo(posed.file)
    image, mask = read.image, read.mask
    camera = resized(posed.camera, image.shape[1], image.shape[0])
    if masks is not None and (masks / f"{posed.file.stem}.png").is_file():
        mask = read_mask(masks / f"{posed.file.stem}.png", image.shape[:2])
    if posed.distortion.any():
        image = _undistorted(image, camera, posed.distortion)
        mask = None if mask is None else _undistorted(mask.astype(np.float32), camera, posed.distortion) > 0.5
    if mask is None:
        first = find_heads(image, net, name=posed.file.name)[0]
        mask = subject_mask(image, net, closer_look(image, net, first, name=posed.file.name))
    maps = predict_normals(image, net, mask, intrinsics=camera.intrinsics, name=posed.file.name)
    return Photo(image, mask, camera, None, posed.file.name, maps.confidence, maps.coordinates)


def _undistorted(image: Array, camera: Camera, distortion: Array) -> Array:
    k = camera.intrinsics.copy()
    k[:2, 2] -= 0.5  # OpenCV's pixel centres lie on whole numbers
    return cv2.undistort(np.ascontiguousarray(image), k, distortion)


def _scaled(camera: Camera, factor: float) -> Camera:
    world_from_camera = camera.world_from_camera.copy()
    world_from_camera[:3, 3] *= factor
    return replace(camera, world_from_camera=world_from_camera)

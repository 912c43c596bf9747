"""Plain photos: files, or a folder of them, with masks and focal lengths where they are known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from avatar_kit.scene.photo_file import FULL_FRAME_DIAGONAL_MM, SUFFIXES, read_mask, read_photo
from avatar_kit.types import Array, InputError


@dataclass(frozen=True, eq=False)
class PlainPhoto:
    """A photo of which nothing else is known.

    Attributes:
        name: its file's name.
        image: sRGB in [0, 1], (H, W, 3) float32, upright.
        mask: (H, W) bool, or None.
        focal_px: or None.
        yaw_deg: of the camera around the head, as the user says; or None.
    """

    name: str
    image: Array
    mask: Array | None
    focal_px: float | None
    yaw_deg: float | None = None


def is_plain(path: Path) -> bool:
    """Whether a path is a photo, or a folder of photos without cameras."""
    if path.is_file():
        return path.suffix.lower() in SUFFIXES
    return path.is_dir() and not (path / "cameras.npz").is_file() and bool(photo_files(path))


def photo_files(folder: Path) -> list[Path]:
    """The photos of a folder, or of its image/, in the order of their names' numbers."""
    for place in (folder, folder / "image"):
        if place.is_dir():
            found = [file for file in place.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")]
            if found:
                return sorted(found, key=lambda file: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.name)])
    return []


def read_plain_photos(
    path: Path, *, masks: Path | None = None, focal_mm: float | None = None, yaws_deg: Sequence[float] | None = None
) -> list[PlainPhoto]:
    """Read a photo, or all of a folder.

    Args:
        masks: a folder with NAME.png, white on the subject; by default mask/ in the folder, where it is there.
        focal_mm: 35 mm equivalent of all photos; by default what their EXIF says.
        yaws_deg: from where each photo was taken, in the order of `photo_files`.

    Raises:
        InputError: no photos, one that cannot be read, or another number of yaws.
    """
    files = [path] if path.is_file() else photo_files(path)
    if not files:
        raise InputError(f"{path}: found no photos ({', '.join(SUFFIXES)}). Give a folder of photos of one head.")
    if masks is None and (path / "mask").is_dir():
        masks = path / "mask"
    if yaws_deg is None:
        return [_read(file, masks, focal_mm) for file in files]
    check_yaws(path, files, yaws_deg)
    return [replace(_read(file, masks, focal_mm), yaw_deg=yaw) for file, yaw in zip(files, yaws_deg, strict=True)]


def check_yaws(path: Path, files: Sequence[Path], yaws_deg: Sequence[float]) -> None:
    """Refuse yaws that are not one per photo.

    Raises:
        InputError: naming the photos in their order.
    """
    if len(yaws_deg) != len(files):
        names = ", ".join(file.name for file in files)
        raise InputError(f"--yaw names {len(yaws_deg)} angles, {path} holds {len(files)} photos. Give one angle for each of: {names}.")


def _read(file: Path, masks: Path | None, focal_mm: float | None) -> PlainPhoto:
    read = read_photo(file)
    mask = read.mask
    if masks is not None:
        named = _mask_file(masks, file)
        if named is not None:
            mask = read_mask(named, read.image.shape[:2])
    focal = read.focal_px
    if focal_mm is not None:
        focal = focal_mm * float(np.hypot(*read.image.shape[:2])) / FULL_FRAME_DIAGONAL_MM
    return PlainPhoto(file.name, read.image, mask, focal)


def _mask_file(masks: Path, photo: Path) -> Path | None:
    names: Sequence[str] = (f"{photo.stem}.png", f"{photo.stem.replace('img', 'mask')}.png", f"{photo.name}.png")
    return next((masks / name for name in names if (masks / name).is_file()), None)

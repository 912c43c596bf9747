"""Plain photos: files, or a folder of them, with masks and focal lengths where they are known."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from avatar_kit.backends import BackendMissing
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
        focal_source: "exif", or "stated" by the user.
        yaw_deg: of the camera around the head, as the user says; or None.
    """

    name: str
    image: Array
    mask: Array | None
    focal_px: float | None
    yaw_deg: float | None = None
    focal_source: str = "exif"


def is_plain(path: Path) -> bool:
    """Whether a path is a photo, or a folder of photos without cameras."""
    if path.is_file():
        return path.suffix.lower() in SUFFIXES
    return path.is_dir() and not (path / "cameras.npz").is_file() and bool(photo_files(path))


def check_there(path: Path) -> None:
    """Refuse what is neither plain photos nor a folder that may be a scene.

    Raises:
        InputError: not there, another kind of file, or a folder with neither photos nor cameras.
    """
    wanted = "Give a photo, a folder of photos of one person, or a scene with image/, mask/ and cameras.npz."
    if not path.exists():
        raise InputError(f"{path}: no such file or folder. {wanted}")
    if path.is_file() and not is_plain(path):
        raise InputError(f"{path}: is no photo by its name ({', '.join(SUFFIXES)}). {wanted}")
    if path.is_dir() and not is_plain(path) and not (path / "cameras.npz").is_file():
        raise InputError(f"{path}: holds no photos ({', '.join(SUFFIXES)}). {wanted}")


def photo_files(folder: Path) -> list[Path]:
    """The photos of a folder, or of its image/, in the order of their names' numbers."""
    for place in (folder, folder / "image"):
        if place.is_dir():
            found = [file for file in place.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")]
            if found:
                return sorted(found, key=lambda file: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", file.name)])
    return []


def read_plain_photos(
    path: Path, *, masks: Path | None = None, focal_mm: float | None = None, yaws_deg: Sequence[float] | None = None,
    on_unreadable: Callable[[Path, Exception], object] | None = None,
) -> Iterator[PlainPhoto]:  # fmt: skip
    """Read a photo, or all of a folder, each when it is asked for: a hundred at once would fill the memory.

    Args:
        masks: a folder with NAME.png, white on the subject; by default mask/ in the folder, where it is there.
        focal_mm: 35 mm equivalent of all photos; by default what their EXIF says.
        yaws_deg: from where each photo was taken, in the order of `photo_files`.
        on_unreadable: called with a photo that cannot be read (or only with what is not installed) and why; the others go on.

    Raises:
        InputError: no photos, or another number of yaws, at once; without `on_unreadable` one that cannot be read, when its turn comes.
    """
    files = [path] if path.is_file() else photo_files(path)
    if not files:
        raise InputError(f"{path}: found no photos ({', '.join(SUFFIXES)}). Give a folder of photos of one head.")
    if yaws_deg is not None:
        check_yaws(path, files, yaws_deg)
    return _each(files, yaws_deg or [None] * len(files), mask_folder(path, masks), focal_mm, on_unreadable)


def mask_folder(path: Path, masks: Path | None) -> Path | None:
    """Where masks of the photos in `path` are looked for: in `masks`, else in its own mask/; None where there is neither."""
    return masks or (path / "mask" if (path / "mask").is_dir() else None)


def _each(
    files: Sequence[Path], yaws_deg: Sequence[float | None], masks: Path | None, focal_mm: float | None,
    on_unreadable: Callable[[Path, Exception], object] | None,
) -> Iterator[PlainPhoto]:  # fmt: skip
    for file, yaw in zip(files, yaws_deg, strict=True):
        try:
            plain = replace(_read(file, masks, focal_mm), yaw_deg=yaw)
        except (InputError, BackendMissing) as error:
            if on_unreadable is None:
                raise
            on_unreadable(file, error)
        else:
            yield plain


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
    named = None if masks is None else _mask_file(masks, file)
    mask = read.mask if named is None else read_mask(named, read.image.shape[:2])
    focal = read.focal_px
    if focal_mm is not None:
        focal = focal_mm * float(np.hypot(*read.image.shape[:2])) / FULL_FRAME_DIAGONAL_MM
    return PlainPhoto(file.name, read.image, mask, focal, focal_source="exif" if focal_mm is None else "stated")


def _mask_file(masks: Path, photo: Path) -> Path | None:
    stems = (photo.stem, photo.stem.replace("img", "mask"), photo.name)
    names = (f"{stem}{ending}" for stem in stems for ending in (".png", ".jpg"))
    return next((masks / name for name in names if (masks / name).is_file()), None)

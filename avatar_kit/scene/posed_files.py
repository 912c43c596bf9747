"""Posed photos as other tools write them: nerfstudio's transforms.json and COLMAP's sparse models, text or binary."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from scipy.spatial.transform import Rotation

from avatar_kit.scene.cameras import turned
from avatar_kit.types import Array, Camera, InputError

# COLMAP's camera models by number: name, and how its parameters begin: f or fx fy, cx cy, then distortion (k1 k2 p1 p2)
_MODELS = {0: ("SIMPLE_PINHOLE", 3), 1: ("PINHOLE", 4), 2: ("SIMPLE_RADIAL", 4), 3: ("RADIAL", 5), 4: ("OPENCV", 8)}
_ONE_FOCAL = ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")
_NAMES = tuple(name for name, _ in _MODELS.values())
_UNDISTORT = f"{', '.join(_NAMES)} can be used. Undistort the photos first, with COLMAP's image_undistorter, and give what it writes."
_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])  # transforms.json: x right, y up, z backward


@dataclass(frozen=True, eq=False)
class PosedFile:
    """A photo on disk with the camera of its pixels as they are stored: EXIF's orientation is not for tools that compute cameras.

    Attributes:
        distortion: k1, k2, p1, p2, k3 as OpenCV has them, (5,); zero for a pinhole.
    """

    file: Path
    camera: Camera
    distortion: Array

    def turned(self, quarter_turns: int) -> PosedFile:
        """Of the photo turned clockwise, by quarter turns."""
        k1, k2, p1, p2, k3 = self.distortion
        for _ in range(quarter_turns % 4):
            p1, p2 = p2, -p1
        return replace(self, camera=turned(self.camera, quarter_turns), distortion=np.array([k1, k2, p1, p2, k3]))


def read_posed(source: Path, images: Path | None = None) -> list[PosedFile]:
    """Read a transforms.json or the folder of a COLMAP model (cameras and images, .bin or .txt), by the photos' names.

    Args:
        images: the folder of a COLMAP model's photos; by default images/ beside or above it.

    Raises:
        InputError: neither, or something in it that cannot be used.
    """
    if not source.exists():
        raise InputError(f"{source}: no such file or folder. Give a transforms.json or the folder of a COLMAP model.")
    if source.is_dir() and (source / "transforms.json").is_file():
        source = source / "transforms.json"
    if source.suffix == ".json":
        return _transforms(source)
    for place in (source, source / "sparse" / "0", source / "sparse", source / "0"):
        for ending in (".bin", ".txt"):
            if (place / f"cameras{ending}").is_file() and (place / f"images{ending}").is_file():
                return _colmap(place, ending, images or _images_of(place))
    raise InputError(f"{source}: is neither a transforms.json nor a COLMAP model. A model has cameras and images, as .bin or .txt.")


def _transforms(file: Path) -> list[PosedFile]:
    try:
        content = json.loads(file.read_text())
        frames = content["frames"]
        if not frames:
            raise ValueError("none in the list")
        stated = [_stated(content, frame) for frame in frames]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: holds no frames ({error}). It must be a transforms.json of nerfstudio or instant-ngp.") from error
    return sorted((_frame(file, each) for each in stated), key=lambda posed: posed.file.name)


def _stated(content: dict[str, Any], frame: dict[str, Any]) -> dict[str, Any]:
    """What holds for a frame: its own entries before those of all; null says nothing."""
    return {name: value for entries in (content, frame) for name, value in entries.items() if value is not None}


def _frame(file: Path, stated: dict[str, Any]) -> PosedFile:
    photo = _with_ending(file.parent / str(stated.get("file_path", "")))
    _check_model(file, photo, stated)
    try:
        width, height = _size(stated, photo)
        focals = _focal(stated, "x", width), _focal(stated, "y", height)
        focal_x, focal_y = focals[0] or focals[1], focals[1] or focals[0]
        if focal_x is None or focal_y is None:
            raise InputError(f"{file}: {photo.name} has neither fl_x nor camera_angle_x.")
        centre = (float(stated.get("cx", width / 2)), float(stated.get("cy", height / 2)))
        matrix = np.asarray(stated.get("transform_matrix"), float)
        if matrix.shape != (4, 4):
            raise InputError(f"{file}: the transform_matrix of {photo.name} is not 4 x 4.")
        intrinsics = np.array([[focal_x, 0, centre[0]], [0, focal_y, centre[1]], [0, 0, 1.0]])
        distortion = np.array([stated.get(name, 0.0) for name in ("k1", "k2", "p1", "p2", "k3")], float)
    except (TypeError, ValueError) as error:
        raise InputError(f"{file}: the camera of {photo.name} cannot be read ({error}). Its entries must be numbers.") from error
    if not (np.isfinite(intrinsics).all() and np.isfinite(distortion).all() and min(focal_x, focal_y) > 0):
        raise InputError(f"{file}: the camera of {photo.name} has no focal length above 0, or an entry that is not finite.")
    return PosedFile(photo, Camera(intrinsics, _rigid(matrix @ _OPENGL, file), width, height), distortion)


def _focal(stated: dict[str, Any], axis: str, pixels: int) -> float | None:
    """Along an axis, px; None where nothing is said."""
    if stated.get(f"fl_{axis}"):
        return float(stated[f"fl_{axis}"])
    angle = stated.get(f"camera_angle_{axis}")
    # an angle along y beside a length along x: instant-ngp computes the one from the other, of square pixels
    return None if angle is None or (axis == "y" and "fl_x" in stated) else pixels / (2 * np.tan(float(angle) / 2))


def _check_model(file: Path, photo: Path, stated: dict[str, Any]) -> None:
    """Refuse lenses that k1, k2, p1, p2 and k3 do not describe."""
    model = stated.get("camera_model") or "OPENCV"
    if stated.get("is_fisheye"):
        model = "OPENCV_FISHEYE"
    if model not in _NAMES:
        raise InputError(f"{file}: the camera of {photo.name} is of model {model}. {_UNDISTORT}")
    if stated.get("k4"):
        raise InputError(f"{file}: the camera of {photo.name} has a distortion k4, which is more than OPENCV's. {_UNDISTORT}")


def _colmap(folder: Path, ending: str, images: Path) -> list[PosedFile]:
    try:
        cameras = (_cameras_binary if ending == ".bin" else _cameras_text)(folder / f"cameras{ending}")
        poses = (_images_binary if ending == ".bin" else _images_text)(folder / f"images{ending}")
    except (ValueError, IndexError) as error:
        raise InputError(f"{folder}: cameras{ending} or images{ending} is damaged ({error}). Export the COLMAP model again.") from error
    found = []
    for name, number, quaternion, shift in poses:
        if number not in cameras:
            raise InputError(f"{folder}: {name} was taken by camera {number}, which cameras{ending} lacks.")
        intrinsics, distortion, width, height = cameras[number]
        if not np.isfinite([*quaternion, *shift]).all() or not np.any(quaternion):
            raise InputError(f"{folder}: the pose of {name} is none. Export the COLMAP model again.")
        camera_from_world = np.eye(4)
        camera_from_world[:3, :3] = Rotation.from_quat(np.roll(quaternion, -1)).as_matrix()  # COLMAP: w first
        camera_from_world[:3, 3] = shift
        found.append(PosedFile(images / name, Camera(intrinsics, np.linalg.inv(camera_from_world), width, height), distortion))
    if not found:
        raise InputError(
            f"{folder}: the model has no photos: COLMAP registered none. Plain photos work without it: `avatar-kit recon PHOTOS`."
        )
    return sorted(found, key=lambda posed: posed.file.name)


def _camera(file: Path, number: int, model: str, width: int, height: int, values: list[float]) -> tuple[Array, Array, int, int]:
    if model not in _NAMES:
        raise InputError(f"{file}: camera {number} is of model {model}. {_UNDISTORT}")
    focals = values[:1] * 2 if model in _ONE_FOCAL else values[:2]
    rest = values[1:] if model in _ONE_FOCAL else values[2:]
    intrinsics = np.array([[focals[0], 0, rest[0]], [0, focals[1], rest[1]], [0, 0, 1.0]])
    return intrinsics, np.pad(np.array(rest[2:6], float), (0, 5 - len(rest[2:6]))), width, height


def _cameras_text(file: Path) -> dict[int, tuple[Array, Array, int, int]]:
    cameras = {}
    for line in _lines(file):
        number, model, width, height, *values = line.split()
        cameras[int(number)] = _camera(file, int(number), model, int(width), int(height), [float(v) for v in values])
    return cameras


def _images_text(file: Path) -> list[tuple[str, int, Array, Array]]:
    found = []
    for line in [line for line in file.read_text().splitlines() if not line.startswith("#")][::2]:  # the other lines are its points
        if line.strip():
            values = line.split(maxsplit=9)
            found.append((values[9], int(values[8]), np.array(values[1:5], float), np.array(values[5:8], float)))
    return found


def _cameras_binary(file: Path) -> dict[int, tuple[Array, Array, int, int]]:
    cameras = {}
    with file.open("rb") as stream:
        for _ in range(_unpack(stream, "<Q")[0]):
            number, model, width, height = _unpack(stream, "<iiQQ")
            if model not in _MODELS:
                raise InputError(f"{file}: camera {number} is of COLMAP's model number {model}. {_UNDISTORT}")
            name, count = _MODELS[model]
            cameras[number] = _camera(file, number, name, width, height, list(_unpack(stream, f"<{count}d")))
    return cameras


def _images_binary(file: Path) -> list[tuple[str, int, Array, Array]]:
    found = []
    with file.open("rb") as stream:
        for _ in range(_unpack(stream, "<Q")[0]):
            _, *values, camera = _unpack(stream, "<i7di")
            name = b"".join(iter(lambda: stream.read(1), b"\0")).decode()
            (points,) = _unpack(stream, "<Q")
            stream.seek(24 * points, 1)
            found.append((name, camera, np.array(values[:4]), np.array(values[4:])))
    return found


def _unpack(stream: BinaryIO, layout: str) -> tuple:
    data = stream.read(struct.calcsize(layout))
    if len(data) < struct.calcsize(layout):
        raise InputError(f"{stream.name}: ends too early. Export the COLMAP model again.")
    return struct.unpack(layout, data)


def _lines(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if line.strip() and not line.startswith("#")]


def _images_of(model: Path) -> Path:
    return next((place / "images" for place in (model, *list(model.parents)[:3]) if (place / "images").is_dir()), model)


def _with_ending(photo: Path) -> Path:
    """instant-ngp leaves the ending out."""
    if photo.suffix:
        return photo
    return next((photo.with_suffix(ending) for ending in (".png", ".jpg", ".jpeg") if photo.with_suffix(ending).is_file()), photo)


def _size(stated: dict[str, Any], photo: Path) -> tuple[int, int]:
    if "w" in stated and "h" in stated:
        return int(stated["w"]), int(stated["h"])
    from PIL import Image

    try:
        with Image.open(photo) as picture:
            return picture.size
    except OSError as error:
        raise InputError(f"{photo}: cannot be read as a picture ({error}). transforms.json names it.") from error


def _rigid(matrix: Array, file: Path) -> Array:
    """The pose without its scale.

    Raises:
        InputError: not a rotation.
    """
    linear = matrix[:3, :3]
    scale = float(np.cbrt(np.linalg.det(linear)))
    if not scale > 0 or np.abs(linear.T @ linear - scale**2 * np.eye(3)).max() > 1e-3 * scale**2:
        raise InputError(f"{file}: a transform_matrix is not a rotation with a translation.")
    rigid = matrix.copy()
    rigid[:3, :3] /= scale
    return rigid

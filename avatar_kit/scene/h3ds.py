"""The H3DS / IDR scene folder: reading, checking and writing.

image/img_0000.jpg   mask/mask_0000.png   cameras.npz (world_mat_i = K [R | t], scale_mat_i)
optional: normal/normal_0000.png (8 or 16 bit, camera frame), full_head.obj, landmarks.txt, regions/face_sphere.txt,
views.json ({"view_configs": {"3": [0, 2, 3]}, "units": "mm"})
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from avatar_kit.conventions import scale_of
from avatar_kit.scene import cameras
from avatar_kit.scene.photo_file import eight_bits, mask_picture
from avatar_kit.types import Array, Camera, InputError, Mesh, Photo, Reference, Scene
from avatar_kit.whole_folder import whole_folder

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_MM_PER_UNIT = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
_NOT_SIMILAR = 0.02  # of the squared scale: a matrix that was rounded is further off than one that was computed


class H3dsFolder:
    """A scene on disk. Opening it reads the list of photos and the cameras, not the pictures."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_dir():
            raise InputError(f"{path}: no such folder. Give a scene with image/, mask/ and cameras.npz.")
        self.images = _numbered(path / "image", IMAGE_SUFFIXES)
        if not self.images:
            raise InputError(f"{path}/image: found no photos ({', '.join(IMAGE_SUFFIXES)}). Name them img_0000.jpg and so on.")
        self.masks = _numbered(path / "mask", (".png", ".jpg"))
        self.normals = _numbered(path / "normal", (".png",))
        self.notes = _read_notes(path / "views.json")
        self._projections = self._read_cameras()

    @property
    def view_ids(self) -> list[int]:
        """Numbers of all photos."""
        return sorted(self.images)

    @property
    def mm_per_world_unit(self) -> float:
        """From views.json; millimetres where it is silent."""
        unit = self.notes.get("units", "mm")
        if not isinstance(unit, str) or unit not in _MM_PER_UNIT:
            raise InputError(f"{self.path}/views.json: units {unit!r} is unknown. Use one of {sorted(_MM_PER_UNIT)}.")
        return _MM_PER_UNIT[unit]

    @property
    def view_configs(self) -> dict[str, list[int]]:
        """The scene's own choices of views, by their number."""
        return self.notes.get("view_configs", {})

    def _read_cameras(self) -> dict[int, tuple[Array, Array]]:
        file = self.path / "cameras.npz"
        if not file.is_file():
            raise InputError(f"{file}: no such file. A posed scene needs world_mat_i = K [R|t] for every photo.")
        try:
            with np.load(file, allow_pickle=False) as pack:
                arrays = {name: pack[name] for name in pack.files}
        except Exception as error:
            raise InputError(f"{file}: cannot be read ({error}). Write it with numpy.savez.") from error
        decomposed = {}
        for i in self.view_ids:
            name = f"world_mat_{i}"
            if name not in arrays:
                raise InputError(f"{file}: lacks {name} for {self.images[i].name}. Add it or remove the photo.")
            if arrays[name].shape not in ((4, 4), (3, 4)):
                raise InputError(f"{file}: {name} has shape {arrays[name].shape}, expected (4, 4).")
            try:
                decomposed[i] = cameras.decompose_projection(arrays[name][:3].astype(np.float64))
            except ValueError as error:
                raise InputError(f"{file}: {name} {error}. It must be K [R|t] with a proper rotation; export it again.") from error
        return decomposed

    def camera(self, view: int, width: int, height: int) -> Camera:
        """Camera of a view whose photo has `width` x `height` pixels."""
        intrinsics, camera_from_world = self._projections[view]
        return Camera(intrinsics, np.linalg.inv(camera_from_world), width, height)

    def photo(self, view: int) -> Photo:
        """One photo with its mask, camera and, where there is one, normal map.

        Raises:
            InputError: missing, unreadable, or not fitting together.
        """
        file = self.images[view]
        image = _open(file, lambda picture: eight_bits(picture).convert("RGB")).astype(np.float32) / 255.0
        height, width = image.shape[:2]
        mask = self._mask(view, (height, width))
        normals = self._normals(view, (height, width))
        return Photo(image, mask, self.camera(view, width, height), normals, f"image/{file.name}")

    def _mask(self, view: int, size: tuple[int, int]) -> Array:
        if view not in self.masks:
            raise InputError(
                f"{self.path}/mask/mask_{view:04d}.png: missing, for image/{self.images[view].name}. "
                "Add a mask (white on the subject) of the photo's size."
            )
        file = self.masks[view]
        mask = _open(file, mask_picture) > 127
        if mask.shape != size:
            raise InputError(
                f"{file}: is {mask.shape[1]} x {mask.shape[0]} pixels, its photo {size[1]} x {size[0]}. Make them the same size."
            )
        for value, colour in ((True, "white"), (False, "black")):
            if (mask == value).all():
                raise InputError(f"{file}: is all {colour}. A mask is white on the subject and black elsewhere.")
        return mask

    def _normals(self, view: int, size: tuple[int, int]) -> Array | None:
        if view not in self.normals:
            return None
        file = self.normals[view]
        normals = read_normal_map(file)
        if normals.shape[:2] != size:
            raise InputError(
                f"{file}: is {normals.shape[1]} x {normals.shape[0]} pixels, its photo {size[1]} x {size[0]}. Make them the same size."
            )
        return normals

    def scene(self, views: Sequence[int]) -> Scene:
        """The scene with the photos of `views`.

        Raises:
            InputError: a view that is not there, or a photo that cannot be used.
        """
        for view in views:
            if view not in self.images:
                raise InputError(f"{self.path}: has no view {view}. Its views are {self.view_ids}.")
        head_from_world = self.notes.get("head_from_world")
        return Scene(
            photos=tuple(self.photo(view) for view in views),
            view_ids=tuple(views),
            name=self.path.resolve().name,
            head_from_world=head_from_world,
            mm_per_world_unit=self.mm_per_world_unit,
        )

    def reference(self) -> Reference | None:
        """The true mesh, or None where the scene has none."""
        return read_reference(self.path)


def read_reference(path: Path) -> Reference | None:
    """The true mesh of a scene folder with its landmarks and face region, or None where it has none.

    Raises:
        InputError: one of the files cannot be used.
    """
    file = path / "full_head.obj"
    if not file.is_file():
        return None
    import trimesh

    try:
        loaded: Any = trimesh.load_mesh(file, process=False, maintain_order=True)
        mesh = Mesh(np.asarray(loaded.vertices), np.asarray(loaded.faces, np.int32))
    except Exception as error:
        raise InputError(f"{file}: cannot be read as a mesh ({error}). Export it again, with its faces.") from error
    if len(mesh.faces) == 0:
        raise InputError(f"{file}: holds no triangles. The true mesh needs its faces.")
    notes, region = path / "landmarks.txt", path / "regions" / "face_sphere.txt"
    landmarks, face = {}, None
    try:
        if notes.is_file():
            lines = notes.read_text().split("\n")
            landmarks = {name: int(index) for name, index in (line.split()[:2] for line in lines if line.strip())}
    except ValueError as error:
        raise InputError(f"{notes}: {error}. Each line is the name of a landmark and the number of its vertex.") from error
    try:
        if region.is_file():
            face = np.loadtxt(region, dtype=int, ndmin=1)
    except ValueError as error:
        raise InputError(f"{region}: {error}. Each line is the number of a vertex of the face.") from error
    for source, numbers in ((notes, np.array(list(landmarks.values()), int)), (region, face if face is not None else np.zeros(0, int))):
        beyond = numbers[(numbers < 0) | (numbers >= len(mesh.vertices))]
        if len(beyond):
            raise InputError(f"{source}: {beyond[0]} is no vertex of {file.name}, which has {len(mesh.vertices)}, counted from 0.")
    return Reference(mesh, landmarks, face)


def read_normal_map(file: Path) -> Array:
    """Unit normals (H, W, 3) float32 in the camera frame, zero where the file is black."""
    import cv2

    raw = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if raw is None or raw.ndim != 3 or raw.shape[2] < 3:
        raise InputError(f"{file}: is no colour PNG of 8 or 16 bits. RGB = (n + 1) / 2.")
    rgb = raw[..., 2::-1].astype(np.float32)
    normals = rgb / (65535.0 if raw.dtype == np.uint16 else 255.0) * 2.0 - 1.0
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    known = (rgb.sum(-1, keepdims=True) > 0) & (length > 0.5)
    return np.where(known, normals / np.maximum(length, 1e-6), 0.0).astype(np.float32)


def write_normal_map(file: Path, normals: Array, *, bits: int = 16) -> None:
    """Write unit normals (H, W, 3), zero for none, as a PNG of 16 or 8 bits (then 0.3 degrees are lost)."""
    import cv2

    known = np.linalg.norm(normals, axis=-1, keepdims=True) > 0.5
    rgb = np.where(known, np.round((normals + 1.0) / 2.0 * (2**bits - 1)), 0.0).astype(np.uint16 if bits == 16 else np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(file), rgb[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9]):
        raise OSError(f"{file}: cannot be written")


def write_scene(
    path: Path, photos: Sequence[Photo], *, reference: Reference | None = None, notes: dict | None = None, normal_bits: int = 16
) -> None:
    """Write a folder that `H3dsFolder` reads back: photos as JPEG, masks and normal maps as PNG. It replaces `path`."""
    from avatar_kit.mesh.files import write_obj

    with whole_folder(path) as part:
        for folder in ("image", "mask"):
            (part / folder).mkdir()
        matrices = {}
        for i, photo in enumerate(photos):
            Image.fromarray(np.round(photo.image * 255).astype(np.uint8)).save(part / f"image/img_{i:04d}.jpg", quality=92)
            Image.fromarray(photo.mask.astype(np.uint8) * 255).save(part / f"mask/mask_{i:04d}.png", optimize=True)
            if photo.normals is not None:
                write_normal_map(part / f"normal/normal_{i:04d}.png", photo.normals, bits=normal_bits)
            matrices[f"world_mat_{i}"] = cameras.projection_matrix(photo.camera)
            matrices[f"scale_mat_{i}"] = np.eye(4)
        np.savez(part / "cameras.npz", **matrices)
        (part / "views.json").write_text(json.dumps(notes or {}, indent=1))
        if reference is not None:
            write_obj(part / "full_head.obj", reference.mesh)
            (part / "landmarks.txt").write_text("".join(f"{name} {i}\n" for name, i in reference.landmarks.items()))
            if reference.face_region is not None:
                (part / "regions").mkdir()
                np.savetxt(part / "regions/face_sphere.txt", reference.face_region, fmt="%d")


def _numbered(folder: Path, suffixes: tuple[str, ...]) -> dict[int, Path]:
    """Files whose name ends in a number, by that number."""
    found = {}
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        number = re.search(r"(\d+)$", file.stem)
        if number and file.suffix.lower() in suffixes:
            found[int(number.group(1))] = file
    return found


def _open(file: Path, converted: Callable[[Image.Image], Image.Image]) -> Array:
    try:
        with Image.open(file) as picture:
            return np.asarray(converted(picture))
    except Exception as error:
        raise InputError(f"{file}: cannot be read as a picture ({error}). Export it again as JPEG or PNG.") from error


def _read_notes(file: Path) -> dict[str, Any]:
    """views.json, head_from_world in it as an array; {} where there is none."""
    if not file.is_file():
        return {}
    try:
        notes = json.loads(file.read_text())
    except ValueError as error:
        raise InputError(f"{file}: is not valid JSON ({error}).") from error
    if not isinstance(notes, dict):
        raise InputError(f'{file}: must hold an object, such as {{"units": "mm"}}. Correct it, or remove it.')
    configs = notes.get("view_configs", {})
    if not isinstance(configs, dict) or not all(_are_numbers(views, count) for count, views in configs.items()):
        raise InputError(f'{file}: view_configs must list the numbers of views by how many they are, such as {{"3": [0, 2, 3]}}.')
    if notes.get("head_from_world") is not None:
        notes["head_from_world"] = _similarity(file, notes["head_from_world"])
    return notes


def _are_numbers(views: Any, count: str) -> bool:
    return isinstance(views, list) and all(type(view) is int for view in views) and str(len(set(views))) == count == str(len(views))


def _similarity(file: Path, entries: Any) -> Array:
    try:
        matrix = np.asarray(entries, float)
    except (ValueError, TypeError):
        matrix = np.zeros(0)
    good = matrix.shape == (4, 4) and np.isfinite(matrix).all() and np.allclose(matrix[3], (0, 0, 0, 1))
    scale = scale_of(matrix) if good else 0.0
    if scale <= 0 or np.abs(matrix[:3, :3].T @ matrix[:3, :3] - scale**2 * np.eye(3)).max() > _NOT_SIMILAR * scale**2:
        raise InputError(
            f"{file}: head_from_world must be a 4 x 4 similarity: a rotation times one scale, a shift, and the last row 0, 0, 0, 1. "
            "Copy that of a report.json, or leave it out and it is estimated."
        )
    return matrix

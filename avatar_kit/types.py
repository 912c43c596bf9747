"""The frozen dataclasses that travel between the stages. Heavy arrays are NumPy; the frame is in the field's name or docstring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatar_kit.conventions import transform_points

Array = NDArray[Any]


class InputError(Exception):
    """What the user gave cannot be used: the message names the file and value, what is accepted and what to do."""


@dataclass(frozen=True, eq=False)
class Texture:
    """A picture on a mesh.

    Attributes:
        image: sRGB in [0, 1], (H, W, 3).
        uv: per vertex of the mesh, (V, 2), in [0, 1]; (0, 0) is the picture's lower left corner, as in OBJ files.
    """

    image: Array
    uv: Array


@dataclass(frozen=True, eq=False)
class Mesh:
    """A triangle mesh in a frame that the holder states.

    Attributes:
        vertices: (V, 3) float.
        faces: (F, 3) int32, counter-clockwise seen from outside.
        colors: (V, 3) sRGB in [0, 1], or None.
        texture: finer colours; where there is one, it is what pictures of the mesh show. Vertices on its seams are double.
    """

    vertices: Array
    faces: Array
    colors: Array | None = None
    texture: Texture | None = None

    def __repr__(self) -> str:
        low, high = self.bounds
        return f"Mesh({len(self.vertices)} vertices, {len(self.faces)} faces, {np.round(low, 3)} to {np.round(high, 3)})"

    @property
    def bounds(self) -> Array:
        """Lowest and highest coordinates, (2, 3)."""
        return np.stack([self.vertices.min(0), self.vertices.max(0)])

    @property
    def face_normals(self) -> Array:
        """Outward unit normals, (F, 3); zero for a degenerate face."""
        corners = self.vertices[self.faces]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)

    def transformed(self, matrix: Array) -> Mesh:
        """The mesh with its vertices moved by a 4 x 4 similarity without reflection."""
        return replace(self, vertices=transform_points(matrix, self.vertices))


def concatenate(meshes: tuple[Mesh, ...] | list[Mesh]) -> Mesh:
    """One mesh of all the parts, side by side; colours are dropped."""
    offsets = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.faces + offset for mesh, offset in zip(meshes, offsets, strict=True)]).astype(np.int32),
    )


@dataclass(frozen=True, eq=False)
class Head:
    """A head as the union of closed parts, in the head frame.

    Its signed distance is the least of its parts' signed distances, so parts (body, eyeballs, hair, clothes) may
    overlap and what lies inside another part does not count as surface.

    Attributes:
        name: unique within its source, usable as a file name.
        parts: meshes in the head frame (1 unit = 200 mm), keyed "body", "eyes", "hair", "clothes".
        attributes: what it was sampled from (source, age, gender, ..., hair style).
        landmarks: canonical landmark names to (3,) in the head frame.
    """

    name: str
    parts: Mapping[str, Mesh]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    landmarks: Mapping[str, Array] = field(default_factory=dict)

    @property
    def mesh(self) -> Mesh:
        """All parts side by side, hidden surfaces included."""
        return concatenate(list(self.parts.values()))


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera without distortion (OpenCV axes).

    Attributes:
        intrinsics: K, (3, 3), in pixels of an image `width` x `height`; pixel centres at +0.5.
        world_from_camera: (4, 4) rigid.
    """

    intrinsics: Array
    world_from_camera: Array
    width: int
    height: int

    @property
    def camera_from_world(self) -> Array:
        """(4, 4) rigid."""
        return np.linalg.inv(self.world_from_camera)

    @property
    def centre(self) -> Array:
        """Centre of projection in the world frame, (3,)."""
        return self.world_from_camera[:3, 3]

    def project(self, points: Array) -> tuple[Array, Array]:
        """Pixel coordinates (..., 2) and depths (...) of world `points` (..., 3); depth <= 0 lies behind the camera."""
        pixels_from_world = np.eye(4)
        pixels_from_world[:3] = self.intrinsics @ self.camera_from_world[:3]
        homogeneous = transform_points(pixels_from_world, points)
        depth = homogeneous[..., 2]
        return homogeneous[..., :2] / np.where(np.abs(depth) < 1e-12, 1e-12, depth)[..., None], depth

    def rays(self, pixels: Array) -> tuple[Array, Array]:
        """Origins and unit directions (..., 3) in the world frame of the rays through `pixels` (..., 2), (x, y) in px."""
        homogeneous = np.concatenate([pixels, np.ones_like(pixels[..., :1])], axis=-1)
        directions = homogeneous @ np.linalg.inv(self.intrinsics).T @ self.world_from_camera[:3, :3].T
        directions = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
        return np.broadcast_to(self.centre, directions.shape), directions

    def pixel_grid(self) -> Array:
        """Centres of all pixels, (height, width, 2), (x, y) in px."""
        x, y = np.meshgrid(np.arange(self.width) + 0.5, np.arange(self.height) + 0.5)
        return np.stack([x, y], axis=-1)


@dataclass(frozen=True, eq=False)
class Photo:
    """One posed photograph.

    Attributes:
        image: sRGB in [0, 1], (H, W, 3) float32.
        mask: True on the subject, (H, W) bool.
        camera: of the same size.
        normals: outward unit normals in the camera frame, (H, W, 3) float32, zero where there is none; or None.
        confidence: in [0, 1], how far each normal is to be trusted, (H, W) float32; None trusts all of them.
        name: for messages, e.g. "image/img_0003.jpg".
        coordinates: predicted points of the head frame that the pixels see, units, (H, W, 3) float32, zero where there are
            none; or None.
    """

    image: Array
    mask: Array
    camera: Camera
    normals: Array | None = None
    name: str = ""
    confidence: Array | None = None
    coordinates: Array | None = None

    @property
    def has_given_normals(self) -> bool:
        """Whether it came with normals; those that are predicted have a confidence."""
        return self.normals is not None and self.confidence is None


@dataclass(frozen=True, eq=False)
class Scene:
    """Posed photographs of one head.

    Attributes:
        photos: those that were asked for, in that order.
        view_ids: their numbers in the scene's own count.
        head_from_world: similarity (4, 4), or None where the scene does not state it.
        mm_per_world_unit: 1 unless the scene says otherwise.
        name: the folder's name.
    """

    photos: tuple[Photo, ...]
    view_ids: tuple[int, ...]
    name: str
    head_from_world: Array | None = None
    mm_per_world_unit: float = 1.0

    def without_normals(self) -> Scene:
        """The same photos without their normal maps."""
        return replace(self, photos=tuple(replace(photo, normals=None, confidence=None) for photo in self.photos))


@dataclass(frozen=True, eq=False)
class Reference:
    """The true surface of a scene, for scoring.

    Attributes:
        mesh: in the world frame.
        landmarks: names to vertex indices.
        face_region: indices of the vertices of the face, or None (then: within 95 mm of the nose tip).
    """

    mesh: Mesh
    landmarks: Mapping[str, int]
    face_region: Array | None

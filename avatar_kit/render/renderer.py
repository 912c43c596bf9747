"""Pictures of a mesh: normals, mask, depth, colours, the same from nvdiffrast and from Warp's ray caster.

Both answer one question, which face each pixel sees and where on it; everything else is made of that answer here.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch

from avatar_kit.backends import pick
from avatar_kit.kernels.mesh_queries import NO_HIT, Hits, MeshQueries
from avatar_kit.types import Array, Camera, Mesh


@dataclass(frozen=True, eq=False)
class Rendering:
    """What a camera sees of a mesh, per pixel (H, W, ...).

    Attributes:
        mask: a surface is hit, bool.
        normals: unit, camera frame, turned towards the camera; zero where nothing is hit.
        depth: along the optical axis, inf where nothing is hit.
        points: the hit in the mesh's frame.
        face: index of the hit face, -1 for none.
        colors: sRGB in [0, 1], of the mesh's texture or its vertices; None for a mesh without colours.
    """

    mask: Array
    normals: Array
    depth: Array
    points: Array
    face: Array
    colors: Array | None


def vertex_normals(mesh: Mesh) -> Array:
    """Unit normals per vertex (V, 3): means of the faces' normals, weighted by area.

    Vertices that are double on the seams of a texture count as one.
    """
    if mesh not in _known:
        _known[mesh] = _vertex_normals(mesh)
    return _known[mesh]


_known: WeakKeyDictionary[Mesh, Array] = WeakKeyDictionary()  # one stage's last mesh is the next one's first


def _vertex_normals(mesh: Mesh) -> Array:
    corners, whole = np.ascontiguousarray(mesh.faces.T), slice(None)
    ends = torch.from_numpy(corners.astype(np.int64))
    vertices = torch.from_numpy(np.require(mesh.vertices, requirements="W"))
    a, b, c = (vertices.index_select(0, corner) for corner in ends)
    area_normals = torch.linalg.cross(b - a, c - a)
    if mesh.texture is not None:
        _, whole = np.unique(mesh.vertices, axis=0, return_inverse=True)
        ends = torch.from_numpy(whole[corners])
    total = torch.zeros(len(vertices), 3, dtype=area_normals.dtype)
    for corner in ends:
        total.index_add_(0, corner, area_normals)
    return torch.nn.functional.normalize(total, dim=1, eps=1e-20).numpy()[whole]


def look_up(image: Array, uv: Array) -> Array:
    """Bilinear values (N, C) of `image` (H, W, C) at `uv` (N, 2), (0, 0) its lower left corner; beyond the edge, the edge's."""
    height, width = image.shape[:2]
    x = np.clip(uv[:, 0] * width - 0.5, 0, width - 1)
    y = np.clip((1 - uv[:, 1]) * height - 0.5, 0, height - 1)
    left, top = np.minimum(x.astype(int), max(width - 2, 0)), np.minimum(y.astype(int), max(height - 2, 0))
    right, low = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    across, down = (x - left)[:, None], (y - top)[:, None]
    upper = image[top, left] * (1 - across) + image[top, right] * across
    lower = image[low, left] * (1 - across) + image[low, right] * across
    return upper * (1 - down) + lower * down


class Renderer:
    """A mesh, prepared to be seen by cameras whose world is its frame.

    Args:
        device: "cpu" or "cuda".
        backend: nvdiffrast or warp; the preferred one that works on the device by default.

    Raises:
        BackendMissing: the backend that was asked for cannot be used.
    """

    def __init__(self, mesh: Mesh, *, device: str = "cpu", backend: str | None = None) -> None:
        self.mesh = mesh
        self.backend = pick("render", device, backend)
        """Which one it is."""
        if self.backend == "nvdiffrast":
            from avatar_kit.render.rasterize import Rasterizer

            self._first = Rasterizer(mesh, device)
        else:
            self._first = RayCaster(mesh, device)

    @functools.cached_property
    def vertex_normals(self) -> Array:
        """Of the mesh, (V, 3)."""
        return vertex_normals(self.mesh)

    def hits(self, camera: Camera) -> Hits:
        """What each pixel's middle sees, row by row: depth along the ray, face, barycentric weights; on the CPU."""
        return Hits(*(values.cpu() for values in self._first.hits(camera)))

    def depth(self, camera: Camera) -> Array:
        """Along the optical axis, (H, W), inf where nothing is hit: a quick `render`."""
        _, directions = camera.rays(camera.pixel_grid().reshape(-1, 2))
        along = self.hits(camera).depth.numpy() * (directions @ camera.world_from_camera[:3, 2])
        return along.reshape(camera.height, camera.width)

    def render(self, camera: Camera, *, smooth: bool = True) -> Rendering:
        """The picture. `smooth`: interpolate vertex normals; otherwise each face has its own."""
        mesh, hits = self.mesh, self.hits(camera)
        on = hits.face.numpy() != NO_HIT
        face, weights, distance = (values.numpy()[on] for values in (hits.face, hits.barycentric, hits.depth))
        origins, towards = camera.rays(camera.pixel_grid().reshape(-1, 2)[on])
        shape = (camera.height, camera.width)

        def spread(values: Array, nothing: float | Array = 0.0) -> Array:
            """Of the pixels that hit, on all pixels."""
            image = np.full((len(on), *values.shape[1:]), nothing, values.dtype)
            image[on] = values
            return image.reshape(*shape, *values.shape[1:])

        corners = mesh.faces[face]
        normals = interpolated(self.vertex_normals, corners, weights) if smooth else mesh.face_normals[face]
        normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
        flip = np.where((normals * towards).sum(1, keepdims=True) > 0, -1.0, 1.0)
        normals_cam = normals * flip @ camera.camera_from_world[:3, :3].T
        colors = None
        if mesh.texture is not None:
            colors = spread(look_up(mesh.texture.image, interpolated(mesh.texture.uv, corners, weights)))
        elif mesh.colors is not None:
            colors = spread(interpolated(mesh.colors, corners, weights))
        return Rendering(
            mask=on.reshape(shape),
            normals=spread(normals_cam.astype(np.float32)),
            depth=spread(distance * (towards @ camera.world_from_camera[:3, 2]), np.inf),
            points=spread(origins + towards * distance[:, None], camera.centre),
            face=hits.face.numpy().reshape(shape),
            colors=colors,
        )


def interpolated(values: Array, corners: Array, weights: Array) -> Array:
    """Of values at vertices (V, C), those (N, C) where faces with `corners` (N, 3) have barycentric `weights` (N, 3)."""
    return np.einsum("nk,nkc->nc", weights, values[corners])


class RayCaster:
    """One ray per pixel, by Warp, on any device."""

    def __init__(self, mesh: Mesh, device: str) -> None:
        self._queries = MeshQueries(mesh, device, signs=False)

    def hits(self, camera: Camera) -> Hits:
        """First hits of the rays through the middles of all pixels, row by row."""
        origins, directions = camera.rays(camera.pixel_grid().reshape(-1, 2))
        return self._queries.cast_rays(torch.from_numpy(np.ascontiguousarray(origins)), torch.from_numpy(directions))

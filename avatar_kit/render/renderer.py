"""Pictures of a mesh: normals, mask, depth, colours, the same from nvdiffrast and from Warp's ray caster.

Both answer one question, which face each pixel sees and where on it; everything else is made of that answer here.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

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
    faces, whole = mesh.faces, slice(None)
    if mesh.texture is not None:
        _, whole = np.unique(mesh.vertices, axis=0, return_inverse=True)
        faces = whole[faces]
    corners = mesh.vertices[mesh.faces]
    area_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    corner_of, per_corner = faces.T.ravel(), np.tile(area_normals, (3, 1))
    total = np.stack([np.bincount(corner_of, weights=column, minlength=len(mesh.vertices)) for column in per_corner.T], axis=1)
    return (total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-20))[whole]


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
    def _vertex_normals(self) -> Array:
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
        origins, directions = camera.rays(camera.pixel_grid().reshape(-1, 2))
        face, weights = hits.face.numpy(), hits.barycentric.numpy()
        mask = face != NO_HIT
        distance = np.where(mask, hits.depth.numpy(), 0.0)
        corners = mesh.faces[np.where(mask, face, 0)]
        if smooth:
            normals = (weights[..., None] * self._vertex_normals[corners]).sum(1)
        else:
            normals = mesh.face_normals[np.where(mask, face, 0)]
        normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
        flip = np.where((normals * directions).sum(1, keepdims=True) > 0, -1.0, 1.0)
        normals_cam = normals * flip @ camera.camera_from_world[:3, :3].T * mask[:, None]
        axis = camera.world_from_camera[:3, 2]
        shape = (camera.height, camera.width)
        colors = None
        if mesh.texture is not None:
            colors = look_up(mesh.texture.image, (weights[..., None] * mesh.texture.uv[corners]).sum(1))
        elif mesh.colors is not None:
            colors = (weights[..., None] * mesh.colors[corners]).sum(1)
        return Rendering(
            mask=mask.reshape(shape),
            normals=normals_cam.reshape(*shape, 3).astype(np.float32),
            depth=np.where(mask, distance * (directions @ axis), np.inf).reshape(shape),
            points=(origins + directions * distance[:, None]).reshape(*shape, 3),
            face=face.reshape(shape),
            colors=None if colors is None else (colors * mask[:, None]).reshape(*shape, 3),
        )


class RayCaster:
    """One ray per pixel, by Warp, on any device."""

    def __init__(self, mesh: Mesh, device: str) -> None:
        self._queries = MeshQueries(mesh, device, signs=False)

    def hits(self, camera: Camera) -> Hits:
        """First hits of the rays through the middles of all pixels, row by row."""
        origins, directions = camera.rays(camera.pixel_grid().reshape(-1, 2))
        return self._queries.cast_rays(torch.from_numpy(np.ascontiguousarray(origins)), torch.from_numpy(directions))

"""A head made ready to be photographed, and what a camera sees of it as flat lists of hits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from avatar_kit.backends import pick, pick_device
from avatar_kit.conventions import CANONICAL_LANDMARKS
from avatar_kit.kernels.mesh_queries import NO_HIT, Hits, MeshQueries
from avatar_kit.normals.noise import unit
from avatar_kit.render.renderer import Renderer, vertex_normals
from avatar_kit.types import Array, Camera, Head, Mesh, concatenate

PARTS = ("body", "eyes", "hair", "clothes")
BODY, EYES, HAIR, CLOTHES = range(4)
_CREASE_COS = 0.55  # beyond 57 degrees an edge is sharp, as at the cut of a bust
_LEAST_FACING = 0.02  # interpolated normals that turn away from the camera are bent back to this cosine


@dataclass(frozen=True, eq=False)
class Seen:
    """What is hit, one row a hit; the head frame.

    Attributes:
        pixel: (N,) flat indices into the H x W image, ascending.
        points: (N, 3) float32.
        normals: (N, 3) unit, towards the camera.
        towards: (N, 3) unit, to the camera.
        depth: (N,) distance from the camera's centre.
        part: (N,) index into `PARTS`.
        uv: (N, 2) texture coordinates, NaN where there are none; or None.
        shape: (H, W).
    """

    pixel: Array
    points: Array
    normals: Array
    towards: Array
    depth: Array
    part: Array
    uv: Array | None
    shape: tuple[int, int]

    def image(self, values: Array, fill: float = 0.0) -> Array:
        """`values` (N, ...) put at their pixels, (H, W, ...)."""
        full = np.full((self.shape[0] * self.shape[1], *values.shape[1:]), fill, values.dtype)
        full[self.pixel] = values
        return full.reshape(*self.shape, *values.shape[1:])


class Subject:
    """All parts of a head as one mesh for ray casting.

    Args:
        head: in the head frame.
        uv: texture coordinates per corner of the body's faces (F, 3, 2), or None.
        volumes: keep hair and clothes.
    """

    def __init__(self, head: Head, uv: Array | None = None, *, volumes: bool = True) -> None:
        kept = {name: mesh for name, mesh in head.parts.items() if volumes or name in ("body", "eyes")}
        self.head = head
        self.parts = kept
        self.mesh = concatenate(list(kept.values()))
        self.queries = MeshQueries(self.mesh)  # also for shadows, which a rasteriser cannot answer
        device = pick_device("auto")
        self._renderer = Renderer(self.mesh, device=device) if pick("render", device) != "warp" else None
        self.landmarks = {name: np.asarray(head.landmarks.get(name, p), float) for name, p in CANONICAL_LANDMARKS.items()}
        self._part = np.concatenate([np.full(len(mesh.faces), PARTS.index(name), np.uint8) for name, mesh in kept.items()])
        self._corner_normals = np.concatenate([_corner_normals(mesh) for mesh in kept.values()])
        self._uv = None
        if uv is not None:
            self._uv = np.full((len(self.mesh.faces), 3, 2), np.nan, np.float32)
            start = int(np.argmax(self._part == BODY))
            self._uv[start : start + len(uv)] = uv

    def see(self, camera: Camera) -> Seen:
        """First hits of the rays through the centres of all pixels."""
        origins, directions = _rays(camera)
        hits = self._hits(camera, origins, directions)
        face, depth = hits.face.numpy(), hits.depth.numpy()
        pixel = np.flatnonzero(face != NO_HIT)
        face, depth, weights, ray = face[pixel], depth[pixel], hits.barycentric.numpy()[pixel], directions[pixel]
        normals = unit(np.einsum("nk,nkd->nd", weights, self._corner_normals[face]))
        corners = self.mesh.vertices[self.mesh.faces[face]]
        outward = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        inside_seen = np.einsum("nd,nd->n", outward, ray) > 0
        normals[inside_seen] *= -1
        return Seen(
            pixel=pixel,
            points=origins[0] + ray * depth[:, None],
            normals=facing(normals, ray),
            towards=-ray,
            depth=depth,
            part=self._part[face],
            uv=None if self._uv is None else np.einsum("nk,nkd->nd", weights, self._uv[face]),
            shape=(camera.height, camera.width),
        )

    def _hits(self, camera: Camera, origins: Array, directions: Array) -> Hits:
        if self._renderer is not None:
            return self._renderer.hits(camera)
        return self.queries.cast_rays(torch.from_numpy(origins), torch.from_numpy(directions))

    def unblocked(self, points: Array, directions: Array) -> Array:
        """True (N,) where nothing stands between `points` (N, 3), lifted off the surface, and infinity."""
        if len(points) == 0:
            return np.ones(0, bool)
        hits = self.queries.cast_rays(torch.from_numpy(points), torch.from_numpy(directions))
        return hits.face.numpy() == NO_HIT


def facing(normals: Array, rays: Array) -> Array:
    """`normals` (..., 3) bent, where they must be, so that they face against the `rays` (..., 3); unit."""
    away = np.einsum("...i,...i->...", normals, rays)[..., None] + np.float32(_LEAST_FACING)
    return unit(np.where(away > 0, normals - away * rays, normals)).astype(np.float32)


def _rays(camera: Camera) -> tuple[Array, Array]:
    x = ((np.arange(camera.width) + 0.5 - camera.intrinsics[0, 2]) / camera.intrinsics[0, 0]).astype(np.float32)
    y = ((np.arange(camera.height) + 0.5 - camera.intrinsics[1, 2]) / camera.intrinsics[1, 1]).astype(np.float32)
    axes = camera.world_from_camera[:3, :3].astype(np.float32)
    directions = x[None, :, None] * axes[:, 0] + y[:, None, None] * axes[:, 1] + axes[:, 2]
    directions = unit(directions.reshape(-1, 3))
    origins = np.broadcast_to(camera.centre.astype(np.float32), directions.shape)
    return np.ascontiguousarray(origins), np.ascontiguousarray(directions)


def _corner_normals(mesh: Mesh) -> Array:
    """Shading normals per corner of each face (F, 3, 3): the vertex's, or the face's own beside a sharp edge."""
    smooth, flat = vertex_normals(mesh)[mesh.faces], mesh.face_normals[:, None]
    return np.where((smooth * flat).sum(-1, keepdims=True) < _CREASE_COS, flat, smooth).astype(np.float32)

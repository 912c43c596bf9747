"""Pictures of a mesh by casting one ray per pixel with Warp: normals, mask, depth, colours. Runs everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from avatar_kit.kernels.mesh_queries import NO_HIT, MeshQueries
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
        colors: sRGB in [0, 1], or None for a mesh without colours.
    """

    mask: Array
    normals: Array
    depth: Array
    points: Array
    face: Array
    colors: Array | None


def vertex_normals(mesh: Mesh) -> Array:
    """Unit normals per vertex (V, 3): means of the faces' normals, weighted by area."""
    corners = mesh.vertices[mesh.faces]
    area_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.zeros_like(mesh.vertices, dtype=np.float64)
    for corner in range(3):
        np.add.at(total, mesh.faces[:, corner], area_normals)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-20)


def render_mesh(queries: MeshQueries, camera: Camera, *, smooth: bool = True) -> Rendering:
    """Render the mesh of `queries`, whose frame is the camera's world.

    Args:
        smooth: interpolate vertex normals; otherwise each face has its own.
    """
    mesh = queries.mesh
    origins, directions = camera.rays(camera.pixel_grid().reshape(-1, 2))
    origins = np.ascontiguousarray(origins)
    hits = queries.cast_rays(torch.from_numpy(origins), torch.from_numpy(directions))
    face, weights = hits.face.cpu().numpy(), hits.barycentric.cpu().numpy()
    mask = face != NO_HIT
    distance = np.where(mask, hits.depth.cpu().numpy(), 0.0)
    corners = mesh.faces[np.where(mask, face, 0)]
    if smooth:
        normals = (weights[..., None] * vertex_normals(mesh)[corners]).sum(1)
    else:
        normals = mesh.face_normals[np.where(mask, face, 0)]
    normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
    flip = np.where((normals * directions).sum(1, keepdims=True) > 0, -1.0, 1.0)
    normals_cam = normals * flip @ camera.camera_from_world[:3, :3].T * mask[:, None]
    axis = camera.world_from_camera[:3, 2]
    shape = (camera.height, camera.width)
    colors = None
    if mesh.colors is not None:
        colors = ((weights[..., None] * mesh.colors[corners]).sum(1) * mask[:, None]).reshape(*shape, 3)
    return Rendering(
        mask=mask.reshape(shape),
        normals=normals_cam.reshape(*shape, 3).astype(np.float32),
        depth=np.where(mask, distance * (directions @ axis), np.inf).reshape(shape),
        points=(origins + directions * distance[:, None]).reshape(*shape, 3),
        face=face.reshape(shape),
        colors=colors,
    )

"""Which vertices of a mesh cameras see."""

from __future__ import annotations

import numpy as np
import torch

from avatar_kit.kernels.mesh_queries import MeshQueries
from avatar_kit.types import Array, Camera, Mesh


def visible_vertices(mesh: Mesh, cameras: tuple[Camera, ...], *, tolerance: float) -> Array:
    """Vertices inside some camera's picture with nothing in front of them, (V,) bool.

    Args:
        mesh: in the cameras' world frame.
        tolerance: what lies less than this in front of a vertex does not hide it, world units.
    """
    queries = MeshQueries(mesh, signs=False)
    visible = np.zeros(len(mesh.vertices), bool)
    for camera in cameras:
        pixels, depth = camera.project(mesh.vertices)
        inside = (depth > 0) & (pixels > 0).all(1) & (pixels[:, 0] < camera.width) & (pixels[:, 1] < camera.height)
        index = np.flatnonzero(inside & ~visible)
        directions = mesh.vertices[index] - camera.centre
        distance = np.linalg.norm(directions, axis=1)
        origins = np.ascontiguousarray(np.broadcast_to(camera.centre, directions.shape))
        hits = queries.cast_rays(torch.from_numpy(origins), torch.from_numpy(directions / distance[:, None]))
        visible[index] |= hits.depth.cpu().numpy() > distance - tolerance
    return visible

"""The other half: what photos show of a head's left side says how its right one is coloured, where no photo shows that."""

from __future__ import annotations

import numpy as np
import torch

from avatar_kit.conventions import MM_PER_UNIT, scale_of, transform_points
from avatar_kit.kernels.mesh_queries import MeshQueries
from avatar_kit.mesh.paint import shown_colors
from avatar_kit.mesh.photo_views import PhotoViews
from avatar_kit.render.renderer import vertex_normals
from avatar_kit.types import Array, Mesh

_NEAR_MM = 15.0  # from the surface on the other side: further off is no mirror image


class MirrorImage:
    """A surface's colours on the other side of the head frame's plane x = 0.

    Args:
        views: what photos show of it.
        mesh: the surface, in the photos' world.
        head_from_world: similarity (4, 4).
    """

    def __init__(self, views: PhotoViews, mesh: Mesh, head_from_world: Array) -> None:
        self._views, self._mesh = views, mesh
        self._mirror = np.linalg.inv(head_from_world) @ np.diag([-1.0, 1.0, 1.0, 1.0]) @ head_from_world
        self._near = _NEAR_MM / (MM_PER_UNIT * scale_of(head_from_world))
        self._queries, self._normals = MeshQueries(mesh, signs=False), vertex_normals(mesh)

    def shown(self, points: Array) -> tuple[Array, Array]:
        """sRGB (N, 3) that photos show where `points` (N, 3) of the world have their mirror images, and how certain they are, (N,) in
        [0, 1]; less the further the image lies from the surface."""
        image = transform_points(self._mirror, points)
        found = self._queries.closest(torch.from_numpy(np.ascontiguousarray(image, np.float32)))
        normals = self._normals[self._mesh.faces[found.face.numpy()]].sum(1)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        colors, certainty = shown_colors(self._views, found.point.numpy().astype(np.float64), normals)
        return colors, certainty * np.clip(1 - (found.distance.numpy() / self._near) ** 2, 0, 1)

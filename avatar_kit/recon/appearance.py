"""Colours of the result, from the photos: of the mesh's vertices, and of the avatar's texture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial import KDTree

from avatar_kit.config import TextureConfig
from avatar_kit.conventions import transform_points
from avatar_kit.kernels.runtime import beside
from avatar_kit.mesh.bake import bake
from avatar_kit.mesh.mirror import MirrorImage
from avatar_kit.mesh.paint import continued, shown_colors
from avatar_kit.mesh.photo_views import PhotoViews
from avatar_kit.mesh.unwrap import unwrap
from avatar_kit.recon.meshing import HeadMeshes
from avatar_kit.recon.zones import ease, expected_colors
from avatar_kit.render.renderer import Renderer, interpolated, vertex_normals
from avatar_kit.types import Array, Mesh

_NEIGHBOURS = 4  # vertices of the lighter mesh that a vertex between them takes after


def painted(meshes: HeadMeshes, head_from_world: Array, config: TextureConfig, device: str) -> tuple[Mesh, Renderer, Mesh]:
    """The fine mesh with colours, what shows its shape, and the avatar: a lighter mesh with a texture, or without `config.size` the
    fine mesh again.

    Args:
        head_from_world: similarity (4, 4), for `config.mirror`.
    """
    light, charts, fine, views = meshes

    def prepare() -> tuple[Renderer, Array]:  # of a million triangles
        renderer = Renderer(fine, device=device)
        return renderer, renderer.vertex_normals

    prepared = beside(prepare, device)
    mirror = MirrorImage(views, light, head_from_world) if config.mirror else None
    like = mirror.shown(light.vertices) if mirror else None
    shown = shown_colors(views, light.vertices, vertex_normals(light))
    points = transform_points(head_from_world, light.vertices)
    light = replace(light, colors=continued(light, *shown, like=like, ease=ease(points), expected=expected_colors(points, *shown)))
    renderer, normals = prepared.result()
    fine = replace(fine, colors=_colors(fine.vertices, normals, light, views))
    return fine, renderer, fine if charts is None else bake(unwrap(light, charts.result()), views, config.size, mirror)


def _colors(points: Array, normals: Array, light: Mesh, views: PhotoViews) -> Array:
    """sRGB (N, 3) of surface points with normals, (N, 3), where photos are not certain those of a lighter mesh around them."""
    assert light.colors is not None
    colors, certainty = shown_colors(views, points, normals)
    unsure = np.flatnonzero(certainty < 1)
    distance, nearest = KDTree(light.vertices).query(points[unsure], k=_NEIGHBOURS, workers=-1)
    weights = 1 / np.maximum(distance, 1e-12) ** 2
    around = interpolated(light.colors, np.asarray(nearest), weights / weights.sum(1, keepdims=True))
    colors[unsure] += (1 - certainty[unsure])[:, None] * (around - colors[unsure])
    return np.clip(colors, 0, 1)

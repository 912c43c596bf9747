"""A texture from photos: each texel takes what the photos that see it best show, and the mesh's own colours where none does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage

from avatar_kit.kernels.mesh_queries import NO_HIT, Hits, MeshQueries
from avatar_kit.mesh.mirror import MirrorImage
from avatar_kit.mesh.paint import shown_colors
from avatar_kit.mesh.photo_views import PhotoViews
from avatar_kit.render.renderer import interpolated, vertex_normals
from avatar_kit.types import Array, Mesh, Texture


def bake(mesh: Mesh, views: PhotoViews, size: int, mirror: MirrorImage | None = None) -> Mesh:
    """The mesh with a texture of `size` x `size` texels.

    Args:
        mesh: unwrapped, with colours, in the world frame of what is painted.
        mirror: adds detail that photos show on the other side alone, finer than the mesh's colours.

    Raises:
        ValueError: the mesh has no uv or no colours.
    """
    if mesh.texture is None or mesh.colors is None:
        raise ValueError("bake: the mesh needs uv (see unwrap) and colours.")
    hits = _texels(mesh, mesh.texture.uv, size)
    on = hits.face.numpy() != NO_HIT
    corners, weights = mesh.faces[hits.face.numpy()[on]], hits.barycentric.numpy()[on]
    points, normals, base = (interpolated(values, corners, weights) for values in (mesh.vertices, vertex_normals(mesh), mesh.colors))
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    colors, certainty = shown_colors(views, points, normals)
    if mirror is not None:
        base += _detail(mirror, mesh, points, corners, weights, certainty)
    image = np.zeros((size * size, 3), np.float32)
    image[on] = np.clip(base + certainty[:, None] * (colors - base), 0, 1)
    texture = Texture(_spread(image.reshape(size, size, 3), on.reshape(size, size)), mesh.texture.uv)
    return replace(mesh, texture=texture)


def _detail(mirror: MirrorImage, mesh: Mesh, points: Array, corners: Array, weights: Array, certainty: Array) -> Array:
    """What the other side's colours have that vertices are too far apart to show, (N, 3), of points with little certainty of their own."""
    coarse, sure = mirror.shown(mesh.vertices)
    detail = np.zeros((len(points), 3))
    unsure = np.flatnonzero((certainty < 1) & (sure[corners].min(1) > 0))
    fine, known = mirror.shown(points[unsure])
    known = np.minimum(known, interpolated(sure[:, None], corners[unsure], weights[unsure])[:, 0])
    detail[unsure] = known[:, None] * (fine - interpolated(coarse, corners[unsure], weights[unsure]))
    return detail


def _texels(mesh: Mesh, uv: Array, size: int) -> Hits:
    """Face and barycentric weights of each texel's middle, row by row from the top: rays straight down on the flat mesh."""
    flat = MeshQueries(Mesh(np.column_stack([uv, np.zeros(len(uv))]), mesh.faces))
    middles = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(middles, 1.0 - middles)
    origins = torch.from_numpy(np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3).astype(np.float32))
    return flat.cast_rays(origins, torch.tensor([0.0, 0.0, -1.0]).expand(len(origins), 3).contiguous())


def _spread(image: Array, known: Array) -> Array:
    """The image with unknown texels taking the nearest known one's colour: viewers blur across the edges of charts."""
    rows, columns = np.asarray(ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True))
    return image[rows, columns]

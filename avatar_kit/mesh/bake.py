"""A texture from photos: each texel takes what the photos that see it best show, and the mesh's own colours where none does."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from scipy import ndimage

from avatar_kit.kernels.mesh_queries import NO_HIT, Hits, MeshQueries
from avatar_kit.render.renderer import Renderer, interpolated, vertex_normals
from avatar_kit.types import Array, Mesh, Photo, Texture

_SHARPNESS = 4  # power of the weights: the best view wins, its neighbour takes over within some degrees
_FACING = 0.15  # cosine between normal and view from which a photo counts; it counts fully at _FACING_FULL
_FACING_FULL = 0.6
_FEATHER = 0.02  # of the photo's longer side: how far from outlines and depth edges a photo counts fully
_DEPTH_EDGE = 0.03  # of the depth's spread: a jump between neighbouring pixels, beyond their slope, that is an edge
_DEPTH_TOLERANCE = 0.01  # of the depth's spread: what lies this far behind the surface that is seen is hidden


def bake(mesh: Mesh, photos: tuple[Photo, ...], size: int, *, surface: Renderer) -> Mesh:
    """The mesh with a texture of `size` x `size` texels.

    Args:
        mesh: unwrapped, with colours, in the photos' world frame.
        surface: what hides things from the cameras, in the same frame; it may be finer than `mesh`.

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
    total, best, colors = np.zeros(len(points)), np.zeros(len(points)), np.zeros_like(base)
    for photo in photos:
        weight, color = _from_photo(photo, points, normals, surface)
        best = np.maximum(best, weight)
        total += weight**_SHARPNESS
        colors += (weight**_SHARPNESS)[:, None] * color
    blended = np.where(total[:, None] > 0, colors / np.maximum(total, 1e-12)[:, None], base)
    image = np.zeros((size * size, 3), np.float32)
    image[on] = np.clip(base + best[:, None] * (blended - base), 0, 1)
    texture = Texture(_spread(image.reshape(size, size, 3), on.reshape(size, size)), mesh.texture.uv)
    return replace(mesh, texture=texture)


def _texels(mesh: Mesh, uv: Array, size: int) -> Hits:
    """Face and barycentric weights of each texel's middle, row by row from the top: rays straight down on the flat mesh."""
    flat = MeshQueries(Mesh(np.column_stack([uv, np.zeros(len(uv))]), mesh.faces))
    middles = (np.arange(size) + 0.5) / size
    x, y = np.meshgrid(middles, 1.0 - middles)
    origins = torch.from_numpy(np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3).astype(np.float32))
    return flat.cast_rays(origins, torch.tensor([0.0, 0.0, -1.0]).expand(len(origins), 3).contiguous())


def _from_photo(photo: Photo, points: Array, normals: Array, surface: Renderer) -> tuple[Array, Array]:
    """How much a photo says, in [0, 1], (N,), and what, (N, 3), about surface `points` with `normals`."""
    camera = photo.camera
    near = surface.depth(camera)
    hit = np.isfinite(near)
    if not hit.any():
        return np.zeros(len(points)), np.zeros((len(points), 3))
    spread = float(np.ptp(near[hit]))
    bend = [np.abs(ndimage.correlate1d(np.where(hit, near, 0.0), [1, -2, 1], axis=axis)) for axis in (0, 1)]
    edges = np.maximum(*bend) > _DEPTH_EDGE * spread
    inside = np.asarray(ndimage.distance_transform_edt(np.pad(hit & photo.mask & ~edges, 1)))[1:-1, 1:-1]
    trust = np.clip((inside - 1) / (_FEATHER * max(photo.mask.shape)), 0, 1).astype(np.float32)
    pixels, depth = camera.project(points)
    view = camera.centre - points
    facing = (normals * view).sum(1) / np.linalg.norm(view, axis=1)
    weight = np.clip((facing - _FACING) / (_FACING_FULL - _FACING), 0, 1) * _sample(trust, pixels)
    farthest = ndimage.maximum_filter(np.where(hit, near, -np.inf), size=3)  # a neighbour's depth will do on slopes
    column, row = np.clip(pixels.T, 0, np.array(photo.mask.shape[::-1])[:, None] - 1).astype(int)
    shown = (depth > 0) & (depth < farthest[row, column] + _DEPTH_TOLERANCE * spread)
    return np.where(shown, weight, 0.0), _sample(photo.image, pixels).astype(np.float64)


def _sample(image: Array, pixels: Array) -> Array:
    """Bilinear values (N, ...) of an image at `pixels` (N, 2), (x, y); zero outside."""
    width = 1 << 14  # cv2 takes maps of at most 32767 a side
    x, y = (np.pad((v - 0.5).astype(np.float32), (0, -len(v) % width), constant_values=-9).reshape(-1, width) for v in pixels.T)
    found = cv2.remap(np.ascontiguousarray(image), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return found.reshape(x.size, *image.shape[2:])[: len(pixels)]


def _spread(image: Array, known: Array) -> Array:
    """The image with unknown texels taking the nearest known one's colour: viewers blur across the edges of charts."""
    rows, columns = np.asarray(ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True))
    return image[rows, columns]

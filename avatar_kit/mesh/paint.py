"""Colours from photos: each point of a surface takes what the photos that see it best show, and where none does what lies around it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu

from avatar_kit.render.renderer import Renderer
from avatar_kit.types import Array, Mesh, Photo

_SHARPNESS = 4  # power of the weights: the best view wins, its neighbour takes over within some degrees
_FACING = 0.15  # cosine between normal and view from which a photo counts; it counts fully at _FACING_FULL
_FACING_FULL = 0.6
_FEATHER = 0.02  # of the photo's longer side: how far from outlines and depth edges a photo counts fully
_DEPTH_EDGE = 0.03  # of the depth's spread: a jump between neighbouring pixels, beyond their slope, that is an edge
_DEPTH_TOLERANCE = 0.01  # of the depth's spread: what lies this far behind the surface that is seen is hidden
_SPREADING = 0.02  # of neighbours' colours against what photos are certain of: little where they are, all there is where they say nothing
_NO_COLOR = 1e-6  # of a middle grey: for pieces that no photo sees


@dataclass(frozen=True, eq=False)
class _View:
    """A photo with what its camera sees of the surface: how far each pixel can be trusted, and the farthest depth around it (H, W)."""

    photo: Photo
    trust: Array
    farthest: Array
    spread: float  # of the depths


class PhotoPaint:
    """What photos say about the colours of a surface.

    Args:
        surface: what hides things from the cameras, in the photos' world frame; it may be finer than what is painted.
    """

    def __init__(self, photos: tuple[Photo, ...], surface: Renderer) -> None:
        views = (_view(photo, surface.depth(photo.camera)) for photo in photos)
        self._views = [view for view in views if view is not None]

    def at(self, points: Array, normals: Array) -> tuple[Array, Array]:
        """Of surface `points` with unit `normals`, (N, 3), world frame.

        Returns:
            sRGB (N, 3), and how certain the best photo is of it, (N,) in [0, 1]; at 0 the colour says nothing.
        """
        total, best, colors = np.zeros(len(points)), np.zeros(len(points)), np.zeros((len(points), 3))
        for view in self._views:
            weight, color = _shown(view, points, normals)
            best = np.maximum(best, weight)
            weight = weight**_SHARPNESS
            total += weight
            colors += weight[:, None] * color
        return colors / np.maximum(total, 1e-12)[:, None], best


def continued(mesh: Mesh, colors: Array, certainty: Array) -> Array:
    """Colours of a mesh's vertices (V, 3), continued from where they are certain to where they are not: least squares of the differences
    to `colors` (V, 3), weighed by their `certainty` (V,), and of those between neighbours."""
    count, faces = len(mesh.vertices), mesh.faces
    ends = np.concatenate([faces, np.roll(faces, 1, axis=1)], axis=1).reshape(-1, 2, 3).swapaxes(1, 2).reshape(-1, 2)
    near = sparse.coo_matrix((np.ones(len(ends)), ends.T), shape=(count, count)).tocsr()
    near.data[:] = 1.0
    near = near.maximum(near.T)
    apart = sparse.diags(np.asarray(near.sum(1)).ravel()) - near
    sure = certainty**2 + _NO_COLOR * _SPREADING
    known = (certainty**2)[:, None] * colors + _NO_COLOR * _SPREADING * 0.5
    return splu((sparse.diags(sure) + _SPREADING * apart).tocsc()).solve(known)


def _view(photo: Photo, near: Array) -> _View | None:
    """Of a photo and the depth of the surface before its camera (H, W), inf for none; None where it sees nothing."""
    hit = np.isfinite(near)
    if not hit.any():
        return None
    spread = float(np.ptp(near[hit]))
    bend = [np.abs(ndimage.correlate1d(np.where(hit, near, 0.0), [1, -2, 1], axis=axis)) for axis in (0, 1)]
    edges = np.maximum(*bend) > _DEPTH_EDGE * spread
    inside = np.asarray(ndimage.distance_transform_edt(np.pad(hit & photo.mask & ~edges, 1)))[1:-1, 1:-1]
    trust = np.clip((inside - 1) / (_FEATHER * max(photo.mask.shape)), 0, 1).astype(np.float32)
    farthest = ndimage.maximum_filter(np.where(hit, near, -np.inf), size=3)  # a neighbour's depth will do on slopes
    return _View(photo, trust, farthest, spread)


def _shown(view: _View, points: Array, normals: Array) -> tuple[Array, Array]:
    """How much a photo says, in [0, 1], (N,), and what, (N, 3), about surface `points` with `normals`."""
    photo, camera = view.photo, view.photo.camera
    pixels, depth = camera.project(points)
    towards = camera.centre - points
    facing = np.einsum("nc,nc->n", normals, towards) / np.linalg.norm(towards, axis=1)
    weight = np.clip((facing - _FACING) / (_FACING_FULL - _FACING), 0, 1) * _sample(view.trust, pixels)
    column, row = np.clip(pixels.T, 0, np.array(photo.mask.shape[::-1])[:, None] - 1).astype(int)
    shown = (depth > 0) & (depth < view.farthest[row, column] + _DEPTH_TOLERANCE * view.spread)
    return np.where(shown, weight, 0.0), _sample(photo.image, pixels).astype(np.float64)


def _sample(image: Array, pixels: Array) -> Array:
    """Bilinear values (N, ...) of an image at `pixels` (N, 2), (x, y); zero outside."""
    width = 1 << 14  # cv2 takes maps of at most 32767 a side
    x, y = (np.pad((v - 0.5).astype(np.float32), (0, -len(v) % width), constant_values=-9).reshape(-1, width) for v in pixels.T)
    found = cv2.remap(np.ascontiguousarray(image), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return found.reshape(x.size, *image.shape[2:])[: len(pixels)]

"""Photos as views of a surface: which of its points each of them shows, where, and how well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

from avatar_kit.render.renderer import Renderer
from avatar_kit.types import Array, Photo

_FACING = 0.15  # cosine between normal and view from which a photo counts; it counts fully at _FACING_FULL
_FACING_FULL = 0.6
_FEATHER = 0.02  # of the photo's longer side: how far from outlines and depth edges a photo counts fully
_DEPTH_EDGE = 0.03  # of the depth's spread: a jump between neighbouring pixels, beyond their slope, that is an edge
_DEPTH_TOLERANCE = 0.01  # of the depth's spread: what lies this far behind the surface that is seen is hidden


@dataclass(frozen=True, eq=False)
class _View:
    """A photo with what its camera sees of the surface: how far each pixel can be trusted, and the farthest depth around it (H, W)."""

    photo: Photo
    trust: Array
    farthest: Array
    spread: float  # of the depths

    def place(self, points: Array) -> tuple[Array, Array]:
        """Pixels (N, 2) of world `points` (N, 3), and whether they are seen there, (N,) bool."""
        pixels, depth = self.photo.camera.project(points)
        (x, y), (height, width) = pixels.T, self.photo.mask.shape
        inside = (x > 0) & (x < width) & (y > 0) & (y < height)
        column, row = np.clip(x, 0, width - 1).astype(int), np.clip(y, 0, height - 1).astype(int)
        return pixels, inside & (depth > 0) & (depth < self.farthest[row, column] + _DEPTH_TOLERANCE * self.spread)


class PhotoViews:
    """Of a scene's photos, those that see something of a surface, those that see more of it first.

    Args:
        surface: what hides things from the cameras, in the photos' world frame; what is asked for later may lie a little off it.

    Attributes:
        with_normals: how many of them have normal maps.
    """

    def __init__(self, photos: tuple[Photo, ...], surface: Renderer) -> None:
        views = (_view(photo, surface.depth(photo.camera)) for photo in photos)
        self._views = sorted((view for view in views if view is not None), key=lambda view: -float(view.trust.sum()))
        self.with_normals = sum(view.photo.normals is not None for view in self._views)

    def see(self, points: Array) -> Array:
        """Which of the surface's `points` (N, 3) some photo's camera sees, whatever the photo says there, (N,) bool."""
        return np.logical_or.reduce([view.place(points)[1] for view in self._views] or [np.zeros(len(points), bool)])

    def shown(self, points: Array, normals: Array) -> Iterator[tuple[Photo, Array, Array]]:
        """Each photo with the pixels (N, 2) of the surface's `points` with unit `normals`, (N, 3), and how well it shows them, (N,)
        in [0, 1]: less where it looks along the surface, and near outlines and depth edges; 0 where it does not show them."""
        for view in self._views:
            pixels, seen = view.place(points)
            there = np.flatnonzero(seen)
            towards = view.photo.camera.centre - points[there]
            facing = np.einsum("nc,nc->n", normals[there], towards) / np.linalg.norm(towards, axis=1)
            weight = np.zeros(len(points))
            weight[there] = np.clip((facing - _FACING) / (_FACING_FULL - _FACING), 0, 1) * sample(view.trust, pixels[there])
            yield view.photo, pixels, weight


def sample(image: Array, pixels: Array) -> Array:
    """Bilinear values (N, ...) of an image at `pixels` (N, 2), (x, y); zero outside."""
    if len(pixels) == 0:  # which cv2 refuses
        return np.empty((0, *image.shape[2:]), image.dtype)
    width = 1 << 14  # cv2 takes maps of at most 32767 a side
    x, y = (np.pad((v - 0.5).astype(np.float32), (0, -len(v) % width), constant_values=-9).reshape(-1, width) for v in pixels.T)
    found = cv2.remap(np.ascontiguousarray(image), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return found.reshape(x.size, *image.shape[2:])[: len(pixels)]


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

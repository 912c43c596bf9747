"""Points that two photos both show: what ties their cameras together.

A surface, from predicted coordinates or of a fit's start, and the cameras found so far say where the other photo shows a
pixel's point, within some 20 mm. Along that guess the other photo is warped until it looks like the first; around corners of
the first, small patches are then found again by normalised correlation, which other light hardly disturbs (Lewis, "Fast
normalized cross-correlation", 1995).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np

from avatar_kit.conventions import MM_PER_UNIT, transform_points
from avatar_kit.scene.cameras import resized
from avatar_kit.types import Array, Photo

_CORNERS, _APART = 250, 0.03  # at most so many, so far apart, units
_QUALITY = 0.003  # of a corner against the best one
_UNIT_PX = 150.0  # pixels a unit of the head frame: finer photos are shrunk
_PATCH, _SEARCH = 0.06, 0.13  # units: half a patch's side, and how far it may lie off the guess: 12 and 26 mm
_SMOOTH = 0.04  # units: deviation of the filter over coordinates, whose fine detail is noise
_DETAIL = 0.06  # units: what is coarser is taken for light
_FLARE = 0.05  # luminance under which differences are noise
FACING = 0.35  # cosine at which the other camera must see the surface
_HIDDEN = 0.25  # units: the other photo shows something else there
_LEAST_SCORE = 0.75  # correlation
_LEAST_CONTRAST = 0.005  # of the patch, deviation of the logarithm: less is noise, or a trace of what stands behind
_RIVAL = 0.06  # by which the best place must be better than one elsewhere


class Matches(NamedTuple):
    """Pixels of two photos that show the same points: `first` (N, 2) and `second` (N, 2), and `points` (N, 3), where the
    first photo's surface has them, in its camera's frame, mm."""

    first: Array
    second: Array
    points: Array


def shrunk(photo: Photo) -> Photo:
    """A photo, whose world is the head frame in millimetres, with a head as large as is useful for `match`."""
    unit_px = photo.camera.intrinsics[0, 0] * MM_PER_UNIT / float(np.linalg.norm(photo.camera.centre))
    scale = min(1.0, _UNIT_PX / unit_px)
    size = (max(round(photo.camera.width * scale), 1), max(round(photo.camera.height * scale), 1))

    def nearest(values: Array) -> Array:
        return cv2.resize(values, size, interpolation=cv2.INTER_NEAREST_EXACT)

    return replace(
        photo,
        image=cv2.resize(photo.image, size, interpolation=cv2.INTER_AREA),
        mask=nearest(photo.mask.astype(np.uint8)) > 0,
        camera=resized(photo.camera, *size),
        normals=None if photo.normals is None else nearest(photo.normals),
        confidence=None if photo.confidence is None else nearest(photo.confidence),
        coordinates=None if photo.coordinates is None else nearest(photo.coordinates),
    )


def match(a: Photo, b: Photo, surface: Array, shown: Array) -> Matches:
    """What photos `a` and `b` both show; their world is the head frame in millimetres. Empty where they share nothing.

    Args:
        surface: points (H, W, 3) that the pixels of `a` see, in its camera's frame, mm, zero where there are none; see `surface_of`.
        shown: which of them `b` may show too, (H, W) bool; see `shown_by_coordinates`.
    """
    known = surface[..., 2] > 0
    to_b, depth_b = _seen_by(b, surface, a)
    seen = known & (depth_b > 0) & shown
    unit_px = a.camera.intrinsics[0, 0] * MM_PER_UNIT / float(np.median(surface[known, 2])) if known.any() else 0.0
    half, reach = round(_PATCH * unit_px), round(_SEARCH * unit_px)
    if half < 2 or not seen.any():
        return Matches(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros((0, 3)))
    unit_px_b = b.camera.intrinsics[0, 0] * MM_PER_UNIT / float(np.median(depth_b[seen]))
    own, other = _detail(a, _DETAIL * unit_px), _detail(b, _DETAIL * unit_px_b)
    warped = cv2.remap(other, to_b[..., 0] - 0.5, to_b[..., 1] - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inner = cv2.erode(seen.astype(np.uint8), np.ones((half, half), np.uint8))
    corners = cv2.goodFeaturesToTrack(own, _CORNERS, _QUALITY, max(_APART * unit_px, 2.0), mask=inner)
    found = []
    for x, y in () if corners is None else np.round(corners[:, 0]).astype(int):
        off = _found_again(own, warped, int(x), int(y), half, reach)
        if off is None:
            continue
        at = np.array([x, y]) + off
        column, row = np.clip(np.round(at).astype(int), 0, (seen.shape[1] - 1, seen.shape[0] - 1))
        if seen[row, column]:
            place = cv2.remap(to_b, np.float32([[at[0]]]), np.float32([[at[1]]]), cv2.INTER_LINEAR)[0, 0]  # pyright: ignore
            found.append([x + 0.5, y + 0.5, *place, *surface[y, x]])
    table = np.array(found, float).reshape(-1, 7)
    return Matches(table[:, :2], table[:, 2:4], table[:, 4:])


def surface_of(photo: Photo) -> Array:
    """Points (H, W, 3) that pixels see, in the camera's frame, mm: as far along their rays as smoothed coordinates say; else zero.

    The photo's camera must be the one that its own coordinates were explained by; other cameras see the same surface then.
    """
    assert photo.coordinates is not None
    depth = transform_points(photo.camera.camera_from_world, photo.coordinates.astype(float) * MM_PER_UNIT)[..., 2]
    known = photo.mask & (photo.coordinates != 0).any(-1) & (depth > 0)
    if not known.any():
        return np.zeros_like(photo.coordinates, float)
    sigma = _SMOOTH * photo.camera.intrinsics[0, 0] * MM_PER_UNIT / float(np.median(depth[known]))
    share = cv2.GaussianBlur(known.astype(np.float64), (0, 0), sigma)
    depth = cv2.GaussianBlur(depth * known, (0, 0), sigma) / np.maximum(share, 1e-6)
    pixels = photo.camera.pixel_grid()
    k = photo.camera.intrinsics
    rays = np.concatenate([(pixels - k[:2, 2]) / (k[0, 0], k[1, 1]), np.ones((*known.shape, 1))], axis=-1)
    return rays * (depth * known)[..., None]


def degrees_between(a: Photo, b: Photo) -> float:
    """The angle between two photos' cameras, roll left out."""
    cosine = a.camera.world_from_camera[:3, 2] @ b.camera.world_from_camera[:3, 2]
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def shown_by_coordinates(a: Photo, b: Photo, surface: Array) -> Array:
    """Where (H, W) of photo `a` the surface faces the camera of `b`, and `b` shows about the same coordinates there."""
    assert a.normals is not None
    assert a.coordinates is not None
    assert b.coordinates is not None
    towards = b.camera.centre - transform_points(a.camera.world_from_camera, surface)
    towards /= np.linalg.norm(towards, axis=-1, keepdims=True)
    facing = ((a.normals @ a.camera.world_from_camera[:3, :3].T) * towards).sum(-1)
    to_b, _ = _seen_by(b, surface, a)
    nothing = np.float32(1e3)
    there = np.where((b.mask & (b.coordinates != 0).any(-1))[..., None], b.coordinates, nothing).astype(np.float32)
    there = cv2.remap(
        there, to_b[..., 0] - 0.5, to_b[..., 1] - 0.5, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=(1e3,) * 3
    )
    return (facing > FACING) & (np.linalg.norm(there - a.coordinates, axis=-1) < _HIDDEN)


def _seen_by(b: Photo, surface: Array, a: Photo) -> tuple[Array, Array]:
    """Pixels (H, W, 2) and depths (H, W) of photo `b` for the surface of `a`."""
    to_b, depth_b = b.camera.project(transform_points(a.camera.world_from_camera, surface))
    return to_b.astype(np.float32), depth_b


def _detail(photo: Photo, sigma: float) -> Array:
    """The logarithm of luminance (H, W) on the subject without what changes slowly: light multiplies, so most of it is gone.

    Zero beyond, and without a halo of what stands behind, which would look like a detail of its own.
    """
    mask = photo.mask.astype(np.float32)
    luminance = np.log(cv2.cvtColor(np.asarray(photo.image, np.float32), cv2.COLOR_RGB2GRAY) + np.float32(_FLARE)) * mask
    around, share = (cv2.GaussianBlur(values, (0, 0), sigma) for values in (luminance, mask))
    return luminance - mask * around / np.maximum(share, np.float32(1e-3))


def _found_again(own: Array, warped: Array, x: int, y: int, half: int, reach: int) -> Array | None:
    """Where the patch around (x, y) lies in the warped photo, as an offset (2,) px; None where that is not sure."""
    height, width = own.shape
    if not (half <= x < width - half and half <= y < height - half):
        return None
    left, top = min(reach, x - half), min(reach, y - half)
    right, bottom = min(reach, width - half - 1 - x), min(reach, height - half - 1 - y)
    template = own[y - half : y + half + 1, x - half : x + half + 1]
    if float(template.std()) < _LEAST_CONTRAST:
        return None
    window = warped[y - half - top : y + half + 1 + bottom, x - half - left : x + half + 1 + right]
    score = cv2.matchTemplate(window, template, cv2.TM_CCOEFF_NORMED)
    row, column = np.unravel_index(int(np.argmax(score)), score.shape)
    best = float(score[row, column])
    if not best > _LEAST_SCORE or row in (0, score.shape[0] - 1) or column in (0, score.shape[1] - 1):
        return None
    elsewhere = score.copy()
    elsewhere[max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1] = -1
    if float(elsewhere.max()) > best - _RIVAL:
        return None
    across, down = score[row, column - 1 : column + 2], score[row - 1 : row + 2, column]
    return np.array([column - left + _vertex(across), row - top + _vertex(down)])


def _vertex(values: Array) -> float:
    """Where a parabola through three values at -1, 0 and 1 is highest."""
    curvature = float(values[0] - 2 * values[1] + values[2])
    return float(np.clip(0.5 * (values[0] - values[2]) / curvature, -0.5, 0.5)) if curvature < 0 else 0.0

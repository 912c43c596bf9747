"""Cameras of several photos at once: each as its own coordinates say, all as the points say that two photos share.

A head-frame coordinate is some 7 mm off, and the errors of one photo go together: the network takes the whole head for one
turned a little further. Where a patch of skin appears in two photos is known much better, and a surface that is turned as a
whole keeps its shape, so what two photos share fixes the rotation between them. One robust least-squares problem weighs both
(iteratively reweighted: Holland and Welsch 1977).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from avatar_kit.conventions import MM_PER_UNIT
from avatar_kit.normals.pose import CHIN, ransac_pose
from avatar_kit.photos.match import Matches, degrees_between, match, shown_by_coordinates, shrunk, surface_of
from avatar_kit.types import Array, Photo

_ROUNDS = 2  # of matching and solving: better cameras find more
_APART_DEG = 40.0  # photos further apart show too much from another side: on smooth stone what looks alike is then not the same
_FEWEST, _LEAST_SHARE = 20, 0.7  # matches of two photos that one motion explains, and their share: less may be chance
_WITHIN_MM = 4.0  # of that motion
_FARTHEST_DEG = 15.0  # from what the coordinates say: more is a mistake
_PIXELS = 250  # per photo, evenly drawn
_COORDINATE_MM, _COORDINATES = 8.0, 30.0  # their error, and how many independent ones a photo's amount to
_MATCH_MM, _MATCH_DEPTH_MM, _MATCHES = 1.5, 15.0, 60.0  # the same of matches; their depth's error shows by the sine of the angle between
_CAMERA_DEG, _CAMERA_MM, _CAMERA_DEPTH_MM = 4.0, 10.0, 40.0  # the error of a camera by its own coordinates: those of a photo go together
_WIDTHS = (8.0, 4.0, 2.0, 1.0, 1.0, 1.0)  # of the robust weight, in standard deviations
_STEP = 1e-5  # of the numerical derivatives, radians and units


def pose_together(photos: Sequence[Photo]) -> list[Photo]:
    """The photos with cameras that agree with one another; their world is the head frame in millimetres.

    Photos that share nothing keep their cameras; of some that share something, all may move a little.
    """
    if len(photos) < 2:
        return list(photos)
    given, photos = photos, [shrunk(photo) for photo in photos]
    surfaces = [surface_of(photo) for photo in photos]
    for _ in range(_ROUNDS):
        matches = {}
        for i, j in itertools.permutations(range(len(photos)), 2):
            if degrees_between(photos[i], photos[j]) > _APART_DEG:
                continue
            shown = shown_by_coordinates(photos[i], photos[j], surfaces[i])
            found = _consistent(match(photos[i], photos[j], surfaces[i], shown), photos[i], photos[j])
            if found is not None:
                matches[i, j] = found
        if not matches:
            break
        moved = _solved(photos, matches)
        by = [new.camera.camera_from_world[2, 3] - old.camera.camera_from_world[2, 3] for old, new in zip(photos, moved, strict=True)]
        photos, surfaces = moved, [_further(surface, more) for surface, more in zip(surfaces, by, strict=True)]
    return [
        replace(photo, camera=replace(photo.camera, world_from_camera=small.camera.world_from_camera))
        for photo, small in zip(given, photos, strict=True)
    ]


@dataclass(frozen=True, eq=False)
class _Sightings:
    """Points of one photo (N, 3), mm, and the pixels (N, 2) that show them."""

    points: Array
    pixels: Array


def _sightings(photo: Photo) -> _Sightings:
    assert photo.coordinates is not None
    usable = photo.mask & (photo.coordinates != 0).any(-1) & (photo.coordinates[..., 1] > CHIN)
    rows, columns = np.nonzero(usable)
    picked = np.linspace(0, len(rows) - 1, min(len(rows), _PIXELS)).astype(int)
    rows, columns = rows[picked], columns[picked]
    points = photo.coordinates[rows, columns].astype(float) * MM_PER_UNIT
    return _Sightings(points, np.stack([columns + 0.5, rows + 0.5], axis=1))


def _solved(photos: list[Photo], matches: dict[tuple[int, int], Matches]) -> list[Photo]:
    """Gauss-Newton on six unknowns a camera, with Cauchy's weights, whose width is narrowed step by step.

    Residuals are distances at the head in the standard deviations above.
    """
    start = [photo.camera.camera_from_world for photo in photos]
    sightings = [_sightings(photo) for photo in photos]
    counts = [*(_COORDINATES for _ in photos), *(min(len(found.first), _MATCHES) for found in matches.values())]
    std = np.tile([*[np.radians(_CAMERA_DEG)] * 3, *np.array([_CAMERA_MM, _CAMERA_MM, _CAMERA_DEPTH_MM]) / MM_PER_UNIT], len(photos))
    match_mm = {(i, j): _MATCH_MM + _MATCH_DEPTH_MM * np.sin(np.radians(degrees_between(photos[i], photos[j]))) for i, j in matches}

    def cameras(p: Array) -> list[tuple[Array, Array]]:
        turns = Rotation.from_rotvec(p.reshape(-1, 6)[:, :3]).as_matrix()
        shifts = p.reshape(-1, 6)[:, 3:] * MM_PER_UNIT
        return [(turn @ pose[:3, :3], pose[:3, 3] + shift) for turn, pose, shift in zip(turns, start, shifts, strict=True)]

    def errors(p: Array) -> list[Array]:
        at = cameras(p)
        parts = []
        for photo, own, (turn, shift) in zip(photos, sightings, at, strict=True):
            parts.append(_off_mm(photo, own.points @ turn.T + shift, own.pixels) / _COORDINATE_MM)
        for (i, j), found in matches.items():
            (turn, shift), (turn_j, shift_j) = at[i], at[j]
            # the point goes with the camera whose surface it is on, and along its ray as the head goes further away
            world = (_further(found.points, shift[2] - start[i][2, 3]) - shift) @ turn
            parts.append(_off_mm(photos[j], world @ turn_j.T + shift_j, found.second) / match_mm[i, j])
        return parts

    p = np.zeros(6 * len(photos))
    for width in _WIDTHS:
        now = errors(p)
        weight = [np.repeat(count / max(len(off), 1) / (1 + (off**2).sum(1) / width**2), 2) for off, count in zip(now, counts, strict=True)]
        value, root = np.concatenate(now).ravel(), np.sqrt(np.concatenate(weight))
        by = np.stack([(np.concatenate(errors(p + step)).ravel() - value) / _STEP for step in _STEP * np.eye(len(p))], axis=1)
        normal = np.concatenate([by * root[:, None], np.diag(1 / std)])
        p = p - np.linalg.lstsq(normal, np.concatenate([value * root, p / std]), rcond=None)[0]
    moved = []
    for photo, (turn, shift) in zip(photos, cameras(p), strict=True):
        world_from_camera = np.eye(4)
        world_from_camera[:3, :3], world_from_camera[:3, 3] = turn.T, -turn.T @ shift
        moved.append(replace(photo, camera=replace(photo.camera, world_from_camera=world_from_camera)))
    return moved


def _consistent(found: Matches, a: Photo, b: Photo) -> Matches | None:
    """Those of the matches that one motion between the cameras explains, about the one that is believed; None where they are few."""
    if len(found.first) < _FEWEST:
        return None
    k = b.camera.intrinsics
    tolerance = float(_WITHIN_MM * k[0, 0] / np.median(found.points[:, 2]))
    solved = ransac_pose(found.points / MM_PER_UNIT, found.second, k, tolerance)
    if solved is None or len(solved[2]) < max(_FEWEST, _LEAST_SHARE * len(found.first)):
        return None
    turn, _, inliers = solved
    believed = b.camera.camera_from_world[:3, :3] @ a.camera.world_from_camera[:3, :3]
    if np.degrees(Rotation.from_matrix(cv2.Rodrigues(turn)[0] @ believed.T).magnitude()) > _FARTHEST_DEG:
        return None
    return Matches(*(values[inliers] for values in found))


def _further(points: Array, by: float) -> Array:
    """Points (..., 3) of a camera's frame, zero where there are none, further away along their rays."""
    return points * (1 + by / np.where(points[..., 2:] > 0, points[..., 2:], 1.0))


def _off_mm(photo: Photo, in_camera: Array, pixels: Array) -> Array:
    """How far (N, 2) points in the camera's frame are from where pixels see them, at their distance."""
    k = photo.camera.intrinsics
    depth = np.maximum(in_camera[:, 2:], 1.0)
    return (in_camera[:, :2] / depth * (k[0, 0], k[1, 1]) + k[:2, 2] - pixels) / k[0, 0] * depth

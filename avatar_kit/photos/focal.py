"""The focal length of photos that do not state it: perspective makes near parts of a head large, the more the nearer it is.

Each candidate is judged by how well head-frame coordinates project (photos together, since one camera took them), against a
broad prior. A head that would be nearer than arm's length belongs to a cropped photo, whatever its EXIF says: then its distance is assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from avatar_kit.conventions import MM_PER_UNIT, transform_points
from avatar_kit.normals.pose import SKULL
from avatar_kit.photos.understand import ASSUMED_FOCAL, Understood, pose_again
from avatar_kit.types import Array, InputError

_KNOWN = ("exif", "stated")
_MULTIPLES = np.geomspace(0.7, 5.0, 14)  # of the photo's longer side: 24 to 170 mm of a full frame
_TYPICAL, _SPREAD = 1.4, 0.35  # of the multiple, and of its logarithm
_OBSERVATIONS = 10.0  # independent ones that a photo's pixels amount to: their errors go together
_WORST_MM = 20.0  # an error counts up to this
_NEAREST_MM = 450.0  # a head that would be nearer is a cropped photo's
_APPROACHES = 3
_CROPPED_MM = 800.0  # at which such a head is put


def with_focal_lengths(found: Sequence[Understood]) -> list[Understood]:
    """The photos posed again with one focal length, in multiples of their longer sides, for all that state none; and those that must
    be cropped, from a distance that is assumed."""
    silent = [seen for seen in found if seen.focal_source not in _KNOWN]
    costs = np.array([_cost(silent, multiple) for multiple in _MULTIPLES]) if silent else np.full(len(_MULTIPLES), np.inf)
    if np.isfinite(costs).any():
        multiple = _lowest(np.log(_MULTIPLES), costs)
        found = [seen if seen.focal_source in _KNOWN else _posed(seen, multiple) or seen for seen in found]
    return [seen if seen.focal_source == "stated" else _not_too_near(seen) for seen in found]


def _posed(seen: Understood, multiple: float, *, normals: bool = True) -> Understood | None:
    try:
        return pose_again(seen, seen.focal_px * multiple / ASSUMED_FOCAL, normals=normals)
    except InputError:
        return None


def _cost(silent: Sequence[Understood], multiple: float) -> float:
    """Minus the logarithm of the posterior, with the errors' own size unknown (a Student t's for many observations)."""
    posed = [_posed(seen, multiple, normals=False) for seen in silent]
    errors = [_error_mm(seen) for seen in posed if seen is not None]
    if len(errors) < len(silent):
        return float("inf")
    prior = (np.log(multiple / _TYPICAL) / _SPREAD) ** 2 / 2
    return float(_OBSERVATIONS / 2 * np.sum(np.log(np.square(errors))) + prior)


def _lowest(at: Array, costs: Array) -> float:
    """Where a parabola through the lowest cost and its neighbours is lowest; exp of it."""
    best = int(np.argmin(costs))
    if 0 < best < len(at) - 1 and np.isfinite(costs[best - 1 : best + 2]).all():
        a, b, _ = np.polyfit(at[best - 1 : best + 2], costs[best - 1 : best + 2], 2)
        if a > 0:
            return float(np.exp(np.clip(-b / (2 * a), at[best - 1], at[best + 1])))
    return float(np.exp(at[best]))


def _error_mm(seen: Understood) -> float:
    """Root mean square reprojection error at the head's distance, of pixels above the neck."""
    photo = seen.photo
    assert photo.coordinates is not None
    rows, columns = np.nonzero(photo.mask & (photo.coordinates != 0).any(-1) & (photo.coordinates[..., 1] > SKULL))
    points = transform_points(np.diag([MM_PER_UNIT] * 3 + [1.0]), photo.coordinates[rows, columns].astype(float))
    pixels, depth = photo.camera.project(points)
    off = np.linalg.norm(pixels - np.stack([columns + 0.5, rows + 0.5], axis=1), axis=1) / photo.camera.intrinsics[0, 0] * depth
    return float(np.sqrt(np.mean(np.minimum(off, _WORST_MM) ** 2)))


def _not_too_near(seen: Understood) -> Understood:
    if seen.distance_mm >= _NEAREST_MM:
        return seen
    note = f"the head would be {seen.distance_mm / 10:.0f} cm away: taken for a cropped photo from {_CROPPED_MM / 10:.0f} cm"
    moved = seen
    for _ in range(_APPROACHES):  # near heads look flatter from further away, so that the distance falls behind the focal length
        moved = pose_again(moved, moved.focal_px * _CROPPED_MM / moved.distance_mm)
    return replace(moved, focal_source="cropped", notes=[*moved.notes, note])

"""Where the head is, from predicted head-frame coordinates: one similarity that all photos agree on, in any world frame.

Each pixel on the head says which point X of the head frame it sees; its ray says where in the world that point may be.
Rotations come from a robust perspective-n-point per photo (`normals.pose`), scale and translation from a linear problem,
and a robust least-squares fit of all seven parameters has the last word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from avatar_kit.conventions import MM_PER_UNIT, similarity
from avatar_kit.normals.pose import SKULL, head_pose
from avatar_kit.types import Array, InputError, Photo, Scene

_PIXELS = 700  # per photo, evenly drawn
_NOISE = 0.04  # units: larger errors of coordinates count less and less
_ROUNDS = 8  # of reweighting


class Sightings(NamedTuple):
    """Points that pixels see: `points` in the head frame (N, 3), rays `origins` and unit `directions` in the world (N, 3),
    and `weights` (N,)."""

    points: Array
    origins: Array
    directions: Array
    weights: Array


class PhotoSays(NamedTuple):
    """What one photo says of where the head is: a few hundred of its pixels, and the rotation of head_from_world (3, 3)."""

    sightings: Sightings
    rotation: Array


def locate_head(scene: Scene) -> Array | None:
    """head_from_world (4, 4) from the photos' coordinates; None where they have none or no pose explains them.

    With one photo, the head has its true size: 200 mm a unit.
    """
    said = [says for photo in scene.photos if (says := what_says(photo)) is not None]
    return agreed_place(said, scene.mm_per_world_unit)


def what_says(photo: Photo) -> PhotoSays | None:
    """Of one photo; None where it has no coordinates or no pose explains them."""
    if photo.coordinates is None:
        return None
    try:
        pose = head_pose(photo.coordinates, photo.mask & _known(photo), photo.camera.intrinsics, confidence=photo.confidence)
    except InputError:
        return None
    return PhotoSays(_sightings(photo), pose.camera_from_head[:3, :3].T @ photo.camera.camera_from_world[:3, :3])


def agreed_place(said: Sequence[PhotoSays], mm_per_world_unit: float) -> Array | None:
    """head_from_world (4, 4) of all photos together; None of none. The unit decides the size where there is one photo only."""
    if not said:
        return None
    seen = Sightings(*(np.concatenate(parts) for parts in zip(*(says.sightings for says in said), strict=True)))
    unit = MM_PER_UNIT / mm_per_world_unit  # of the head frame, in world units
    rotation = _agreed([says.rotation for says in said])
    scale, shift = _scale_and_shift(seen, rotation, None if len(said) > 1 else unit)
    if scale <= 0:
        return None
    return _refined(seen, rotation, scale, shift, free_scale=len(said) > 1)


def _known(photo: Photo) -> Array:
    assert photo.coordinates is not None
    return (photo.coordinates != 0).any(-1)


def _sightings(photo: Photo) -> Sightings:
    assert photo.coordinates is not None
    usable = photo.mask & _known(photo) & (photo.coordinates[..., 1] > SKULL)
    rows, columns = np.nonzero(usable)
    picked = np.linspace(0, len(rows) - 1, min(len(rows), _PIXELS)).astype(int)
    rows, columns = rows[picked], columns[picked]
    origins, directions = photo.camera.rays(np.stack([columns + 0.5, rows + 0.5], axis=-1))
    weights = np.ones(len(rows)) if photo.confidence is None else np.sqrt(photo.confidence[rows, columns])
    return Sightings(photo.coordinates[rows, columns].astype(float), origins, directions, weights / max(weights.mean(), 1e-9))


def _agreed(rotations: Sequence[Array]) -> Array:
    """A mean of rotations in which those far from the rest count little."""
    all_of_them = Rotation.from_matrix(np.array(rotations))
    apart = np.array([np.median((all_of_them * one.inv()).magnitude()) for one in all_of_them])
    mean = all_of_them[int(apart.argmin())]
    for _ in range(_ROUNDS):
        mean = all_of_them.mean(weights=1.0 / ((all_of_them * mean.inv()).magnitude() + 0.03))
    return mean.as_matrix()


def _scale_and_shift(seen: Sightings, head_from_world: Array, known_scale: float | None) -> tuple[float, Array]:
    """World units per unit of the head frame, and the head frame's origin in the world: of s R^T X + t nearest to the rays."""
    turned = seen.points @ head_from_world  # R^T X
    across = np.eye(3) - seen.directions[:, :, None] * seen.directions[:, None, :]
    weights, scale, shift = seen.weights, known_scale or 1.0, np.zeros(3)
    for _ in range(_ROUNDS):
        design = np.concatenate([np.einsum("nij,nj->ni", across, turned)[..., None], across], axis=-1)  # (N, 3, 4)
        target = np.einsum("nij,nj->ni", across, seen.origins)
        if known_scale is not None:
            target = target - design[..., 0] * known_scale
            design = design[..., 1:]
        root = np.sqrt(weights)[:, None]
        solved = np.linalg.lstsq((design * root[..., None]).reshape(-1, design.shape[-1]), (target * root).ravel(), rcond=None)[0]
        scale, shift = (known_scale, solved) if known_scale is not None else (float(solved[0]), solved[1:])
        off = np.linalg.norm(design @ solved - target, axis=1) / max(abs(scale), 1e-9)
        weights = seen.weights / np.maximum(off, _NOISE)
    return scale, shift


def _refined(seen: Sightings, rotation: Array, scale: float, shift: Array, *, free_scale: bool) -> Array:
    """All parameters at once; residuals are distances from rays in units of the head frame."""

    def world_from_head(p: Array) -> tuple[float, Array, Array]:
        turn = Rotation.from_rotvec(p[:3]).as_matrix() @ rotation.T
        size = scale * float(np.exp(p[6])) if free_scale else scale
        return size, turn, shift + scale * p[3:6]

    def residuals(p: Array) -> Array:
        size, turn, origin = world_from_head(p)
        to_point = seen.points @ turn.T * size + origin - seen.origins
        off = to_point - (to_point * seen.directions).sum(1, keepdims=True) * seen.directions
        return (off / size * np.sqrt(seen.weights)[:, None]).ravel()

    best = least_squares(residuals, np.zeros(7 if free_scale else 6), loss="cauchy", f_scale=_NOISE)
    size, turn, origin = world_from_head(best.x)
    return np.linalg.inv(similarity(size, turn, origin))

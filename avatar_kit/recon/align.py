"""Where the head is, before the fit: head_from_world from the cameras' geometry and the mean head's silhouettes.

No landmarks and no truth are needed. Where head-frame coordinates are predicted, they say it (`photos.locate`). The cameras'
optical axes say where the subject is, their common up direction how it stands and their mean direction where it looks; then
seven parameters are searched so that the mean head fits masks (and normals, where there are any).
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from avatar_kit.conventions import MM_PER_UNIT, rotation_xyz_deg, similarity
from avatar_kit.kernels.ray_search import search_grid
from avatar_kit.photos.locate import locate_head
from avatar_kit.recon.rays import RayBank, Rays
from avatar_kit.types import Array, Scene

_RAYS = 1000
_EVALUATIONS = 90  # of the misfit per guess: `recon.start` does the rest
_EVALUATIONS_ONE = 220  # ... of a single photo, whose misfit hardly changes along the optical axis
_CLIP = 0.25  # units: a ray's silhouette error counts up to this, so that shoulders the mean head lacks cannot pull
_LOW, _LOW_WEIGHT = -0.45, 0.15  # below this height (the neck) busts differ from the mean head, so rays count less
_YAWS_DEG = (0.0, -25.0, 25.0)
_HEIGHTS = (-0.15, 0.15)  # units
_DISTANCES = (0.85, 1.0, 1.18)  # of a single photo, times what the head's width says: it is 1.03 units with a spread of 13 %
_HEAD_WIDTH = 1.03  # units: mean of 24 frontal heads with hair, across the upper half of their masks
_TRIES = 6  # guesses that are refined
_SPREAD = np.array([0.25, 0.25, 0.35, np.radians(15), np.radians(12), np.radians(8), 0.05])  # of the parameters
_LOOSE = np.array([0.0, 0.0, 0.0, 0.0, 1e-3, 1e-3, 2e-2])  # costs of their squares, in spreads


class Placed(NamedTuple):
    """`head_from_world` (4, 4), and whether predicted coordinates say where the head is."""

    head_from_world: Array
    located: bool


def align(scene: Scene, mean_sdf: Tensor, *, image_size: int = 128) -> Array:
    """head_from_world (4, 4) of a scene; see `place`."""
    return place(scene, mean_sdf, image_size=image_size).head_from_world


def place(scene: Scene, mean_sdf: Tensor, *, image_size: int = 128) -> Placed:
    """Estimate head_from_world of a scene; a scene that states it is taken at its word.

    Args:
        mean_sdf: the mean head at grid nodes, (n, n, n).
        image_size: photos are shrunk to this.
    """
    if scene.head_from_world is not None:  # plain photos were placed by their coordinates
        return Placed(scene.head_from_world, any(photo.coordinates is not None for photo in scene.photos))
    located = locate_head(scene)
    if located is not None:
        # hair bends silhouettes, and one photo's hardly change along its axis: what the pixels show of the head says more
        return Placed(located, True)
    starts = [from_cameras(scene, distance=factor) for factor in (_DISTANCES if len(scene.photos) == 1 else (1.0,))]
    bank = RayBank(scene, image_size, torch.device("cpu"))
    rays = bank.draw(_RAYS, 0.5, torch.Generator().manual_seed(0))  # the same for all seeds
    sdf = mean_sdf.cpu()
    gradient = torch.stack(torch.gradient(sdf, spacing=2.0 / (sdf.shape[0] - 1)), dim=-1)

    def error(parameters: Array, start: Array) -> float:
        candidate = _delta(parameters * _SPREAD) @ start
        return _misfit(candidate, rays, sdf, gradient) + float(_LOOSE @ parameters**2)

    guesses = []
    for start, yaw, height in itertools.product(starts, _YAWS_DEG, _HEIGHTS):
        guess = np.array([0.0, height, 0.0, np.radians(yaw), 0.0, 0.0, 0.0]) / _SPREAD
        guesses.append((error(guess, start) if len(starts) > 1 else 0.0, len(guesses), guess, start))
    guesses = sorted(guesses)[:_TRIES]
    evaluations = _EVALUATIONS if len(scene.photos) > 1 else _EVALUATIONS_ONE
    found = []
    for *_, guess, start in guesses:
        options = dict(maxfev=evaluations, xatol=1e-3, fatol=1e-5, initial_simplex=_simplex(guess))
        best = minimize(error, guess, args=(start,), method="Nelder-Mead", options=options)
        found.append((best.fun, len(found), _delta(best.x * _SPREAD) @ start))
    return Placed(min(found)[-1], False)


def from_cameras(scene: Scene, *, distance: float = 1.0) -> Array:
    """A first guess from the cameras alone: the head stands where the rays through the masks' tops meet, upright, and
    looks towards the middle of the cameras.

    Args:
        distance: where rays do not meet, as of a single photo, times the distance at which a head is as wide as the mask.
    """
    origins, directions, ups = [], [], []
    for photo in scene.photos:
        rows, columns = np.nonzero(photo.mask)
        top, height = rows.min(), np.ptp(rows) + 1
        upper = rows < top + 0.5 * height
        pixel = np.array([columns[upper].mean() + 0.5, rows[upper].mean() + 0.5])
        origin, direction = photo.camera.rays(pixel)
        origins.append(origin)
        directions.append(direction)
        ups.append(-photo.camera.world_from_camera[:3, 1])
    unit = MM_PER_UNIT / scene.mm_per_world_unit  # of the head frame, in world units
    up = np.mean(ups, axis=0)
    up /= np.linalg.norm(up)
    target = _meeting_point(np.array(origins), np.array(directions)) if len(origins) > 1 else None
    if target is None:
        photo = scene.photos[0]
        rows, columns = np.nonzero(photo.mask)
        width = np.ptp(columns[rows < rows.min() + 0.5 * (np.ptp(rows) + 1)]) + 1
        target = origins[0] + directions[0] * (distance * _HEAD_WIDTH * unit * photo.camera.intrinsics[0, 0] / width)
    outward = np.array([(o - target) / np.linalg.norm(o - target) for o in origins])
    forward = outward.mean(0)
    if np.linalg.norm(forward - up * (forward @ up)) < 0.2:  # cameras all around: the first counts as frontal
        forward = outward[0]
    forward = forward - up * (forward @ up)
    forward /= np.linalg.norm(forward)
    rotation = np.stack([np.cross(up, forward), up, forward])
    scale = 1.0 / unit
    middle = np.array([0.0, 0.25, 0.0])  # of the upper half of a head, head frame
    return similarity(scale, rotation, middle - scale * rotation @ target)


def _meeting_point(origins: Array, directions: Array) -> Array | None:
    """The point nearest to all rays in the least-squares sense, or None when they are parallel."""
    projectors = np.eye(3) - directions[:, :, None] * directions[:, None, :]
    total = projectors.sum(0)
    if np.linalg.cond(total) > 1e4:
        return None
    return np.linalg.solve(total, (projectors @ origins[:, :, None]).sum(0)[:, 0])


def _delta(p: Array) -> Array:
    """The similarity of seven parameters: translation (units), yaw, pitch, roll (radians), log scale."""
    yaw, pitch, roll = np.degrees(p[3:6])
    return similarity(float(np.exp(p[6])), rotation_xyz_deg(pitch, yaw, roll), p[:3])


def _simplex(centre: Array) -> Array:
    return np.concatenate([centre[None], centre + 0.6 * np.eye(len(centre))])


def _misfit(head_from_world: Array, rays: Rays, sdf: Tensor, gradient: Tensor) -> float:
    """Mean silhouette error (units, clipped) plus a share of the normals' error, low parts of the body counting less."""
    linear = torch.tensor(head_from_world[:3, :3], dtype=torch.float32)
    rotation = linear / torch.linalg.det(linear).pow(1 / 3)
    origins = rays.origins @ linear.T + torch.tensor(head_from_world[:3, 3], dtype=torch.float32)
    directions = rays.directions @ rotation.T
    found = search_grid(sdf, origins, directions, coarse=40, fine=4)
    closest = origins + directions * torch.nan_to_num(found.closest_depth)[:, None]
    signed = torch.where(rays.inside, found.closest_value, -found.closest_value)
    missed_box = torch.where(rays.inside, _CLIP, 0.0)
    wrong = torch.where(torch.isfinite(found.closest_value), signed.clamp(0.0, _CLIP), missed_box)
    weight = torch.where(closest[:, 1] < _LOW, _LOW_WEIGHT, 1.0)
    total = (wrong * weight).sum() / weight.sum()
    use = found.hit & rays.inside & (rays.normals.abs().sum(-1) > 0)
    if use.any():
        hit = origins[use] + directions[use] * found.depth[use, None]
        index = ((hit + 1.0) * 0.5 * (sdf.shape[0] - 1)).round().long().clamp(0, sdf.shape[0] - 1)
        normals = torch.nn.functional.normalize(gradient[index[:, 0], index[:, 1], index[:, 2]], dim=-1)
        cosine = (normals * (rays.normals[use] @ rotation.T)).sum(-1)
        normal_weight = weight[use]
        total = total + 0.3 * ((1.0 - cosine) * normal_weight).sum() / normal_weight.sum()
    return float(total)

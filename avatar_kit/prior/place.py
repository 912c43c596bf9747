"""Where a scan is in the head frame: a robust similarity that lays its points onto the surface of a head of the prior.

Point to surface, by Gauss-Newton on the head's signed distances, so no pairs of points are searched for. Points that no
head explains (shoulders, hair, stands) weigh little: Geman-McClure, its width shrinking over the steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from avatar_kit.conventions import CANONICAL_LANDMARKS, MM_PER_UNIT, similarity, transform_points
from avatar_kit.types import Array

_POINTS = 3000
_WIDTHS = (0.25, 0.02)  # units: of the robust weight, at the first step and at the last
_STEPS, _FIRST_STEPS, _KEPT = 40, 12, 4  # of these, with every start; then the best go on
_COUNT = 300.0  # independent observations that the points amount to
_STD = 0.02  # units, of each
_SCALE_STD = 0.03  # of the log of the size: weak beside the points, but a scan cannot shrink into the surface
_HEIGHTS = (0.0, -0.25)  # units: of a head's centroid, and of a bust's


def place(points: Array, sdf: Tensor, starts: Sequence[Array], *, rng: np.random.Generator) -> tuple[Array, float]:
    """The similarity that lays `points` best onto the zero level of a head.

    Args:
        points: (N, 3) on the scan, in any frame.
        sdf: the head's signed distances at the nodes of a grid over the box, (n, n, n), units, as `HeadPrior.mean_sdf`.
        starts: head_from_scan (4, 4) to start from; the best end of all is returned.

    Returns:
        head_from_scan (4, 4) and its misfit in [0, 1]: 0 where all points lie on the surface, 1 where none is near.
    """
    if len(points) > _POINTS:
        points = points[rng.choice(len(points), _POINTS, replace=False)]
    grid = _with_gradient(sdf)
    states = [(0.0, number, start, 0.0) for number, start in enumerate(starts)]
    widths = np.geomspace(*_WIDTHS, _STEPS)
    if len(states) > _KEPT:
        states = sorted(_descend(points, grid, state, widths[:_FIRST_STEPS]) for state in states)[:_KEPT]
        widths = widths[_FIRST_STEPS:]
    states = [_descend(points, grid, state, widths) for state in states]
    best = min(states, key=lambda state: state[:2])
    return best[2], best[0]


def upright_starts(points: Array, mm_per_unit: float, nose: Array | None) -> list[Array]:
    """Starts (4, 4) for a scan of unknown pose: each way of laying its axes along the head's.

    Args:
        points: (N, 3) on the scan, in its frame and unit.
        nose: the tip of its nose (3,), or None; then the centroid says where it is.
    """
    scale, starts = mm_per_unit / MM_PER_UNIT, [similarity(mm_per_unit / MM_PER_UNIT, np.eye(3), np.zeros(3))]
    for rotation in Rotation.create_group("O").as_matrix():
        if nose is not None:
            starts.append(similarity(scale, rotation, np.array(CANONICAL_LANDMARKS["nose_tip"]) - scale * rotation @ nose))
            continue
        for height in _HEIGHTS:
            starts.append(similarity(scale, rotation, np.array([0.0, height, 0.0]) - scale * rotation @ points.mean(0)))
    return starts


_State = tuple[float, int, Array, float]  # misfit, number of the start, head_from_scan, log of the size against the start's


def _descend(points: Array, grid: Tensor, state: _State, widths: Array) -> _State:
    _, number, matrix, log_scale = state
    for width in widths:
        at = transform_points(matrix, points)
        distance, gradient, inside = _look_up(grid, at)
        weight = inside * (width**2 / (distance**2 + width**2)) ** 2 * (_COUNT / len(points) / _STD**2)
        jacobian = np.concatenate([gradient, np.cross(at, gradient), (gradient * at).sum(1, keepdims=True)], axis=1)
        hessian = (jacobian * weight[:, None]).T @ jacobian + np.diag([1.0] * 6 + [_SCALE_STD**-2])
        slope = (jacobian * weight[:, None]).T @ distance
        slope[6] += log_scale / _SCALE_STD**2
        step = -np.linalg.solve(hessian, slope)
        step *= min(1.0, 0.3 / max(np.abs(step).max(), 1e-12))  # radians and units at most: the slope is local
        log_scale += step[6]
        matrix = similarity(float(np.exp(step[6])), Rotation.from_rotvec(step[3:6]).as_matrix(), step[:3]) @ matrix
    distance, _, inside = _look_up(grid, transform_points(matrix, points))
    width = _WIDTHS[1] * 2
    misfit = np.where(inside > 0, distance**2 / (distance**2 + width**2), 1.0).mean() + 0.5 * (log_scale / _SCALE_STD) ** 2 / _COUNT
    return float(misfit), number, matrix, log_scale


def _with_gradient(sdf: Tensor) -> Tensor:
    """Distance and gradient as channels, (1, 4, n, n, n)."""
    sdf = sdf.detach().float().cpu()
    gradient = torch.gradient(sdf, spacing=2.0 / (sdf.shape[0] - 1))
    return torch.stack([sdf, *gradient])[None]


def _look_up(grid: Tensor, points: Array) -> tuple[Array, Array, Array]:
    """Distances (N,), gradients (N, 3) and whether each of `points` (N, 3) lies in the box."""
    at = torch.from_numpy(points).float()[None, None, None].flip(-1)  # the last axis of the grid comes first
    found = torch.nn.functional.grid_sample(grid, at, align_corners=True, padding_mode="border")[0, :, 0, 0].double().numpy()
    return found[0], found[1:].T, (np.abs(points) < 1.0).all(1).astype(float)


def is_turned_over(points: Array, normals: Array, sdf: Tensor) -> bool:
    """Whether `normals` (N, 3) at `points` (N, 3), head frame, point into the head rather than out of it."""
    distance, gradient, inside = _look_up(_with_gradient(sdf), points)
    near = (inside > 0) & (np.abs(distance) < _WIDTHS[0])
    return bool(near.any() and (gradient * normals)[near].sum(1).mean() < 0)

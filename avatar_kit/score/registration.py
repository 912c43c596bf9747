"""Iterative closest points, step for step as `trimesh.registration.icp`, on a cloud whose tree is built already."""

from __future__ import annotations

import numpy as np

from avatar_kit.score.distances import Cloud
from avatar_kit.types import Array

_STEPS, _LEAST_GAIN = 20, 1e-5  # trimesh's defaults, on which the h3ds package relies


def icp(points: Array, cloud: Cloud, *, scale: bool, reflection: bool) -> Array:
    """The similarity (4, 4) that takes `points` (N, 3) onto `cloud`, each point to whatever lies nearest.

    Args:
        scale, reflection: whether they are allowed.
    """
    from trimesh.registration import procrustes

    total, before = np.eye(4), np.inf
    moved = np.asarray(points, np.float64)
    for _ in range(_STEPS):
        closest = cloud.points[cloud.tree.query(moved)[1]]
        step, moved, cost = procrustes(moved, closest, scale=scale, reflection=reflection)
        total = step @ total
        if before - cost < _LEAST_GAIN:
            break
        before = cost
    return total

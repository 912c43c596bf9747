"""Frames, units and the few functions that convert between them.

Frames
    world   the frame and unit of a scene's own cameras (millimetres unless the scene says otherwise).
    head    +x to the subject's left, +y up, +z out of the face; 1 unit = 200 mm; the field lives in [-1, 1]^3.
    camera  OpenCV: x right, y down, z forward; pixel centres at +0.5.

Matrices are 4 x 4, act on column vectors and are named by direction: ``head_from_world @ x_world = x_head``.
Signed distances are negative inside. Everything here is NumPy, so that it can be imported in an instant.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

MM_PER_UNIT = 200.0
"""Millimetres in one unit of the head frame."""

BOX_MIN, BOX_MAX = -1.0, 1.0
"""The cube of the head frame in which the field is defined."""


def transform_points(matrix: Array, points: Array) -> Array:
    """Apply a 4 x 4 affine `matrix` to `points` (..., 3)."""
    moved = points @ matrix[:3, :3].T
    moved += matrix[:3, 3]
    return moved


def rotation_of(similarity: Array) -> Array:
    """Rotation (3, 3) of a 4 x 4 similarity: its linear part with the scale divided out."""
    return similarity[:3, :3] / scale_of(similarity)


def scale_of(similarity: Array) -> float:
    """Scale of a 4 x 4 similarity: the cube root of its determinant (negative for a mirrored one)."""
    return float(np.cbrt(np.linalg.det(similarity[:3, :3])))


def similarity(scale: float, rotation: Array, translation: Array) -> Array:
    """The 4 x 4 matrix of ``x -> scale * rotation @ x + translation``."""
    matrix = np.eye(4)
    matrix[:3, :3] = scale * np.asarray(rotation)
    matrix[:3, 3] = translation
    return matrix


def procrustes(source: Array, target: Array, *, with_scale: bool) -> Array:
    """Least-squares similarity (or rigid motion) that takes `source` to `target`, never a reflection.

    Args:
        source, target: corresponding points, (N, 3) with N >= 3.
        with_scale: also solve for a scale; otherwise it is 1.

    Returns:
        target_from_source, 4 x 4.

    Source: Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991.
    """
    mean_source, mean_target = source.mean(0), target.mean(0)
    a, b = source - mean_source, target - mean_target
    u, singular, vt = np.linalg.svd(b.T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = float((singular * sign).sum() / (a**2).sum()) if with_scale else 1.0
    return similarity(scale, rotation, mean_target - scale * rotation @ mean_source)


def rotation_xyz_deg(pitch: float, yaw: float, roll: float) -> Array:
    """Rotation Ry(yaw) @ Rx(pitch) @ Rz(roll), angles in degrees about the head's x, y and z axes."""
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("YXZ", [yaw, pitch, roll], degrees=True).as_matrix()


# The landmarks of Anny's average adult (gender 0.5, age 0.7), moved so that the nose tip is at (0, 0, 0.65).
# They define the head frame: a head model or a scan is brought to it by the rigid motion, or the similarity
# where its unit is unknown, that fits its own landmarks to these. Left and right are the subject's.
CANONICAL_LANDMARKS: dict[str, tuple[float, float, float]] = {
    "nose_tip": (0.0, 0.0, 0.65),
    "sellion": (0.0, 0.166, 0.555),
    "subnasale": (0.0, -0.077, 0.591),
    "eye_left_inner": (0.1042, 0.1826, 0.4827),
    "eye_left_outer": (0.2231, 0.1897, 0.4491),
    "eye_right_inner": (-0.1042, 0.1826, 0.4827),
    "eye_right_outer": (-0.2231, 0.1897, 0.4491),
    "mouth_left": (0.1223, -0.1688, 0.5087),
    "mouth_right": (-0.1223, -0.1688, 0.5087),
    "chin": (0.0, -0.377, 0.510),
}


def head_from_landmarks(landmarks: dict[str, Array], *, with_scale: bool) -> Array:
    """Transformation to the head frame that fits named `landmarks` (each (3,)) to `CANONICAL_LANDMARKS`.

    Args:
        landmarks: at least three of the canonical names, not on one line.
        with_scale: True where the unit is unknown; otherwise the landmarks are in units of 200 mm.

    Returns:
        head_from_source, 4 x 4.

    Raises:
        ValueError: fewer than three known names.
    """
    names = [name for name in CANONICAL_LANDMARKS if name in landmarks]
    if len(names) < 3:
        raise ValueError(
            f"{len(names)} of the landmarks {sorted(landmarks)} are known; at least three of {sorted(CANONICAL_LANDMARKS)} are needed."
        )
    source = np.array([landmarks[name] for name in names], dtype=float)
    target = np.array([CANONICAL_LANDMARKS[name] for name in names])
    return procrustes(source, target, with_scale=with_scale)

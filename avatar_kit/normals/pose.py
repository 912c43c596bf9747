"""The head's pose against the camera from predicted head-frame coordinates: robust perspective-n-point.

The more certain half of the pixels says which pose it is (RANSAC), all of them then say it better (reweighted least
squares: Holland and Welsch 1977): the errors of neighbours go together, so what counts is how much of the head is used.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from avatar_kit.types import Array, InputError

_FEWEST = 50  # pixels on the head
_MOST = 3000  # pixels used, evenly drawn
CHIN = -0.5  # y in the head frame, units: what is above this turns with the head
_REFINED_PIXELS, _WIDTH, _STEPS = 1500, 0.1, 6  # how many, the robust weights' width in units, and steps
SKULL = -0.4  # y in the head frame, units: below, neck and clothes do not move with the head
_INLIER = 0.05  # units (10 mm): reprojection error at the head's distance that still counts as right
_SEED = 0
_HINTED_PIXELS, _OBSERVATIONS = 600, 12.0  # of which the posterior is made, and how many independent ones they amount to
_STATED_DEG = np.array([20.0, 15.0, 20.0])  # how far pitch (of an upright photo), stated yaw and roll may be off, roughly
CLEAR_SHARE = 0.35  # of the pixels that agree with the pose: less is hardly a face


@dataclass(frozen=True, eq=False)
class HeadPose:
    """Where a head is.

    Attributes:
        camera_from_head: (4, 4) rigid, in units of 200 mm.
        inlier_share: of the pixels, those whose coordinates agree with the pose within 10 mm.
    """

    camera_from_head: Array
    inlier_share: float


def head_pose(
    coordinates: Array, foreground: Array, intrinsics: Array, *, confidence: Array | None = None, yaw_deg: float | None = None
) -> HeadPose:
    """The rigid motion that explains coordinates (H, W, 3) in the head frame, seen by a camera with `intrinsics` (3, 3).

    Args:
        foreground: (H, W) bool.
        confidence: (H, W); the less certain half is left out.
        yaw_deg: of the camera around the head (`scene.cameras.orbit_camera`'s), as the user says: a broad prior that clear
            coordinates overrule, and where unclear ones are looked at first.

    Raises:
        InputError: too few pixels, or no pose that explains them.
    """
    known = foreground & np.isfinite(coordinates).all(-1)
    usable = known & (coordinates[..., 1] > SKULL)
    if confidence is not None and usable.any():
        usable = usable & (confidence >= np.median(confidence[usable]))
    if usable.sum() < _FEWEST:
        raise InputError(f"{usable.sum()} pixels show the head; at least {_FEWEST} are needed for its pose. Give a larger photo of it.")
    points, pixels = _drawn(coordinates, usable, _MOST)
    spread = np.sqrt(pixels.var(0).sum() / max(points.var(0).sum() * 2 / 3, 1e-12))  # pixels per unit, roughly
    tolerance = max(_INLIER * float(spread), 0.5)
    intrinsics = np.asarray(intrinsics, np.float64)
    found = ransac_pose(points, pixels, intrinsics, tolerance)
    found = found if found is not None and len(found[2]) >= _FEWEST else None
    if found is None and yaw_deg is None:
        raise InputError("No pose explains the predicted coordinates of the head. Check the camera's intrinsics and the photo.")
    turn, shift, agreeing = found or (np.zeros((3, 1)), np.zeros((3, 1)), np.zeros(0, np.int64))
    if yaw_deg is not None:
        turn, shift = _hinted(points, pixels, intrinsics, tolerance, yaw_deg, (turn, shift) if found is not None else None)
        agreeing = np.flatnonzero(_error_px(points, pixels, intrinsics, turn, shift) < tolerance)
    if yaw_deg is None or len(agreeing) > max(CLEAR_SHARE * len(points), _FEWEST):  # else what is stated has the last word
        turn, shift = cv2.solvePnPRefineLM(points[agreeing], pixels[agreeing], intrinsics, None, turn, shift)
        all_of_them = known & (coordinates[..., 1] > CHIN)
        turn, shift = _refined(*_drawn(coordinates, all_of_them, _REFINED_PIXELS), intrinsics, turn, shift)
    error = _error_px(points, pixels, intrinsics, turn, shift)
    camera_from_head = np.eye(4)
    camera_from_head[:3, :3] = cv2.Rodrigues(turn)[0]
    camera_from_head[:3, 3] = shift[:, 0]
    if camera_from_head[2, 3] <= 0:
        raise InputError("The pose found puts the head behind the camera. Check the camera's intrinsics.")
    return HeadPose(camera_from_head, float((error < tolerance).mean()))


def ransac_pose(points: Array, pixels: Array, intrinsics: Array, tolerance_px: float) -> tuple[Array, Array, Array] | None:
    """The rotation vector and translation (3, 1) that take the most of `points` (N, 3) to their `pixels` (N, 2), and their indices; None
    where there is no such pose. Always the same for the same points."""
    for solver in (cv2.SOLVEPNP_SQPNP, cv2.SOLVEPNP_EPNP):
        cv2.setRNGSeed(_SEED)
        with contextlib.suppress(cv2.error):  # the first refuses heads that span less than a degree, of long lenses
            solved, turn, shift, inliers = cv2.solvePnPRansac(
                points, pixels, intrinsics, None, iterationsCount=300, reprojectionError=tolerance_px, flags=solver
            )
            return (turn, shift, np.asarray(inliers, np.int64)[:, 0]) if solved and inliers is not None else None
    return None


def _drawn(coordinates: Array, usable: Array, most: int) -> tuple[Array, Array]:
    """Points (N, 3) and the pixels (N, 2) that show them, at most so many, evenly."""
    rows, columns = np.nonzero(usable)
    picked = np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)
    rows, columns = rows[picked], columns[picked]
    return coordinates[rows, columns].astype(np.float64), np.stack([columns + 0.5, rows + 0.5], axis=1)


def _refined(points: Array, pixels: Array, intrinsics: Array, turn: Array, shift: Array) -> tuple[Array, Array]:
    """Rotation vector and translation (3, 1) after Gauss-Newton steps, weights by Geman and McClure; errors at the head's distance."""
    for _ in range(_STEPS):
        projected, by = cv2.projectPoints(points, turn, shift, intrinsics, None)
        depth = (points @ cv2.Rodrigues(turn)[0][2] + shift[2, 0]) / intrinsics[0, 0]
        off = (projected[:, 0] - pixels) * depth[:, None]
        root = np.repeat(1 / (1 + (off**2).sum(1) / _WIDTH**2), 2)
        step = np.linalg.lstsq(by[:, :6] * (np.repeat(depth, 2) * root)[:, None], off.ravel() * root, rcond=None)[0]
        turn, shift = turn - step[:3, None], shift - step[3:, None]
    return turn, shift


def _error_px(points: Array, pixels: Array, intrinsics: Array, turn: Array, shift: Array) -> Array:
    """Reprojection errors (N,)."""
    return np.linalg.norm(cv2.projectPoints(points, turn, shift, intrinsics, None)[0][:, 0] - pixels, axis=1)


def _hinted(
    points: Array, pixels: Array, intrinsics: Array, tolerance: float, yaw_deg: float, found: tuple[Array, Array] | None
) -> tuple[Array, Array]:
    """Rotation vector and translation (3, 1) with the highest posterior, looked for from the stated yaw and from what was `found`."""
    picked = np.linspace(0, len(points) - 1, min(len(points), _HINTED_PIXELS)).astype(int)
    points, pixels = points[picked], pixels[picked]
    weight = np.sqrt(_OBSERVATIONS / len(points))
    facing = np.diag([1.0, -1.0, -1.0])  # of the head frame in a camera straight before the face
    stated = Rotation.from_matrix(facing @ Rotation.from_euler("Y", -yaw_deg, degrees=True).as_matrix())

    def residuals(p: Array) -> Array:
        projected = cv2.projectPoints(points, p[:3], p[3:], intrinsics, None)[0][:, 0]
        away = (stated * Rotation.from_rotvec(p[:3]).inv()).as_rotvec(degrees=True) / _STATED_DEG
        return np.append(cauchy_residuals((projected - pixels) / tolerance) * weight, cauchy_residuals(away[None]))

    starts = [_from_rotation(points, pixels, intrinsics, stated)]
    if found is not None:
        starts.append(np.concatenate([found[0][:, 0], found[1][:, 0]]))
    best = min((least_squares(residuals, start, max_nfev=40) for start in starts), key=lambda solved: solved.cost)
    return best.x[:3, None], best.x[3:, None]


def _from_rotation(points: Array, pixels: Array, intrinsics: Array, turn: Rotation) -> Array:
    """A pose (rotation vector, translation) with a rotation, in which the points would be about as large as they are seen."""
    turned = turn.apply(points)
    depth = intrinsics[0, 0] * np.sqrt(turned[:, :2].var(0).sum() / max(pixels.var(0).sum(), 1e-12))
    middle = np.linalg.inv(intrinsics) @ np.append(np.median(pixels, axis=0), 1.0) * depth
    return np.concatenate([turn.as_rotvec(), middle - np.median(turned, axis=0)])


def cauchy_residuals(off: Array) -> Array:
    """Errors (N, D), flat, so long that their squares add up to Cauchy's loss of their lengths: large ones count little."""
    length = np.maximum(np.linalg.norm(off, axis=1, keepdims=True), 1e-9)
    return (off / length * np.sqrt(np.log1p(length**2))).ravel()

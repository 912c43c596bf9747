"""The head's pose against the camera from predicted head-frame coordinates: robust perspective-n-point."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from avatar_kit.types import Array, InputError

_FEWEST = 50  # pixels on the head
_MOST = 3000  # pixels used, evenly drawn
SKULL = -0.4  # y in the head frame, units: below, neck and clothes do not move with the head
_INLIER = 0.05  # units (10 mm): reprojection error at the head's distance that still counts as right
_SEED = 0


@dataclass(frozen=True, eq=False)
class HeadPose:
    """Where a head is.

    Attributes:
        camera_from_head: (4, 4) rigid, in units of 200 mm.
        inlier_share: of the pixels, those whose coordinates agree with the pose within 10 mm.
        residual_px: median reprojection error of the inliers.
    """

    camera_from_head: Array
    inlier_share: float
    residual_px: float


def head_pose(coordinates: Array, foreground: Array, intrinsics: Array, *, confidence: Array | None = None) -> HeadPose:
    """The rigid motion that explains coordinates (H, W, 3) in the head frame, seen by a camera with `intrinsics` (3, 3).

    Args:
        foreground: (H, W) bool.
        confidence: (H, W); the less certain half is left out.

    Raises:
        InputError: too few pixels, or no pose that explains them.
    """
    usable = foreground & np.isfinite(coordinates).all(-1) & (coordinates[..., 1] > SKULL)
    if confidence is not None and usable.any():
        usable = usable & (confidence >= np.median(confidence[usable]))
    rows, columns = np.nonzero(usable)
    if len(rows) < _FEWEST:
        raise InputError(f"{len(rows)} pixels show the head; at least {_FEWEST} are needed for its pose. Give a larger photo of it.")
    picked = np.linspace(0, len(rows) - 1, min(len(rows), _MOST)).astype(int)
    rows, columns = rows[picked], columns[picked]
    points = coordinates[rows, columns].astype(np.float64)
    pixels = np.stack([columns + 0.5, rows + 0.5], axis=1)
    spread = np.sqrt(pixels.var(0).sum() / max(points.var(0).sum() * 2 / 3, 1e-12))  # pixels per unit, roughly
    tolerance = max(_INLIER * float(spread), 0.5)
    cv2.setRNGSeed(_SEED)
    intrinsics = np.asarray(intrinsics, np.float64)
    found, turn, shift, inliers = cv2.solvePnPRansac(
        points, pixels, intrinsics, None, iterationsCount=300, reprojectionError=tolerance, flags=cv2.SOLVEPNP_SQPNP,
    )  # fmt: skip
    if not found or inliers is None or len(inliers) < _FEWEST:
        raise InputError("No pose explains the predicted coordinates of the head. Check the camera's intrinsics and the photo.")
    agreeing = np.asarray(inliers, np.int64)[:, 0]
    turn, shift = cv2.solvePnPRefineLM(points[agreeing], pixels[agreeing], intrinsics, None, turn, shift)
    projected = cv2.projectPoints(points, turn, shift, intrinsics, None)[0][:, 0]
    error = np.linalg.norm(projected - pixels, axis=1)
    camera_from_head = np.eye(4)
    camera_from_head[:3, :3] = cv2.Rodrigues(turn)[0]
    camera_from_head[:3, 3] = shift[:, 0]
    if camera_from_head[2, 3] <= 0:
        raise InputError("The pose found puts the head behind the camera. Check the camera's intrinsics.")
    right = error < tolerance
    return HeadPose(camera_from_head, float(right.mean()), float(np.median(error[right])) if right.any() else float("inf"))

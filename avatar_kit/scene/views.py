"""Which photos to use: the scene's own choice for N views, or those nearest the paper's layout."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from avatar_kit.conventions import transform_points
from avatar_kit.scene.h3ds import H3dsFolder
from avatar_kit.types import Array, InputError, Scene

# yaw and pitch, degrees: frontal, +-45, +-90 and a frontal one from a lower pitch (section 4.4); two are its three without one side
PAPER_LAYOUT = {
    1: [(0, 0)],
    2: [(0, 0), (45, 0)],
    3: [(0, 0), (45, 0), (-45, 0)],
    6: [(0, 0), (0, -20), (45, 0), (-45, 0), (90, 0), (-90, 0)],
}

_VIEWS = 3
_ALL_AROUND = 0.4  # mean of the cameras' directions: those that see a face from -90 to 90 degrees have 0.64, all around 0


def choose_views(folder: H3dsFolder, count: int) -> list[int]:
    """Numbers of `count` photos of a scene.

    Raises:
        InputError: the scene has fewer photos, or names views it does not have.
    """
    available = folder.view_ids
    if count < 1 or count > len(available):
        raise InputError(
            f"{folder.path}: found {len(available)} photos, --views asked for {count}. Use --views 1 to {len(available)} or add photos."
        )
    stated = folder.view_configs.get(str(count))
    if stated is not None:
        missing = [view for view in stated if view not in available]
        if missing:
            raise InputError(f"{folder.path}/views.json: view_configs names views {missing}, which have no photo.")
        return list(stated)
    if count == len(available):
        return available
    yaw_pitch = _camera_angles(folder)
    return [available[row] for row in nearest_to_layout(yaw_pitch, count)]


def nearest_to_layout(yaw_pitch_deg: Array, count: int) -> list[int]:
    """Rows of (N, 2) camera angles that come nearest to the paper's layout of `count` views, in its order."""
    wanted = np.array(PAPER_LAYOUT.get(count) or [(yaw, 0) for yaw in _spread(count)], float)
    cost = np.linalg.norm((yaw_pitch_deg[None] - wanted[:, None] + 180) % 360 - 180, axis=-1)
    rows, columns = linear_sum_assignment(cost)
    return columns[np.argsort(rows)].tolist()


def _spread(count: int) -> Array:
    return np.linspace(-90, 90, count)


def _camera_angles(folder: H3dsFolder) -> Array:
    """Yaw and pitch (N, 2) in degrees of all cameras around the head, if views.json says where it is and looks to; otherwise around
    the cameras' common target, yaw 0 in their middle."""
    cameras = [folder.camera(view, 1, 1) for view in folder.view_ids]
    centres = np.array([camera.centre for camera in cameras])
    head_from_world = folder.notes.get("head_from_world")
    if head_from_world is not None:
        outward = transform_points(head_from_world, centres)
        return _yaw_pitch(outward / np.linalg.norm(outward, axis=1, keepdims=True))
    up = -np.mean([camera.world_from_camera[:3, 1] for camera in cameras], axis=0)
    up /= np.linalg.norm(up)
    axes = np.array([camera.world_from_camera[:3, 2] for camera in cameras])
    projectors = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    target = np.linalg.pinv(projectors.sum(0)) @ (projectors @ centres[:, :, None]).sum(0)[:, 0]
    outward = centres - target
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    forward = outward.mean(0) - up * (outward.mean(0) @ up)
    if np.linalg.norm(forward) < _ALL_AROUND:
        warnings.warn(
            f"{folder.path}: cameras all around, and nothing says which of them see the face. Choose them by --view-ids, or state "
            "head_from_world in views.json, as `avatar-kit data convert` does.",
            stacklevel=3,
        )
    forward /= max(float(np.linalg.norm(forward)), 1e-9)
    return _yaw_pitch(outward @ np.stack([np.cross(up, forward), up, forward], axis=1))


def _yaw_pitch(outward: Array) -> Array:
    """Degrees (N, 2), of unit directions (N, 3) with x to the subject's left, y up, z forward."""
    yaw = np.arctan2(outward[:, 0], outward[:, 2])
    return np.degrees(np.stack([yaw, np.arcsin(np.clip(outward[:, 1], -1, 1))], axis=1))


def load_scene(path: Path | str, *, views: int | None = None, view_ids: Sequence[int] | None = None) -> Scene:
    """Read photos of a scene folder.

    Args:
        views: how many; by default three, or all where there are fewer.
        view_ids: exactly these instead.

    Raises:
        InputError: anything missing or wrong in the folder.
    """
    folder = H3dsFolder(Path(path))
    if view_ids is None:
        view_ids = choose_views(folder, min(_VIEWS, len(folder.view_ids)) if views is None else views)
    return folder.scene(list(view_ids))

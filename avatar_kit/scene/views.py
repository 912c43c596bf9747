"""Which photos to use: the scene's own choice for N views, or those nearest the paper's layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from avatar_kit.scene.h3ds import H3dsFolder
from avatar_kit.types import Array, InputError, Scene

# yaw and pitch, degrees: frontal, +-45, +-90 and a frontal one from a lower pitch (section 4.4); two are its three without one side
PAPER_LAYOUT = {
    1: [(0, 0)],
    2: [(0, 0), (45, 0)],
    3: [(0, 0), (45, 0), (-45, 0)],
    6: [(0, 0), (0, -20), (45, 0), (-45, 0), (90, 0), (-90, 0)],
}


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
    """Yaw and pitch (N, 2) in degrees of all cameras around their common target, yaw 0 in their middle."""
    cameras = [folder.camera(view, 1, 1) for view in folder.view_ids]
    centres = np.array([camera.centre for camera in cameras])
    up = -np.mean([camera.world_from_camera[:3, 1] for camera in cameras], axis=0)
    up /= np.linalg.norm(up)
    axes = np.array([camera.world_from_camera[:3, 2] for camera in cameras])
    projectors = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    target = np.linalg.pinv(projectors.sum(0)) @ (projectors @ centres[:, :, None]).sum(0)[:, 0]
    outward = centres - target
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    forward = outward.mean(0) - up * (outward.mean(0) @ up)
    forward /= max(float(np.linalg.norm(forward)), 1e-9)
    left = np.cross(up, forward)
    yaw = np.degrees(np.arctan2(outward @ left, outward @ forward))
    return np.stack([yaw, np.degrees(np.arcsin(np.clip(outward @ up, -1, 1)))], axis=1)


def load_scene(path: Path | str, *, views: int = 3, view_ids: Sequence[int] | None = None) -> Scene:
    """Read `views` photos of a scene folder, or exactly those of `view_ids`.

    Raises:
        InputError: anything missing or wrong in the folder.
    """
    folder = H3dsFolder(Path(path))
    return folder.scene(list(view_ids) if view_ids is not None else choose_views(folder, views))

"""How a head stands in a crop, by the coordinates that the network gives its pixels, and which pixels have no part in it.

What is no head gets coordinates too, but hardly any that agree: this tells heads from chandeliers, and a person from a flag beside them.
"""

from __future__ import annotations

import numpy as np

from avatar_kit.conventions import MM_PER_UNIT
from avatar_kit.normals.crop import NECK, Crop
from avatar_kit.normals.network import NormalMaps
from avatar_kit.normals.pose import HeadPose, head_pose
from avatar_kit.normals.ray_frame import assumed_intrinsics
from avatar_kit.types import Array, Camera, InputError

# Of what is clearly a head: the share of pixels that agree with its pose, and the mean logarithm of their concentration (20 degrees of
# expected error). Heads from all sides have 0.97 and 2.0 or more; chandeliers and suits one or the other, seldom both.
_CLEAR, _CLEAR_LOG = 0.9, 1.75
_OFF_MM = 80.0, 200.0  # beside the head, and below its neck: shoulders move on their own, and are known less well


def standing(maps: NormalMaps, row: int, crop: Crop, shape: tuple[int, ...]) -> HeadPose:
    """The pose of the head in a crop, through a camera as phones have it.

    Args:
        maps: of crops; `row` is this one's.
        shape: of the photo, (H, W).

    Raises:
        InputError: too few pixels, or none that agree.
    """
    sure, subject = maps.log_concentration[row].numpy(), maps.foreground[row].numpy() > 0
    return head_pose(_coordinates(maps, row), subject, crop.intrinsics(assumed_intrinsics(*shape), len(sure)), confidence=sure)


def is_clear(maps: NormalMaps, row: int, crop: Crop, shape: tuple[int, ...]) -> bool:
    """Whether the network is sure of what a crop shows, and its pixels agree on how a head stands there. Arguments as of `standing`."""
    subject = maps.foreground[row] > 0
    if not subject.any() or maps.log_concentration[row][subject].mean() < _CLEAR_LOG:
        return False
    try:
        return standing(maps, row, crop, shape).inlier_share > _CLEAR
    except InputError:
        return False


def share_of_head(maps: NormalMaps, row: int, crop: Crop, shape: tuple[int, ...], pose: HeadPose) -> Array:
    """How far each pixel of a crop goes with the head in a pose, (S, S) in [0, 1], by the distance of its coordinates from where it sees
    them. Arguments as of `standing`."""
    coordinates = _coordinates(maps, row)
    size = len(coordinates)
    camera = Camera(crop.intrinsics(assumed_intrinsics(*shape), size), np.linalg.inv(pose.camera_from_head), size, size)
    there, depth = camera.project(coordinates.astype(np.float64))
    pixels = camera.pixel_grid()
    off_mm = np.linalg.norm(there - pixels, axis=-1) * np.abs(depth) / camera.intrinsics[0, 0] * MM_PER_UNIT
    return 1 / (1 + (off_mm / np.where(pixels[..., 1] < neck_row(camera), *_OFF_MM)) ** 4)


def torso_between(probability: Array, pose: HeadPose) -> Array:
    """Where the body of an upright photo should be, (H, W) bool: in each row below the neck, from the first to the last pixel that is
    likely on the subject. Suits, ties and badges that the network takes for what is behind a person lie between.

    Args:
        probability: of the subject, (H, W), of the whole photo that the pose is of.
    """
    height, width = probability.shape
    likely = probability > 0.5
    first, last = (np.maximum.accumulate(likely[:, ::way], axis=1)[:, ::way] for way in (1, -1))
    camera = Camera(assumed_intrinsics(height, width), np.linalg.inv(pose.camera_from_head), width, height)
    return first & last & (np.arange(height)[:, None] > neck_row(camera))


def neck_row(camera: Camera, *, unit: float = 1.0) -> float:
    """The row (px) of the neck of a head whose frame is the camera's world; below all rows if the photo is upside down.

    Args:
        unit: of the head frame, in the camera's world.
    """
    centre, neck = (float(camera.project(np.array([0.0, y * unit, 0.0]))[0][1]) for y in (0.0, NECK))
    return neck if neck > centre else np.inf


def _coordinates(maps: NormalMaps, row: int) -> Array:
    return maps.coordinates[row].permute(1, 2, 0).numpy()

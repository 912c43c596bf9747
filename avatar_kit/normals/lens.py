"""The camera of a pair: where it stands, how wide it sees, and the square crop around the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatar_kit.conventions import MM_PER_UNIT
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.types import Array, Camera

_NEAREST, _FARTHEST = 350.0 / MM_PER_UNIT, 3000.0 / MM_PER_UNIT  # phone at arm's length to portrait lens


@dataclass(frozen=True)
class Pose:
    """What was drawn for a camera: degrees, and the distance in units of the head frame."""

    yaw_deg: float
    pitch_deg: float
    roll_deg: float
    distance: float


def draw_pose(rng: np.random.Generator) -> Pose:
    """Yaw even over +-90 degrees with a few to +-110, pitch mostly within 30, roll within 20."""
    reach = 110.0 if rng.random() < 0.15 else 90.0
    yaw = rng.uniform(-reach, reach) if rng.random() < 0.8 else rng.normal(0, 25)
    pitch = rng.uniform(-30, 30) if rng.random() < 0.6 else rng.normal(0, 10)
    roll = rng.uniform(-20, 20) if rng.random() < 0.5 else rng.normal(0, 5)
    distance = float(np.exp(rng.uniform(np.log(_NEAREST), np.log(_FARTHEST))))
    return Pose(float(yaw), float(np.clip(pitch, -35, 35)), float(np.clip(roll, -20, 20)), distance)


def head_points(body: Array, hair: Array | None, chin: Array) -> Array:
    """The points (N, 3) that a detector would frame: from just below the chin up, hair on the head included."""
    kept = [body[(body[:, 1] > chin[1] - 0.06) & (np.abs(body[:, 0]) < 0.6)]]
    if hair is not None:
        above = hair[(hair[:, 1] > max(chin[1], -0.3)) & (np.abs(hair[:, 0]) < 0.75)]
        kept.append(above[:: max(1, len(above) // 3000)])
    return np.concatenate(kept)


def crop_camera(pose: Pose, framed: Array, *, size: int, rng: np.random.Generator) -> Camera:
    """A camera whose image is a square crop, `size` pixels wide, around the `framed` points (N, 3).

    The optical axis need not go through the head, as in a photo with the head off the middle, so the crop's principal
    point lies anywhere, often outside the crop.
    """
    centre = framed.mean(0)
    aside = rng.normal(0, 0.09 * pose.distance, 3) * (rng.random() < 0.8)
    camera = orbit_camera(
        yaw_deg=pose.yaw_deg, pitch_deg=pose.pitch_deg, distance=pose.distance, roll_deg=pose.roll_deg,
        target=centre, focal_px=1.0, size=size,
    )  # fmt: skip
    world_from_camera = camera.world_from_camera.copy()
    world_from_camera[:3, :3] = _turn_towards(world_from_camera, centre + aside)
    seen, _ = Camera(np.eye(3), world_from_camera, size, size).project(framed)
    low, high = seen.min(0), seen.max(0)
    extent = (high - low).max() if rng.random() < 0.5 else high[1] - low[1]
    focal = size * rng.uniform(0.40, 0.95) / extent
    jitter = rng.normal(0, 0.08, 2) if rng.random() < 0.85 else rng.normal(0, 0.2, 2)
    principal = size * (0.5 + np.clip(jitter, -0.4, 0.4)) - focal * (low + high) / 2
    intrinsics = np.array([[focal, 0, principal[0]], [0, focal, principal[1]], [0, 0, 1.0]])
    return Camera(intrinsics, world_from_camera, size, size)


def _turn_towards(world_from_camera: Array, target: Array) -> Array:
    """The camera's axes (3, 3), turned by the least rotation that puts `target` on the optical axis."""
    axes = world_from_camera[:3, :3]
    old, new = axes[:, 2], target - world_from_camera[:3, 3]
    new = new / np.linalg.norm(new)
    v, c = np.cross(old, new), float(old @ new)
    k = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return (np.eye(3) + k + k @ k / (1.0 + c)) @ axes

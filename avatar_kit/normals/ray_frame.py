"""Normals against each pixel's own ray, which is what a crop of a photo shows of them.

A head off the optical axis looks almost like one on it that is turned, and a crop does not tell how far off it lies: in
the camera frame its normals would be ambiguous by that angle. Against the ray they are not, whatever the crop and the
focal length, and where the surface bends out of sight they are at right angles to it. So the network learns and predicts
normals in the ray frame (ray directions are given to a network for the same reason by Bae and Davison, "Rethinking
inductive biases for surface normal estimation", CVPR 2024); the intrinsics take them to the camera frame.

The ray frame is the camera frame after the least rotation that takes its z axis to the ray. Turning a photo, mirroring
and cropping it keep that relation.
"""

from __future__ import annotations

import numpy as np

from avatar_kit.types import Array

_FOCAL_PER_SIDE = 1.0  # of a photo that does not state its focal length: 53 degrees along the longer side, as of a phone


def assumed_intrinsics(height: int, width: int) -> Array:
    """Intrinsics (3, 3) of a photo without any: its middle is the principal point, its longer side the focal length."""
    focal = _FOCAL_PER_SIDE * max(height, width)
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])


def pixel_rays(intrinsics: Array, height: int, width: int) -> Array:
    """Unit directions (H, W, 3) float32 in the camera frame through the middles of all pixels."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.stack([x, y, np.ones_like(x)], axis=-1) @ np.linalg.inv(intrinsics).T
    return (rays / np.linalg.norm(rays, axis=-1, keepdims=True)).astype(np.float32)


def to_ray_frame(normals: Array, rays: Array) -> Array:
    """Vectors (..., 3) of the camera frame in the frames of unit `rays` (..., 3); n . ray becomes their z."""
    return _turned(normals, rays * np.array([-1, -1, 1], np.float32))


def to_camera_frame(normals: Array, rays: Array) -> Array:
    """The way back from `to_ray_frame`."""
    return _turned(normals, rays)


def _turned(vectors: Array, onto: Array) -> Array:
    """Vectors turned by the least rotation that takes (0, 0, 1) to `onto` (Rodrigues' formula)."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    a, b, c = np.moveaxis(onto, -1, 0)
    # cross((0, 0, 1), onto) = (-b, a, 0) is the axis, times the sine
    along = (a * x + b * y) / (1 + c)
    return np.stack([x + a * (z - along), y + b * (z - along), c * z - a * x - b * y], axis=-1)

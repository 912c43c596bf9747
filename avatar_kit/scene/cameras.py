"""Cameras: from and to the IDR file, placed around a head, and checked."""

from __future__ import annotations

import numpy as np

from avatar_kit.types import Array, Camera


def decompose_projection(projection: Array) -> tuple[Array, Array]:
    """Intrinsics (3, 3) and camera_from_world (4, 4) of a projection K [R | t] (3, 4), up to scale.

    Raises:
        ValueError: not finite, singular, or mirrored (no rotation fits).
    """
    if not np.isfinite(projection).all():
        raise ValueError("holds NaN or infinite values")
    m = projection[:, :3]
    determinant = np.linalg.det(m)
    if abs(determinant) < 1e-12 * max(np.abs(m).max(), 1e-300) ** 3:
        raise ValueError("is singular")
    # RQ decomposition by QR of the reversed transpose; K with a positive diagonal
    q, r = np.linalg.qr(np.flipud(m).T)
    k, rotation = np.flipud(r.T)[:, ::-1], np.flipud(q.T)
    signs = np.sign(np.diag(k))
    k, rotation = k * signs, signs[:, None] * rotation
    if np.linalg.det(rotation) < 0:
        raise ValueError("is mirrored: its rotation has determinant -1")
    camera_from_world = np.eye(4)
    camera_from_world[:3, :3] = rotation
    camera_from_world[:3, 3] = np.linalg.solve(k, projection[:, 3])
    return k / k[2, 2], camera_from_world


def projection_matrix(camera: Camera) -> Array:
    """IDR's 4 x 4 ``world_mat``: K [R | t] with the row (0, 0, 0, 1)."""
    matrix = np.eye(4)
    matrix[:3] = camera.intrinsics @ camera.camera_from_world[:3]
    return matrix


def resized(camera: Camera, width: int, height: int) -> Camera:
    """The camera of the same photo at another size."""
    scale = np.diag([width / camera.width, height / camera.height, 1.0])
    return Camera(scale @ camera.intrinsics, camera.world_from_camera, width, height)


def turned(camera: Camera, quarter_turns: int) -> Camera:
    """The camera of the same photo turned clockwise, by quarter turns."""
    for _ in range(quarter_turns % 4):
        turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # x right becomes y down
        new_from_old_px = turn.copy()
        new_from_old_px[0, 2] = camera.height
        world_from_camera = camera.world_from_camera.copy()
        world_from_camera[:3, :3] = world_from_camera[:3, :3] @ turn.T
        camera = Camera(new_from_old_px @ camera.intrinsics @ turn.T, world_from_camera, camera.height, camera.width)
    return camera


def orbit_camera(
    *, yaw_deg: float, pitch_deg: float, distance: float, target: Array, focal_px: float, size: int, roll_deg: float = 0.0
) -> Camera:
    """A square camera that looks at `target` of a frame like the head's (+y up, face towards +z).

    Args:
        yaw_deg: 0 in front of the face, positive towards the subject's left (+x).
        pitch_deg: positive from above.
        distance: of the centre of projection from `target`, in the frame's unit.
    """
    yaw, pitch = np.radians(yaw_deg), np.radians(pitch_deg)
    outward = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    right = np.cross([0.0, 1.0, 0.0], outward)
    right /= np.linalg.norm(right)
    down = np.cross(-outward, right)
    roll = np.radians(roll_deg)
    axes = np.stack([np.cos(roll) * right + np.sin(roll) * down, np.cos(roll) * down - np.sin(roll) * right, -outward], axis=1)
    world_from_camera = np.eye(4)
    world_from_camera[:3, :3] = axes
    world_from_camera[:3, 3] = np.asarray(target) + distance * outward
    intrinsics = np.array([[focal_px, 0, size / 2], [0, focal_px, size / 2], [0, 0, 1.0]])
    return Camera(intrinsics, world_from_camera, size, size)

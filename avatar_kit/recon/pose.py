"""The head's pose as seven parameters around a starting similarity, and the cameras' as six each around where they are stated."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from avatar_kit.recon.rays import Rays
from avatar_kit.types import Array


class HeadPose(nn.Module):
    """head_from_world = delta @ start, with delta a small similarity of the head frame.

    Parameters: `rotation` (3,), a rotation vector in radians; `translation` (3,), units; `log_scale` (). Where cameras are
    not quite right, the rays of photo i go through a rigid motion of the head frame more, camera_i, whose parameters are
    `camera_rotations` (P, 3) and `camera_translations` (P, 3).

    Args:
        start: (4, 4).
        cameras: what camera_i start from, (P, 4, 4); None where the cameras are to be believed.
    """

    def __init__(self, start: Array, device: torch.device, cameras: Array | None = None) -> None:
        super().__init__()
        self.start: Tensor
        self.register_buffer("start", torch.tensor(start, dtype=torch.float32, device=device))
        self.rotation = nn.Parameter(torch.zeros(3, device=device))
        self.translation = nn.Parameter(torch.zeros(3, device=device))
        self.log_scale = nn.Parameter(torch.zeros((), device=device))
        self.camera_start: Tensor | None
        self.register_buffer("camera_start", None if cameras is None else torch.tensor(cameras, dtype=torch.float32, device=device))
        if cameras is not None:
            self.camera_rotations = nn.Parameter(torch.zeros(len(cameras), 3, device=device))
            self.camera_translations = nn.Parameter(torch.zeros(len(cameras), 3, device=device))

    def delta(self) -> tuple[Tensor, Tensor]:
        """Linear part (3, 3), scale included, and translation (3,) of delta."""
        return _rotation(self.rotation) * self.log_scale.exp(), self.translation

    def cameras(self) -> tuple[Tensor, Tensor] | None:
        """Rotations (P, 3, 3) and translations (P, 3) of the cameras' motions, or None."""
        if self.camera_start is None:
            return None
        turn = _rotation(self.camera_rotations)
        shift = (turn @ self.camera_start[:, :3, 3:])[..., 0] + self.camera_translations
        return turn @ self.camera_start[:, :3, :3], shift

    def matrix(self) -> Array:
        """head_from_world now, 4 x 4, without the cameras' motions."""
        return _matrix(*self.delta()) @ self.start.double().cpu().numpy()

    def camera_matrices(self) -> Array | None:
        """The cameras' motions, (P, 4, 4), or None."""
        found = self.cameras()
        return None if found is None else np.stack([_matrix(turn, shift) for turn, shift in zip(*found, strict=True)])

    def rays(self, rays: Rays) -> tuple[Tensor, Tensor, Tensor]:
        """Origins, directions and unit normals (N, 3) of world rays in the head frame; directions stay of unit length."""
        linear, shift = self._head_from_world()
        rotation = linear / torch.linalg.det(linear).abs().pow(1.0 / 3.0)
        origins, directions, normals = rays.origins @ linear.T + shift, rays.directions @ rotation.T, rays.normals @ rotation.T
        moved = self.cameras()
        if moved is None:
            return origins, directions, normals
        turn, shift = moved[0][rays.photo], moved[1][rays.photo]
        return _turned(turn, origins) + shift, _turned(turn, directions), _turned(turn, normals)

    def projections(self, intrinsics: Tensor, camera_from_world: Tensor) -> Tensor:
        """Head frame (units) to homogeneous pixels of each photo, (P, 3, 4), from K (P, 3, 3) and camera_from_world (P, 4, 4)."""
        linear, shift = self._head_from_world()
        moved = self.cameras()
        if moved is not None:
            linear, shift = moved[0] @ linear, _turned(moved[0], shift) + moved[1]
        turn = intrinsics @ camera_from_world[:, :3, :3] @ torch.linalg.inv(linear)
        offset = _turned(intrinsics, camera_from_world[:, :3, 3]) - _turned(turn, shift)
        return torch.cat([turn, offset[..., None]], dim=-1)

    def _head_from_world(self) -> tuple[Tensor, Tensor]:
        """Linear part (3, 3), scale included, and translation (3,), without the cameras' motions."""
        delta, translation = self.delta()
        return delta @ self.start[:3, :3], delta @ self.start[:3, 3] + translation


def _rotation(vector: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3)."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1)
    return torch.linalg.matrix_exp(skew.reshape(*vector.shape[:-1], 3, 3))


def _turned(rotation: Tensor, vectors: Tensor) -> Tensor:
    return (rotation @ vectors[..., None])[..., 0]


def _matrix(linear: Tensor, translation: Tensor) -> Array:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear.detach().double().cpu().numpy(), translation.detach().double().cpu().numpy()
    return matrix

"""The head's pose as seven parameters around a starting similarity."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from avatar_kit.types import Array


class HeadPose(nn.Module):
    """head_from_world = delta @ start, with delta a small similarity of the head frame.

    Parameters: `rotation` (3,), a rotation vector in radians; `translation` (3,), units; `log_scale` ().
    """

    def __init__(self, start: Array, device: torch.device) -> None:
        super().__init__()
        self.start: Tensor
        self.register_buffer("start", torch.tensor(start, dtype=torch.float32, device=device))
        self.rotation = nn.Parameter(torch.zeros(3, device=device))
        self.translation = nn.Parameter(torch.zeros(3, device=device))
        self.log_scale = nn.Parameter(torch.zeros((), device=device))

    def delta(self) -> tuple[Tensor, Tensor]:
        """Linear part (3, 3), scale included, and translation (3,) of delta."""
        x, y, z = self.rotation.unbind()
        zero = torch.zeros_like(x)
        skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
        return torch.linalg.matrix_exp(skew) * self.log_scale.exp(), self.translation

    def matrix(self) -> Array:
        """head_from_world now, 4 x 4."""
        linear, translation = (part.detach().double().cpu().numpy() for part in self.delta())
        delta = np.eye(4)
        delta[:3, :3], delta[:3, 3] = linear, translation
        return delta @ self.start.double().cpu().numpy()

    def rays(self, origins: Tensor, directions: Tensor, normals: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """World rays and unit normals (N, 3) in the head frame; directions and normals stay of unit length."""
        delta, translation = self.delta()
        linear = delta @ self.start[:3, :3]
        shift = delta @ self.start[:3, 3] + translation
        rotation = linear / torch.linalg.det(linear).abs().pow(1.0 / 3.0)
        return origins @ linear.T + shift, directions @ rotation.T, normals @ rotation.T

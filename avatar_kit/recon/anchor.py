"""What keeps a face where the start found it: outlines before it that are not its own, and a pose that runs away.

A hood, seen from the side, stands out before the face. Its outline would pull the nearest surface there is, nose and forehead,
into it step by step; normals resist little, since a face that is further forward has nearly the same. The start weighs all
of the head against one another and is right within a few millimetres, so the upper face follows outlines that far and no
further. The chin is left out: beards grow from it. Hair, hats and clothes elsewhere are grown to as before.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avatar_kit.recon.pose import HeadPose

_MIDDLE, _RADIUS = (0.0, 0.15, 0.55), 0.42  # of the upper face, head frame, units
_STANDS_OUT = 0.01  # units: outlines further than this before the start's face are another thing's
_POSE_REACH = 0.015  # units: how far the face may be moved by the pose for nothing; usual heads move by 0.003 to 0.011
_POSE_STIFFNESS = 1000.0  # of the square of what is beyond


class FaceAnchor:
    """The face of the start.

    Args:
        sdf: distances of the starting surface at the nodes of a grid over the box, (n, n, n), units; kept as they are now.
    """

    def __init__(self, sdf: Tensor) -> None:
        self._sdf = sdf.detach().clone()[None, None]
        self._middle = torch.tensor(_MIDDLE, device=sdf.device)

    def has_before_it(self, points: Tensor) -> Tensor:
        """Which `points` (N, 3), head frame, lie before the upper face, further than its outline can be off; (N,) bool."""
        points = points.detach()
        away = torch.nn.functional.grid_sample(self._sdf, points.flip(-1)[None, None, None], align_corners=True).flatten()
        return (away > _STANDS_OUT) & ((points - self._middle).norm(dim=-1) < _RADIUS)

    def pose_loss(self, pose: HeadPose) -> Tensor:
        """Zero while the face is about where the start put it, a scalar."""
        linear, shift = pose.delta()
        moved = (linear @ self._middle + shift - self._middle).norm()
        return _POSE_STIFFNESS * torch.relu(moved - _POSE_REACH).square()

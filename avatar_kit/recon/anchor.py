"""What keeps a face where the start found it: outlines before it that are not its own, lips that open, and a pose that runs away.

A hood, seen from the side, stands out before the face. Its outline would pull the nearest surface there is, nose and forehead,
into it step by step; normals resist little, since a face that is further forward has nearly the same. The start weighs all
of the head against one another and is right within a few millimetres, so the upper face follows outlines that far and no
further. The chin is left out: beards grow from it. Hair, hats and clothes elsewhere are grown to as before.

Lips are thin in the prior, and a step can open them. Rays then end on a surface inside the head, which normals mould as readily: all
surfaces that are parallel have the same. So rays that end behind the lips pull them shut where they were. Lips that move do so little
by little, and are followed; those that open leave a surface behind that is millimetres further in at once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avatar_kit.kernels.ray_search import Crossings, search_grid
from avatar_kit.recon.pose import HeadPose

_MIDDLE, _RADIUS = (0.0, 0.15, 0.55), 0.42  # of the upper face, head frame, units
_STANDS_OUT = 0.01  # units: outlines further than this before the start's face are another thing's
_MOUTH, _LIPS = (0.0, -0.17, 0.53), 0.2  # where lips are, head frame, units
_BEHIND = 0.01  # units: rays that end further behind the lips went through them
_FOLLOWED = 0.002  # units: how far lips are taken to move between two looks at them
_SAMPLES = 64, 4  # of the search for lips, coarse and fine
_POSE_REACH = 0.015  # units: how far the face may be moved by the pose for nothing; usual heads move by 0.003 to 0.011
_POSE_STIFFNESS = 1000.0  # of the square of what is beyond


class FaceAnchor:
    """The face of the start.

    Args:
        sdf: distances of the starting surface at the nodes of a grid over the box, (n, n, n), units; kept as they are now.
    """

    def __init__(self, sdf: Tensor) -> None:
        self._sdf = sdf.detach().clone()
        self._lips = self._sdf.clone()
        self._middle, self._mouth = (torch.tensor(at, device=sdf.device) for at in (_MIDDLE, _MOUTH))

    def has_before_it(self, points: Tensor) -> Tensor:
        """Which `points` (N, 3), head frame, lie before the upper face, further than its outline can be off; (N,) bool."""
        points = points.detach()
        return (_at(self._sdf, points) > _STANDS_OUT) & ((points - self._middle).norm(dim=-1) < _RADIUS)

    @torch.no_grad()
    def through_lips(self, points: Tensor) -> Tensor:
        """Which `points` (N, 3) where rays end, head frame, lie behind the lips, (N,) bool."""
        return ((points - self._mouth).norm(dim=-1) < _LIPS) & (_at(self._lips, points) < -_BEHIND)

    @torch.no_grad()
    def with_closed_lips(self, crossings: Crossings, through: Tensor, origins: Tensor, directions: Tensor) -> Crossings:
        """Rays (N, 3), head frame, of which those numbered `through` (M,) now miss and are closest to the surface where lips were."""
        lips = search_grid(self._lips, origins[through], directions[through], coarse=_SAMPLES[0], fine=_SAMPLES[1])
        depth, closest, value = (part.clone() for part in crossings)
        depth[through], closest[through], value[through] = torch.inf, lips.depth, torch.where(lips.hit, 0.0, torch.inf)
        return Crossings(depth, closest, value)

    def follow(self, sdf: Tensor) -> None:
        """Look at the surface of now: its distances at the same nodes, (n, n, n), units."""
        self._lips += (sdf - self._lips).clamp(-_FOLLOWED, _FOLLOWED)

    def pose_loss(self, pose: HeadPose) -> Tensor:
        """Zero while the face is about where the start put it, a scalar."""
        linear, shift = pose.delta()
        moved = (linear @ self._middle + shift - self._middle).norm()
        return _POSE_STIFFNESS * torch.relu(moved - _POSE_REACH).square()


def _at(sdf: Tensor, points: Tensor) -> Tensor:
    """Distances (N,) at points (N, 3)."""
    return torch.nn.functional.grid_sample(sdf[None, None], points.flip(-1)[None, None, None], align_corners=True).flatten()

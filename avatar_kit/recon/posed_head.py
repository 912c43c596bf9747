"""A head of the prior in a pose, with derivatives by both: what the start's residuals are measured on.

The head has the latent g = mean + B w, with B B^T the covariance of the training latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from avatar_kit.field.head_field import Condition
from avatar_kit.prior.storage import HeadPrior
from avatar_kit.recon.pose import HeadPose
from avatar_kit.recon.rays import Rays
from avatar_kit.recon.surface import FieldCache, SurfaceHits, differentiable_hits
from avatar_kit.types import Array

POSE = 7  # translation (units), rotation vector (radians), log scale: a small similarity of the head frame


class Start(NamedTuple):
    """Where the fit begins.

    Attributes:
        head_from_world: similarity (4, 4).
        code: w (K,), in standard deviations of the training latents.
        log_scale: of the scale that was added to the rough pose's.
        cameras: rigid motion of the head frame for the rays of each photo, (P, 4, 4); None where cameras are not refined.
        shared: of the spots that two photos seem to share, the part that lies on both rays; None where cameras are not refined.
        spots: of `recon.spots.spots_of`; None where cameras are refined, or none are found.
        beside: of `recon.beside.beside_head`; None where there is nothing.
    """

    head_from_world: Array
    code: Tensor
    log_scale: float
    cameras: Array | None = None
    shared: float | None = None
    spots: Rays | None = None
    beside: Tensor | None = None


class PosedHead:
    """A head of the prior in a pose: what residuals are measured on."""

    def __init__(self, prior: HeadPrior, cells: int, device: torch.device, *, code: Tensor | None = None) -> None:
        self.field = prior.field.to(device)
        self.mean, self.basis = prior.mean_latent.to(device), prior.latent_basis.to(device)
        self.latent = self.mean if code is None else self.mean + self.basis @ code
        self.cache = FieldCache(self.field, self.latent, cells, start=prior.mean_sdf if code is None else None)

    def move(self, to: Start) -> None:
        """Become the head of another code in another pose."""
        latent = self.mean + self.basis @ to.code
        if not torch.equal(latent, self.latent):  # at first the pose moves alone
            self.latent = latent
            self.cache.refresh(latent)
        self._pose = HeadPose(to.head_from_world, self.mean.device, to.cameras)

    @torch.no_grad()
    def rays(self, rays: Rays) -> tuple[Tensor, Tensor, Tensor]:
        """Origins, directions and normals (N, 3) of world rays in the head frame."""
        return self._pose.rays(rays)

    def conditions(self, count: int) -> tuple[Condition, list[Tensor]]:
        """What the latent does to the field, once for each of `count` points, and the tensors in it to differentiate by."""
        bias, grid, _ = self.field.condition(self.latent[None])
        own = [bias.expand(count, -1).clone().requires_grad_()]
        if grid is not None:
            own.append(torch.zeros(4, count, grid.shape[-1], device=grid.device, requires_grad=True))
        return Condition(own[0], grid, *own[1:]), own

    def by_code(self, points: Tensor, by_own: Sequence[Tensor]) -> Tensor:
        """Derivatives by the code (N, K) from those by each point's own condition."""
        by_bias, *by_nudge = by_own
        return self.field.by_latent(points, by_bias, by_nudge[0] if by_nudge else None) @ self.basis


class MovedRays:
    """N rays that small similarities of the head frame move, one each, on a head whose code may change: what to differentiate by.

    A ray that is moved along itself is the same ray, so each moves aside alone: from the motion of a camera that is metres away,
    derivatives on two sides of a kink of the grids would be left that should cancel.

    Args:
        origins, directions: head frame, (N, 3).
        depth: about where they hit, (N,).
    """

    def __init__(self, head: PosedHead, origins: Tensor, directions: Tensor, depth: Tensor) -> None:
        self._head = head
        self._by = torch.zeros(len(origins), POSE, device=origins.device, requires_grad=True)
        shift, self.turn, growth = self._by[:, :3], self._by[:, 3:6], self._by[:, 6:]
        at = origins + depth[:, None] * directions
        motion = shift + torch.cross(self.turn, at, dim=-1) + growth * at
        aside = motion - (motion * directions).sum(-1, keepdim=True) * directions
        self.directions = directions + torch.cross(self.turn, directions, dim=-1)
        self.origins = at + aside - depth[:, None] * self.directions
        self.condition, self._own = head.conditions(len(origins))

    def derivatives(self, values: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Of one value a ray (N,), at `points` (N, 3): by the motion (N, 7) and by the code (N, K)."""
        by_motion, *by_own = torch.autograd.grad(values.sum(), [self._by, *self._own], retain_graph=True)
        return by_motion, self._head.by_code(points, by_own)


def hits_of_moved_rays(head: PosedHead, origins: Tensor, directions: Tensor, depth: Tensor) -> tuple[SurfaceHits, MovedRays]:
    """Where rays (N, 3) that hit at about `depth` hit the head, and what moves them."""
    moved = MovedRays(head, origins, directions, depth)
    return differentiable_hits(head.field, moved.condition, moved.origins, moved.directions, depth), moved

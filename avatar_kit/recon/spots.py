"""Spots that two photos both show, as points of the surface.

Normals and outlines leave a shoulder, a collar or hair that no head of the prior has centimetres off, where patches find wrong
partners. Corners are found again over such distances (`recon.matches`), and the two rays through one meet on the surface. The fit is
drawn to those points that are far from it; the others tell less than patches do. Source: Fu et al. 2022, Geo-Neus, whose points are
those of structure from motion.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from avatar_kit.config import SpotsConfig
from avatar_kit.field.head_field import Condition, HeadField
from avatar_kit.recon.pose import HeadPose
from avatar_kit.recon.rays import Rays

_APART = 0.01  # units: rays that pass one another further apart are of two spots
_LEAST_SINE = 0.2  # of the angle between them: less says little about depth
_FARTHEST = 0.2  # units: spots beyond pull no harder


def spots_of(first: Rays, second: Rays, *, unit: float) -> Rays | None:
    """Those rays of `first` that meet theirs of `second`, beginning where they do, world frame; None where none do.

    Args:
        first, second: world rays of two photos that see the same spots, N of each.
        unit: of the head frame, in the world's.
    """
    between, cosine = second.origins - first.origins, (first.directions * second.directions).sum(-1)
    square = (1.0 - cosine.square()).clamp_min(1e-6)  # of the sine
    along_first, along_second = (between * first.directions).sum(-1), (between * second.directions).sum(-1)
    s, t = (along_first - cosine * along_second) / square, (cosine * along_first - along_second) / square
    apart = (between + t[:, None] * second.directions - s[:, None] * first.directions).norm(dim=-1)
    meet = (apart < _APART * unit) & (square > _LEAST_SINE**2) & (s > 0) & (t > 0)
    return replace(first, origins=first.origins + s[:, None] * first.directions)[meet] if meet.any() else None


def spots_loss(
    field: HeadField, condition: Condition, pose: HeadPose, spots: Rays, config: SpotsConfig, count: int, generator: torch.Generator
) -> Tensor:
    """How far the surface is from some of the spots, beyond `config.near`, units: their sum over the `count` rays of the step, a scalar."""
    if len(spots) > config.per_step:
        spots = spots[torch.randint(len(spots), (config.per_step,), generator=generator).to(spots.origins.device)]
    points, _, _ = pose.rays(spots)
    return (field(points.detach(), condition).abs() - config.near).clamp(0.0, _FARTHEST).sum() / count

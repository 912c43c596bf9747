"""How well a prior can represent heads it never saw: fit latents alone, or latents and grids, to true distances."""

from __future__ import annotations

import copy
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from avatar_kit.config import PriorConfig
from avatar_kit.conventions import MM_PER_UNIT
from avatar_kit.field.head_field import HeadField
from avatar_kit.prior.losses import Batch, prior_loss
from avatar_kit.prior.storage import HeadPrior
from avatar_kit.types import Array


class Samples(Protocol):
    """Samples of heads, as `prior.samples.SampleFolder` holds them."""

    @property
    def surface(self) -> Array:
        """Points and normals, (heads, S, 6), head frame."""
        ...

    @property
    def space(self) -> Array:
        """Points and signed distances, (heads, N, 4), units."""
        ...


def surface_error_mm(field: HeadField, latents: Tensor, samples: Samples, rows: list[int]) -> float:
    """Mean distance from true surface points of `rows` to the surface of their `latents` (B, L), to first order, in mm.

    |d| / |grad d|, the slope held above a half: |d| alone would flatter a field that is too flat.
    """
    points = torch.from_numpy(np.ascontiguousarray(samples.surface[rows, :2048, :3]))
    with torch.no_grad():
        sdf = field.with_gradient(points.reshape(-1, 3), field.condition(latents))
    return float((sdf.distance.abs() / sdf.gradient.norm(dim=-1).clamp_min(0.5)).mean()) * MM_PER_UNIT


def project(
    prior: HeadPrior, samples: Samples, rows: list[int], *, steps: int, generator: torch.Generator, grids: bool = False,
    distances: bool = True,
) -> tuple[HeadField, Tensor]:  # fmt: skip
    """Fit latents (and with `grids`, for a single row, the feature grids too) to the samples of `rows`.

    Args:
        distances: use the signed distances; without, the surface and the eikonal term alone, which need no inside.

    Returns:
        the field used and the latents (B, L).

    Raises:
        ValueError: `grids` with more than one row: the grids belong to one head then.
    """
    if grids and len(rows) != 1:
        raise ValueError(f"grids can be fitted to one head at a time, got rows {rows}")
    field = copy.deepcopy(prior.field)
    latents = prior.mean_latent.expand(len(rows), -1).clone().requires_grad_()
    groups = [{"params": [latents], "lr": 2e-2}]
    if grids:
        groups.append({"params": list(field.grids.requires_grad_().parameters()), "lr": 5e-3})
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=1e-4)
    config = PriorConfig(latent_weight=1e-5, grid_weight=0.0, distances=distances)
    surface, space = (torch.from_numpy(np.ascontiguousarray(a[rows])) for a in (samples.surface, samples.space))
    for _ in range(steps):
        i = torch.randint(surface.shape[1], (256,), generator=generator)
        j = torch.randint(space.shape[1], (512,), generator=generator)
        loss, _ = prior_loss(field, Batch(latents, surface[:, i], space[:, j]), config)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return field, latents.detach()

"""Losses of the prior (equation 3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from avatar_kit.config import PriorConfig
from avatar_kit.field.head_field import HeadField
from avatar_kit.field.smoothness import FINEST, grid_roughness

_NEAR = 0.03  # units: distances count fully this close to the surface, and less and less beyond


class Batch(NamedTuple):
    """B heads: `latents` (B, L), `surface` (B, S, 6) points and normals, `space` (B, N, 4) points and distances."""

    latents: Tensor
    surface: Tensor
    space: Tensor


def prior_loss(field: HeadField, batch: Batch, config: PriorConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """The training loss of a batch and its unweighted terms.

    Surface: |d| at surface points, and how far the gradient points from the normal. Space: with ``config.distances`` the
    error of the signed distance; otherwise the eikonal term (|grad d| - 1)^2, which needs no inside. Embedding: the
    Gaussian prior on g and on the grids. The terms are means, so their weights do not depend on the batch's size.
    """
    conditions = field.condition(batch.latents)
    points, normals = batch.surface[..., :3].reshape(-1, 3), batch.surface[..., 3:].reshape(-1, 3)
    surface = field.with_gradient(points, conditions)
    cosine = torch.nn.functional.cosine_similarity(surface.gradient, normals, dim=-1)
    terms = {"surface": surface.distance.abs().mean(), "normal": (1.0 - cosine).mean()}
    loss = terms["surface"] + config.normal_weight * terms["normal"]
    x, truth = batch.space[..., :3].reshape(-1, 3), batch.space[..., 3].flatten()
    if config.distances:
        error = (field(x, conditions) - truth).abs()
        terms["space"] = (error / (1.0 + truth.abs() / _NEAR)).mean()
        near = truth.abs() < _NEAR
        terms["near"] = (error * near).sum() / near.sum().clamp(min=1)
        loss = loss + terms["space"]
    if config.eikonal_weight > 0:
        gradient = surface.gradient if config.distances else field.with_gradient(x, conditions).gradient
        terms["eikonal"] = ((gradient.norm(dim=-1) - 1.0) ** 2).mean()
        loss = loss + config.eikonal_weight * terms["eikonal"]
    terms["latent"] = batch.latents.square().sum(-1).mean()
    loss = loss + config.latent_weight * terms["latent"]
    if len(field.grids) and config.grid_weight > 0:
        squares = [grid.square().mean() for grid in field.grids if grid.requires_grad]
        squares += [] if conditions.grid is None else [conditions.grid.square().mean()]
        terms["grid"] = torch.stack(squares or [loss * 0]).sum()
        loss = loss + config.grid_weight * terms["grid"]
    if len(field.grids) and config.smooth_weight > 0:
        terms["smooth"] = grid_roughness([grid for grid in list(field.grids)[FINEST] if grid.requires_grad])
        loss = loss + config.smooth_weight * terms["smooth"]
    return loss, terms

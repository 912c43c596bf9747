"""Heads out of a prior: random ones, and the way from one to another."""

from __future__ import annotations

import torch
from torch import Tensor

from avatar_kit.config import MeshConfig
from avatar_kit.mesh.extraction import extract
from avatar_kit.prior.storage import HeadPrior
from avatar_kit.types import InputError, Mesh


def random_latents(prior: HeadPrior, count: int, generator: torch.Generator, *, spread: float = 1.0) -> Tensor:
    """Latents (count, L) from the Gaussian of the training heads.

    Args:
        spread: times its standard deviation; 0 gives the mean head.
    """
    basis = prior.latent_basis
    codes = torch.randn(count, basis.shape[1], generator=generator)
    return prior.mean_latent.cpu() + spread * codes @ basis.cpu().T


def named_latent(prior: HeadPrior, name: str) -> Tensor:
    """The latent (L,) of "mean", of a training head by its number ("12"), or of a random head by its seed ("random:3").

    Raises:
        InputError: none of these, or no such head.
    """
    kind, _, seed = name.partition(":")
    if name == "mean":
        return prior.mean_latent.cpu()
    if kind == "random" and seed.isdigit():
        return random_latents(prior, 1, torch.Generator().manual_seed(int(seed)))[0]
    if name.isdigit() and int(name) < len(prior.latents):
        return prior.latents[int(name)].cpu()
    raise InputError(f"{name}: no such head. Give mean, a training head's number from 0 to {len(prior.latents) - 1}, or random:SEED.")


def between(a: Tensor, b: Tensor, count: int) -> Tensor:
    """`count` latents (count, L) on the straight line from `a` to `b` (L,), both ends included."""
    return torch.lerp(a[None], b[None], torch.linspace(0, 1, count)[:, None])


def heads(prior: HeadPrior, latents: Tensor, *, resolution: int = 128) -> list[Mesh]:
    """Meshes of latents (N, L) in the head frame."""
    device = prior.field.last.bias.device
    config = MeshConfig(resolution=resolution)
    return [extract(prior.field, latent.to(device), config) for latent in latents]

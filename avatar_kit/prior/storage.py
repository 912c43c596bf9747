"""A trained prior and its file."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avatar_kit.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, shipped
from avatar_kit.config import FieldConfig, stage_from_dict
from avatar_kit.field.head_field import HeadField
from avatar_kit.field.on_grid import sdf_on_grid

MEAN_SDF_RESOLUTION = 64  # cells per axis


@dataclass(frozen=True, eq=False)
class HeadPrior:
    """A statistical model of heads.

    Attributes:
        field: grids and decoder, in evaluation state.
        latents: of the training heads, (M, L); their mean is the mean head.
        mean_sdf: the mean head's field at the nodes of a grid over the box, (65, 65, 65), indexed [x, y, z].
        card: data, licences, command, seed, time and scores.
    """

    field: HeadField
    latents: Tensor
    mean_sdf: Tensor
    card: dict[str, Any]

    @property
    def knows_heads(self) -> bool:
        """Whether it was trained: `untrained_prior` was not."""
        return len(self.latents) > 1

    @property
    def mean_latent(self) -> Tensor:
        """Mean of the training latents, (L,)."""
        return self.latents.mean(0)

    @property
    def latent_basis(self) -> Tensor:
        """B (L, K): columns are the principal axes of the training latents times their standard deviations, so that
        g = mean + B w with w of unit variance."""
        centred = self.latents - self.mean_latent
        _, singular, axes = torch.linalg.svd(centred, full_matrices=False)
        return axes.T * (singular / len(centred) ** 0.5)


def save_prior(path: Path, field: HeadField, latents: Tensor, card: dict[str, Any]) -> HeadPrior:
    """Write a prior in half precision, whole or not at all, and return it as it will be read back."""
    tensors = {f"field.{name}": value for name, value in field.state_dict().items()}
    tensors["latents"] = latents
    tensors["mean_sdf"] = sdf_on_grid(field, latents.mean(0), MEAN_SDF_RESOLUTION)
    save_checkpoint(path, Checkpoint(tensors, {"field": dataclasses.asdict(field.config)}, card), kind="prior")
    return load_prior(path)


def untrained_prior(config: FieldConfig, *, seed: int = 0, device: str | torch.device = "cpu") -> HeadPrior:
    """A prior that knows no heads: about a sphere, with one latent of zeros. Where heads are, another has to say."""
    field = HeadField(config)
    field.initialise(torch.Generator().manual_seed(seed))
    field.to(device).requires_grad_(False)
    latents = torch.zeros(1, config.latent, device=device)
    return HeadPrior(field, latents, sdf_on_grid(field, latents[0], MEAN_SDF_RESOLUTION), {"heads": []})


def load_prior(path: Path | str = "default", device: str | torch.device = "cpu", *, missing: str = "no such file") -> HeadPrior:
    """Read a prior; "default" is the shipped one.

    Args:
        missing: the reason to give where there is no such file.

    Raises:
        InputError: no such file, or not a prior.
    """
    file = shipped("prior.safetensors") if str(path) == "default" else Path(path)
    tensors, settings, card = load_checkpoint(file, kind="prior", device=device, missing=missing)
    field = HeadField(stage_from_dict(FieldConfig, settings["field"])).to(device)
    field.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("field.")})
    field.requires_grad_(False)
    return HeadPrior(field, tensors["latents"], tensors["mean_sdf"], card)

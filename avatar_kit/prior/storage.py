"""A trained prior and its file: safetensors in half precision, settings and card in the metadata."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avatar_kit.config import FieldConfig, stage_from_dict
from avatar_kit.conventions import BOX_MAX, BOX_MIN
from avatar_kit.field.head_field import HeadField
from avatar_kit.types import InputError

FORMAT = "avatar-kit-prior-1"
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


@torch.no_grad()
def sdf_on_grid(field: HeadField, latent: Tensor, cells: int, *, chunk: int = 8192) -> Tensor:
    """The field of one head at all nodes of a grid over the box: (cells + 1,) * 3, indexed [x, y, z], units."""
    axis = torch.linspace(BOX_MIN, BOX_MAX, cells + 1, device=latent.device)
    nodes = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    condition = field.condition(latent[None])
    return torch.cat([field(part, condition) for part in nodes.split(chunk)]).reshape((cells + 1,) * 3)


def save_prior(path: Path, field: HeadField, latents: Tensor, card: dict[str, Any]) -> HeadPrior:
    """Write a prior in half precision, whole or not at all, and return it as it will be read back."""
    from safetensors.torch import save_file

    state = {f"field.{name}": value for name, value in field.state_dict().items()}
    state["latents"] = latents
    state["mean_sdf"] = sdf_on_grid(field, latents.mean(0), MEAN_SDF_RESOLUTION)
    metadata = {
        "format": FORMAT, "field": json.dumps(dataclasses.asdict(field.config)), "card": json.dumps(card),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    save_file({name: value.detach().half().cpu().contiguous() for name, value in state.items()}, part, metadata)
    os.replace(part, path)
    return load_prior(path)


def load_prior(path: Path | str = "default", device: str | torch.device = "cpu") -> HeadPrior:
    """Read a prior; "default" is the shipped one.

    Raises:
        InputError: no such file, or not a prior.
    """
    from safetensors import SafetensorError, safe_open

    file = Path(str(resources.files("avatar_kit") / "weights" / "prior.safetensors")) if str(path) == "default" else Path(path)
    if not file.is_file():
        raise InputError(f"{file}: no such file. Give --prior default or a file made by `avatar-kit prior train`.")
    try:
        with safe_open(file, framework="pt", device=str(device)) as pack:
            metadata = pack.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise InputError(f"{file}: is no avatar-kit prior. Make one with `avatar-kit prior train`.")
            tensors = {name: pack.get_tensor(name).float() for name in pack.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise InputError(f"{file}: is damaged ({error}). Fetch or train it again.") from error
    field = HeadField(stage_from_dict(FieldConfig, json.loads(metadata["field"]))).to(device)
    field.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("field.")})
    field.requires_grad_(False)
    return HeadPrior(field, tensors["latents"], tensors["mean_sdf"], json.loads(metadata["card"]))

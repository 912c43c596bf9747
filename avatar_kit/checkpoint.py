"""Trained weights in files: safetensors in half precision, with their settings and their card in the metadata."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from avatar_kit.types import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Checkpoint(NamedTuple):
    """What a file holds: float32 `tensors` by name, `settings` by stage of the configuration, and the `card`."""

    tensors: dict[str, Tensor]
    settings: dict[str, dict[str, Any]]
    card: dict[str, Any]


def shipped(name: str) -> Path:
    """Where a file of `avatar_kit/weights` lies."""
    return Path(str(resources.files("avatar_kit") / "weights" / name))


def save_checkpoint(path: Path, checkpoint: Checkpoint, *, kind: str) -> None:
    """Write a file, whole or not at all, in half precision.

    Raises:
        ValueError: a tensor holds values that are not finite or beyond half precision (65504).
    """
    import torch
    from safetensors.torch import save

    half = {name: value.detach().half().cpu().contiguous() for name, value in checkpoint.tensors.items()}
    beyond = [name for name, value in half.items() if not torch.isfinite(value).all()]
    if beyond:
        raise ValueError(f"{', '.join(beyond[:3])}: not finite, or beyond half precision.")
    notes = {**checkpoint.settings, "card": checkpoint.card}
    metadata = {"format": _format(kind), **{name: json.dumps(value) for name, value in notes.items()}}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(save(half, metadata))  # save_file would make it the owner's alone
    os.replace(part, path)


def load_checkpoint(path: Path, *, kind: str, device: str | torch.device = "cpu", missing: str = "no such file") -> Checkpoint:
    """Read a file that `save_checkpoint` wrote with the same `kind` ("prior", "normals").

    Args:
        device: of the tensors.
        missing: the reason to give where there is no such file.

    Raises:
        InputError: no such file, damaged, or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"{path}: {missing}. Give a file made by `avatar-kit {kind} train`.")
    try:
        with safe_open(path, framework="pt", device=str(device)) as pack:
            metadata = pack.metadata() or {}
            if metadata.get("format") != _format(kind):
                raise InputError(f"{path}: holds no {kind} weights of avatar-kit. Make some with `avatar-kit {kind} train`.")
            tensors = {name: pack.get_tensor(name).float() for name in pack.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise InputError(f"{path}: is damaged ({error}). Fetch or train it again.") from error
    settings = {name: json.loads(value) for name, value in metadata.items() if name != "format"}
    return Checkpoint(tensors, settings, settings.pop("card"))


def _format(kind: str) -> str:
    return f"avatar-kit-{kind}-1"

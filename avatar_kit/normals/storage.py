"""A trained normal network and its file: safetensors in half precision, settings and card in the metadata."""

from __future__ import annotations

import dataclasses
import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from avatar_kit.config import NormalsConfig, stage_from_dict
from avatar_kit.normals.network import NormalNet
from avatar_kit.normals.predict import Estimator
from avatar_kit.types import InputError

FORMAT = "avatar-kit-normals-1"


def save_normals(path: Path, net: NormalNet, card: dict[str, Any]) -> None:
    """Write a network in half precision, whole or not at all, and its card beside it (.json)."""
    from safetensors.torch import save_file

    state = {name: value.detach().cpu() for name, value in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    half = {name: value.half().contiguous() for name, value in state.items()}
    beyond = [name for name, value in half.items() if not torch.isfinite(value).all()]
    if beyond:  # a running variance above 65504
        raise ValueError(f"{', '.join(beyond[:3])}: not finite, or beyond half precision.")
    metadata = {"format": FORMAT, "normals": json.dumps(dataclasses.asdict(net.config)), "card": json.dumps(card)}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    save_file(half, part, metadata)
    os.replace(part, path)
    path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")


def load_estimator(path: Path | None, *, axes: str | None = None) -> Estimator:
    """A network to predict with: ours, shipped (None) or from a file, or an ONNX model (.onnx) of others.

    Args:
        axes: of an ONNX model's channels; see `normals.onnx`.
    """
    if path is not None and path.suffix == ".onnx":
        from avatar_kit.normals.onnx import OnnxEstimator

        return OnnxEstimator(path, axes=axes or "x,-y,-z")
    return load_normals(path)[0]


def load_normals(path: Path | str | None = None, device: str | torch.device = "cpu") -> tuple[NormalNet, dict[str, Any]]:
    """Read a network, ready to predict, and its card; None is the shipped one.

    Raises:
        InputError: no such file, or not a normal network.
    """
    from safetensors import SafetensorError, safe_open

    shipped = path is None
    file = Path(str(resources.files("avatar_kit") / "weights" / "normals.safetensors")) if path is None else Path(path)
    if not file.is_file():
        reason = "this installation ships no normal network" if shipped else "no such file"
        raise InputError(f"{file}: {reason}. Give --weights a file made by `avatar-kit normals train`.")
    try:
        with safe_open(file, framework="pt", device=str(device)) as pack:
            metadata = pack.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise InputError(f"{file}: is no normal network of avatar-kit. Make one with `avatar-kit normals train`.")
            tensors = {name: pack.get_tensor(name).float() for name in pack.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise InputError(f"{file}: is damaged ({error}). Fetch or train it again.") from error
    net = NormalNet(stage_from_dict(NormalsConfig, json.loads(metadata["normals"])))
    counters = {name: value for name, value in net.state_dict().items() if name.endswith("num_batches_tracked")}
    net.load_state_dict({**counters, **tensors})
    return net.to(device).requires_grad_(False).eval(), json.loads(metadata["card"])

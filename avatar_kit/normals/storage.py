"""A trained normal network and its file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from avatar_kit.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, shipped
from avatar_kit.config import NormalsConfig, stage_from_dict
from avatar_kit.normals.estimator import Estimator
from avatar_kit.normals.network import NormalNet

_COUNTER = "num_batches_tracked"  # of batch normalisation: says nothing about a trained network


def save_normals(path: Path, net: NormalNet, card: dict[str, Any]) -> None:
    """Write a network in half precision, whole or not at all, and its card beside it (.json)."""
    tensors = {name: value for name, value in net.state_dict().items() if not name.endswith(_COUNTER)}
    save_checkpoint(path, Checkpoint(tensors, {"normals": dataclasses.asdict(net.config)}, card), kind="normals")
    path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")


def load_estimator(path: Path | None, *, axes: str | None = None, device: str = "cpu") -> Estimator:
    """A network to predict with: ours, shipped (None) or from a file, or an ONNX model (.onnx) of others.

    Args:
        axes: of an ONNX model's channels; see `normals.onnx`.
        device: of ours; ONNX models run on the CPU.
    """
    if path is not None and path.suffix == ".onnx":
        from avatar_kit.normals.onnx import OnnxEstimator

        return OnnxEstimator(path, axes=axes or "x,-y,-z")
    return load_normals(path, device)[0]


def load_normals(path: Path | str | None = None, device: str | torch.device = "cpu") -> tuple[NormalNet, dict[str, Any]]:
    """Read a network, ready to predict, and its card; None is the shipped one.

    Raises:
        InputError: no such file, or not a normal network.
    """
    file = shipped("normals.safetensors") if path is None else Path(path)
    missing = "this installation ships no normal network" if path is None else "no such file"
    stored = load_checkpoint(file, kind="normals", device=device, missing=missing)
    net = NormalNet(stage_from_dict(NormalsConfig, stored.settings["normals"]))
    counters = {name: value for name, value in net.state_dict().items() if name.endswith(_COUNTER)}
    net.load_state_dict({**counters, **stored.tensors})
    return net.to(device).requires_grad_(False).eval(), stored.card

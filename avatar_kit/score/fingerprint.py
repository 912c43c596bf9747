"""A short name for what scores depend on besides the subject: runs that differ in it must not share a table."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from avatar_kit.checkpoint import shipped
from avatar_kit.config import Config, to_dict
from avatar_kit.prior.storage import HeadPrior
from avatar_kit.types import InputError

_LENGTH = 12  # hexadecimal digits


def fingerprint(prior: HeadPrior, *configs: Config, normal_net: str | None, **more: Any) -> str:
    """Hash of the settings, the prior's and the normal network's weights, and whatever else is given.

    Args:
        configs: of the fit.
        normal_net: as `recon.pipeline.reconstruct` takes it, but no estimator: "default", a file or None.
        more: what can be written as JSON.

    Raises:
        InputError: no such file of a network.
    """
    parts = {"configs": [to_dict(config) for config in configs], "prior": _of_prior(prior), "normals": _of_network(normal_net), **more}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:_LENGTH]


def _of_prior(prior: HeadPrior) -> str:
    """Of its weights, not of its file: an untrained one has none, and a card that is written anew changes no result."""
    found = hashlib.sha256()
    for name, value in sorted({**prior.field.state_dict(), "latents": prior.latents}.items()):
        found.update(name.encode())
        found.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _of_network(normal_net: str | None) -> str:
    if normal_net is None:
        return "none"
    file = shipped("normals.safetensors") if normal_net == "default" else Path(normal_net)
    if not file.is_file():
        raise InputError(f"{file}: no such file. Give a network made by `avatar-kit normals train`, or leave --normals out.")
    return hashlib.sha256(file.read_bytes()).hexdigest()

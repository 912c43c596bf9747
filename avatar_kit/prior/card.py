"""The card of a trained prior: what it was made from, how, and how good it is on heads it never saw."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import torch

from avatar_kit.config import to_dict
from avatar_kit.prior import processes
from avatar_kit.prior.project import project, surface_error_mm
from avatar_kit.prior.samples import SampleFolder
from avatar_kit.prior.storage import HeadPrior, save_prior
from avatar_kit.prior.train import PriorTrainer

_LICENCES = {
    "anny": "Anny: code Apache-2.0 (NAVER), shapes CC0 (MakeHuman)",
    "ict": "ICT-FaceKit light model: MIT, Copyright (c) 2020 USC Institute for Creative Technologies; cite Li et al., CVPR 2020",
    "folder": "scans of the user",
    "hair": "MakeHuman hair styles: CC0",
}


def write_prior(path: Path, trainer: PriorTrainer, *, held_out: SampleFolder | None, command: str, seed: int) -> dict[str, Any] | None:
    """Save a trainer's prior, score it on held-out heads, and write the card into the file and beside it (.json).

    Args:
        held_out: None where there are none; the card then has no score on them.

    Where several processes train, all call this; the first one does it and has the card, the others None.
    """
    latents = trainer.all_latents()
    if processes.rank() > 0:
        return None
    requests = trainer.samples.index["requests"]
    kinds = {request["source"].partition(":")[0] for request in requests}
    if any(request["makehuman_hair"] for request in requests):
        kinds.add("hair")
    card: dict[str, Any] = {
        "heads": _counts(requests),
        "held_out": _counts(held_out.index["requests"]) if held_out else [],
        "licences": [_LICENCES[kind] for kind in sorted(kinds)],
        "command": command,
        "seed": seed,
        "epochs": trainer.epoch,
        "training_seconds": round(trainer.seconds),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, {trainer.device.type}"
        + (f", {processes.world()} processes" if processes.world() > 1 else ""),
        "settings": to_dict(trainer.config)["prior"],
    }
    prior = save_prior(path, trainer.field, latents, card)
    card["scores"] = scores(prior, held_out, trainer.samples, seed=seed)
    save_prior(path, trainer.field, latents, card)
    path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")
    return card


def _counts(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"source": request["source"].partition(":")[0], "count": request["count"]} for request in requests]


def scores(prior: HeadPrior, held_out: SampleFolder | None, training: SampleFolder, *, seed: int, grid_heads: int = 6) -> dict[str, float]:
    """Mean distance from true to modelled surface in mm: training heads, and held-out heads, where there are some, by what is fitted
    to them."""
    generator = torch.Generator().manual_seed(seed)
    known = list(range(0, len(training), max(1, len(training) // 64)))[:64]
    of_training = {"training_heads_mm": round(surface_error_mm(prior.field, prior.latents[known], training, known), 3)}
    if held_out is None:
        return of_training
    rows = list(range(len(held_out)))
    field, latents = project(prior, held_out, rows, steps=300, generator=generator)
    with_grids = []
    for row in rows[:: max(1, len(rows) // grid_heads)][:grid_heads]:
        fitted, latent = project(prior, held_out, [row], steps=300, generator=generator, grids=True)
        with_grids.append(surface_error_mm(fitted, latent, held_out, [row]))
    return {
        **of_training,
        "held_out_mean_head_mm": round(surface_error_mm(prior.field, prior.mean_latent.expand(len(rows), -1), held_out, rows), 3),
        "held_out_latent_mm": round(surface_error_mm(field, latents, held_out, rows), 3),
        "held_out_latent_and_grids_mm": round(sum(with_grids) / len(with_grids), 3),
        "held_out_heads": len(rows),
    }

"""The card of a trained normal network: what it was made from, how, and how good it is on pairs it never saw."""

from __future__ import annotations

import dataclasses
import platform
from typing import Any

import torch

from avatar_kit.normals.generate import PairStreamRequest
from avatar_kit.normals.train import NormalsTrainer

_LICENCES = {
    "anny": "Anny: code Apache-2.0 (NAVER), shapes CC0 (MakeHuman)",
    "ict": "ICT-FaceKit light model: MIT, Copyright (c) 2020 USC Institute for Creative Technologies; cite Li et al., CVPR 2020",
    "folder": "scans of the user",
    "hair": "MakeHuman hair styles: CC0",
    "skins": "MakeHuman skins: CC0",
}
BAD_AT = [
    "people as a camera sees them: it was trained on synthetic photographs alone",
    "hair in strands, veils, hats and helmets; hands and objects before the face",
    "several people in a photo, animals, drawings",
    "photos without intrinsics whose head lies far from the middle: 53 degrees along the longer side are assumed",
]


def training_card(
    trainer: NormalsTrainer, request: PairStreamRequest, *, origin: dict[str, Any], command: str, seed: int, scores: dict[str, Any]
) -> dict[str, Any]:
    """Everything about a training that its weights do not say; scores are of held-out pairs.

    Args:
        origin: of the weights it began with: their "licences" and, where they were trained before, "continued_from".
    """
    kinds = {source.partition(":")[0] for source in request.sources}
    kinds |= {"hair"} if request.makehuman_hair else set()
    kinds |= {"skins"} if request.skins else set()
    return {
        "pairs": {"sources": [source.partition(":")[0] for source in request.sources], "made": trainer.next_index,
                  "without": list(request.without)},
        "licences": list(dict.fromkeys([*(_LICENCES[kind] for kind in sorted(kinds)), *origin["licences"]])),
        "command": command,
        "seed": seed,
        "steps": dict(zip(map(str, trainer.training.sizes), trainer.steps, strict=True)),
        "training_hours": round(trainer.seconds / 3600, 2),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads" + _gpu(trainer.device),
        "settings": {**dataclasses.asdict(trainer.config), **dataclasses.asdict(trainer.training)},
        "scores": scores,
        "bad_at": BAD_AT,
        **({"continued_from": origin["continued_from"]} if "continued_from" in origin else {}),
    }  # fmt: skip


def _gpu(device: torch.device) -> str:
    return "" if device.type == "cpu" else f", {torch.cuda.get_device_name(device)}"

"""Validation while training: scores on held-out pairs that stay the same, and a sheet to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from avatar_kit.normals.evaluate import evaluate_batches
from avatar_kit.normals.generate import StreamRequest
from avatar_kit.normals.losses import Targets, angle
from avatar_kit.normals.network import NormalMaps, NormalNet
from avatar_kit.normals.pool import PairPool, pack
from avatar_kit.types import Array

_BATCH = 8
_FULL_ERROR_DEG = 45.0  # is drawn white


def held_out_pool(work: Path, request: StreamRequest, *, size: int, count: int, on_pair: Callable[[], object] | None = None) -> PairPool:
    """`count` pairs of different heads, made once. `request` must have a seed of its own: that is what makes them unseen."""
    pool = PairPool(work / f"held_out_{size}", size=size, capacity=count)
    stream = request.open(size) if len(pool) < count else None
    while stream is not None and len(pool) < count:
        head, within = pool.added, pool.added % request.pairs_per_head
        pool.add(pack(stream.pair(head * request.pairs_per_head + within)))
        pool.flush()
        if on_pair:
            on_pair()
    return pool


def validate(net: NormalNet, pool: PairPool) -> dict[str, float]:
    """Scores of the network on a pool, without augmentation."""
    rows = torch.arange(len(pool)).split(_BATCH)
    return evaluate_batches(net, ((pool.batch(part), []) for part in rows))


@torch.inference_mode()
def write_sheet(file: Path, net: NormalNet, pool: PairPool, *, rows: int = 10) -> None:
    """Photo, predicted normals, true normals, foreground, error (white: 45 degrees); a row per pair."""
    batch = pool.batch(torch.arange(min(rows, len(pool))))
    net.eval()
    picture = sheet(NormalMaps(*(values.cpu() for values in net(batch.image.to(net.device)))), batch)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(file)


def sheet(maps: NormalMaps, truth: Targets) -> Array:
    """The picture of `write_sheet`, (rows * S, 5 * S, 3) uint8."""
    cover = torch.sigmoid(maps.foreground)
    off = torch.rad2deg(angle(maps.normals, truth.normals)) / _FULL_ERROR_DEG * truth.foreground
    panels = [
        truth.image,
        _colours(maps.normals, cover > 0.5),
        _colours(truth.normals, truth.foreground > 0.5),
        cover[:, None].expand(-1, 3, -1, -1),
        off[:, None].expand(-1, 3, -1, -1),
    ]
    picture = torch.cat(panels, dim=3).permute(0, 2, 3, 1)
    return np.round(picture.reshape(-1, *picture.shape[2:]).clamp(0, 1).numpy() * 255).astype(np.uint8)


def _colours(normals: torch.Tensor, shown: torch.Tensor) -> torch.Tensor:
    """Normals as is usual to look at: y up and z to the viewer, so that a face is blue."""
    sign = torch.tensor([1.0, -1.0, -1.0]).reshape(3, 1, 1)
    return (normals * sign + 1) / 2 * shown[:, None]

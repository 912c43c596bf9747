"""Pairs as files, for looking at them or for other programs: shards of .npz, their list and a contact sheet.

Each shard_00000.npz holds, for N pairs: `image` (N, S, S, 3) uint8 sRGB; `normals` (N, S, S, 3) int8, times 127;
`coordinates` (N, S, S, 3) float16, head frame; `foreground` and `face` (N, ceil(S * S / 8)) uint8, packed bits of the
row-major masks (np.unpackbits); `intrinsics` (N, 3, 3) and `head_from_camera` (N, 4, 4) float64.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avatar_kit.normals.pairs import Pair, PairStream, pair_sheet

PAIRS_PER_SHARD = 64
_ON_SHEET = 24


def write_shards(stream: PairStream, *, count: int, out: Path, on_pair: Callable[[int], Any] | None = None) -> list[Path]:
    """Write the first `count` pairs of `stream` into the folder `out`, with pairs.json and sheet.png.

    Args:
        on_pair: called with each finished pair's index.

    Returns:
        the shards.

    Raises:
        ValueError: `count` is less than 1.
    """
    if count < 1:
        raise ValueError(f"count is {count}; at least 1 pair must be asked for")
    out.mkdir(parents=True, exist_ok=True)
    shards: list[Path] = []
    listed: list[dict[str, Any]] = []
    shown: list[Pair] = []
    for start in range(0, count, PAIRS_PER_SHARD):
        batch: list[Pair] = []
        file = out / f"shard_{len(shards):05d}.npz"
        for index in range(start, min(start + PAIRS_PER_SHARD, count)):
            pair = stream.pair(index)
            batch.append(pair)
            if index % max(1, count // _ON_SHEET) == 0 and len(shown) < _ON_SHEET:
                shown.append(pair)
            listed.append({"index": index, "shard": file.name, **pair.attributes})
            if on_pair is not None:
                on_pair(index)
        _write(file, batch)
        shards.append(file)
    notes = {"seed": stream.seed, "size": stream.size, "without": sorted(stream.without), "pairs": listed}
    (out / "pairs.json").write_text(json.dumps(notes, indent=1, default=str) + "\n")
    pair_sheet(shown).save(out / "sheet.png")
    return shards


def _write(file: Path, pairs: Sequence[Pair]) -> None:
    """One shard, complete or not at all."""
    unfinished = file.with_suffix(".partial")
    with unfinished.open("wb") as stream:
        np.savez_compressed(
            stream,
            image=np.stack([np.round(p.image * 255).astype(np.uint8) for p in pairs]),
            normals=np.stack([np.round(p.normals * 127).astype(np.int8) for p in pairs]),
            coordinates=np.stack([p.coordinates.astype(np.float16) for p in pairs]),
            foreground=np.stack([np.packbits(p.foreground) for p in pairs]),
            face=np.stack([np.packbits(p.face) for p in pairs]),
            intrinsics=np.stack([p.camera.intrinsics for p in pairs]),
            head_from_camera=np.stack([p.camera.world_from_camera for p in pairs]),
        )
    unfinished.replace(file)

"""The replay pool: pairs kept on disk, compactly, and drawn from again and again.

Making a pair takes longer than training on one, so each is used several times, augmented anew. A pool is a folder of
memory-mapped arrays that fill in order and then overwrite their oldest rows; a resumed training starts with it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from avatar_kit.normals.losses import Targets
from avatar_kit.normals.ray_frame import pixel_rays, to_ray_frame
from avatar_kit.types import Array, Camera, InputError


class PairLike(Protocol):
    """What a pool needs of a pair; see `avatar_kit.normals.pairs.Pair` for the shapes."""

    @property
    def image(self) -> Array: ...
    @property
    def normals(self) -> Array: ...
    @property
    def foreground(self) -> Array: ...
    @property
    def coordinates(self) -> Array: ...
    @property
    def face(self) -> Array: ...
    @property
    def hidden(self) -> Array: ...
    @property
    def camera(self) -> Camera: ...


class PackedPair(dict[str, Array]):
    """A pair in 13 bytes a pixel: image uint8, normals int8 (0.3 degrees), coordinates float16 (0.1 mm), flags uint8.

    The normals are in the ray frame, not in the camera frame (`normals.ray_frame`).
    """


def pack(pair: PairLike) -> PackedPair:
    """A pair as it is stored and sent between processes."""
    rays = pixel_rays(pair.camera.intrinsics, *pair.foreground.shape)
    return PackedPair(
        image=np.round(np.clip(pair.image, 0, 1) * 255).astype(np.uint8),
        normals=np.round(to_ray_frame(pair.normals, rays) * 127).astype(np.int8),
        coordinates=pair.coordinates.astype(np.float16),
        flags=pair.foreground.astype(np.uint8) | pair.face.astype(np.uint8) << 1 | pair.hidden.astype(np.uint8) << 2,
    )


def unpack(pairs: Sequence[PackedPair]) -> Targets:
    """Packed pairs as the network and the losses take them."""
    return _unpacked({name: torch.from_numpy(np.stack([pair[name] for pair in pairs])) for name in _LAYOUT})


def _unpacked(found: dict[str, Tensor]) -> Targets:
    normals, flags = _channels_first(found["normals"]).float(), found["flags"]
    return Targets(
        image=_channels_first(found["image"]).float() / 255,
        normals=normals / normals.norm(dim=1, keepdim=True).clamp(min=1e-6),
        foreground=(flags & 1).float(),
        face=(flags >> 1 & 1).float(),
        coordinates=_channels_first(found["coordinates"]).float(),
        hidden=(flags >> 2).float(),
    )


_LAYOUT = {"image": (np.uint8, 3), "normals": (np.int8, 3), "coordinates": (np.float16, 3), "flags": (np.uint8, 0)}


class PairPool:
    """At most `capacity` pairs of `size` x `size` pixels in `folder`, which is made or opened again.

    Args:
        device: batches are wanted there. A GPU keeps a copy of all pairs (13 bytes a pixel), so that drawing from them costs it nothing.
    """

    def __init__(self, folder: Path, *, size: int, capacity: int, device: torch.device | str = "cpu") -> None:
        self.folder, self.size, self.capacity, self.device = folder, size, capacity, torch.device(device)
        self.added = 0
        """Pairs ever added, those that were overwritten included."""
        self.next_index = 0
        """Above the numbers of all pairs that were added."""
        folder.mkdir(parents=True, exist_ok=True)
        notes = folder / "pool.json"
        if notes.is_file():
            found = json.loads(notes.read_text())
            if found["size"] != size or found["capacity"] != capacity:
                raise InputError(
                    f"{folder}: holds {found['capacity']} pairs of {found['size']} pixels, asked are {capacity} of {size}. "
                    "Give the settings it was made with, or another --work."
                )
            self.added = found["added"]
            self.next_index = found.get("next_index", self.added)
        self._arrays = {name: self._open(name, *layout) for name, layout in _LAYOUT.items()}
        self._copies: dict[str, Tensor] = {}
        if self.device.type != "cpu":
            for name, array in self._arrays.items():
                self._copies[name] = torch.empty(array.shape, dtype=getattr(torch, array.dtype.name), device=self.device)
                self._copies[name][: len(self)] = torch.from_numpy(array[: len(self)])
        self.flush()

    def _open(self, name: str, kind: type, channels: int) -> Array:
        file = self.folder / f"{name}.npy"
        if file.is_file():
            return np.lib.format.open_memmap(file, mode="r+")
        shape = (self.capacity, self.size, self.size, *([channels] if channels else []))
        return np.lib.format.open_memmap(file, mode="w+", dtype=kind, shape=shape)  # sparse until it fills

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, pair: PackedPair, index: int = 0) -> None:
        """Keep a pair, which has the number `index` in its stream, in the place of the oldest where the pool is full."""
        row = self.added % self.capacity
        for name, array in self._arrays.items():
            array[row] = pair[name]
            if self._copies:
                self._copies[name][row] = torch.from_numpy(pair[name])
        self.added += 1
        self.next_index = max(self.next_index, index + 1)

    def flush(self) -> None:
        """Write down how far the pool is filled, so that the next training starts with it."""
        part = self.folder / "pool.json.part"
        part.write_text(json.dumps({"size": self.size, "capacity": self.capacity, "added": self.added, "next_index": self.next_index}))
        os.replace(part, self.folder / "pool.json")

    def batch(self, rows: Tensor) -> Targets:
        """The pairs in `rows`, as the network and the losses take them, on the pool's device."""
        if self._copies:
            rows = rows.to(self.device)
            return _unpacked({name: copy[rows] for name, copy in self._copies.items()})
        return unpack([PackedPair({name: array[int(row)] for name, array in self._arrays.items()}) for row in rows])


def _channels_first(maps: Tensor) -> Tensor:
    return maps.permute(0, 3, 1, 2)

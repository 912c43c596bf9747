"""Smooth random fields in 3D, looked up in one small periodic volume: fast enough to be evaluated per pixel."""

from __future__ import annotations

import functools

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from avatar_kit.types import Array

_VOXELS, _VOXELS_PER_CELL = 32, 4.0  # small enough for the processor's cache, which halves the time of a look-up
_FIELDS = 4  # independent fields, then the gradient of the first


@functools.lru_cache(maxsize=1)
def _volume() -> torch.Tensor:
    """Four fields of zero mean and unit deviation and the first one's gradient per cell, (1, 7, 33, 33, 33)."""
    rng = np.random.default_rng(7)
    white = rng.standard_normal((_FIELDS, _VOXELS, _VOXELS, _VOXELS)).astype(np.float32)
    fields = np.stack([ndimage.gaussian_filter(field, 1.3, mode="wrap") for field in white])
    fields /= fields.std(axis=(1, 2, 3), keepdims=True)
    slopes = [(np.roll(fields[0], -1, axis) - np.roll(fields[0], 1, axis)) * 0.5 * _VOXELS_PER_CELL for axis in range(3)]
    volume = np.concatenate([fields, np.stack(slopes)])
    # one voxel more on each axis, so that looking up between the last and the first needs no wrapping
    return torch.from_numpy(np.pad(volume, [(0, 0)] + [(0, 1)] * 3, mode="wrap"))[None]


def _look_up(volume: torch.Tensor, cells: Array) -> Array:
    """Trilinear values (N, channels) of a volume (1, channels, 33, 33, 33) at `cells` (N, 3)."""
    periods = torch.from_numpy(np.asarray(cells, np.float32)).flip(1) * (_VOXELS_PER_CELL / _VOXELS)
    grid = periods.sub_(periods.floor()).mul_(2.0).sub_(1.0)[None, None, None]
    values = torch.nn.functional.grid_sample(volume, grid, mode="bilinear", align_corners=True, padding_mode="border")
    return values[0, :, 0, 0].T.numpy()


class Noise:
    """A field of its own per draw of `rng`: the shared volume, turned and shifted."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._turn = Rotation.random(rng=rng).as_matrix().astype(np.float32)
        self._shift = rng.uniform(0, 16, 3).astype(np.float32)

    def values(self, points: Array, cells_per_unit: float) -> Array:
        """Four independent fields (N, 4) of unit deviation at `points` (N, 3), features about 1 / `cells_per_unit` wide."""
        return _look_up(_volume()[:, :_FIELDS], points @ self._turn.T * np.float32(cells_per_unit) + self._shift)

    def fractal(self, points: Array, cells_per_unit: float, octaves: int) -> Array:
        """Octaves of falling strength, (N, 4), near unit deviation."""
        total = np.zeros((len(points), _FIELDS), np.float32)
        for octave in range(octaves):
            total += self.values(points, cells_per_unit * 2.03**octave) * np.float32(0.55**octave)
        return total

    def slopes(self, points: Array, cells_per_unit: float) -> Array:
        """Gradient (N, 3), per cell, of a relief of unit deviation at `points` (N, 3)."""
        gradient = _look_up(_volume()[:, _FIELDS:], points @ self._turn.T * np.float32(cells_per_unit) + self._shift)
        return gradient @ self._turn

    def stretched(self, cells: Array) -> tuple[Array, Array]:
        """Fields (N, 4) and their first one's gradient (N, 3) at coordinates `cells` (N, 3) that are not turned."""
        values = _look_up(_volume(), cells + self._shift)
        return values[:, :_FIELDS], values[:, _FIELDS:]


def unit(vectors: Array) -> Array:
    """Vectors (..., 3) at length 1; zero stays zero."""
    return vectors / np.maximum(np.sqrt(np.einsum("...i,...i->...", vectors, vectors))[..., None], 1e-12)

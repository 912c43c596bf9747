"""A head's field at the nodes of a grid over the box: all of them, or exactly near the surface alone."""

from __future__ import annotations

import torch
from torch import Tensor

from avatar_kit.conventions import BOX_MAX, BOX_MIN
from avatar_kit.field.head_field import HeadField

_BAND = 1.0  # cells: a finer grid is evaluated where the distance interpolated from the coarser one is below this


@torch.no_grad()
def sdf_on_grid(field: HeadField, latent: Tensor, cells: int, *, chunk: int = 8192) -> Tensor:
    """The field of one head at all nodes of a grid over the box: (cells + 1,) * 3, indexed [x, y, z], units."""
    axis = torch.linspace(BOX_MIN, BOX_MAX, cells + 1, device=latent.device)
    nodes = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    condition = field.condition(latent[None])
    return torch.cat([field(part, condition) for part in nodes.split(chunk)]).reshape((cells + 1,) * 3)


@torch.no_grad()
def narrow_band(field: HeadField, latent: Tensor, cells: int, *, coarse: int, chunk: int = 8192) -> Tensor:
    """As `sdf_on_grid`, exact near the surface and interpolated elsewhere, from grids of half as many cells down to `coarse`."""
    values, finer = sdf_on_grid(field, latent, coarse), coarse
    condition = field.condition(latent[None])
    while finer < cells:
        band = _BAND * (BOX_MAX - BOX_MIN) / finer
        finer = min(2 * finer, cells)
        size = (finer + 1,) * 3
        values = torch.nn.functional.interpolate(values[None, None], size=size, mode="trilinear", align_corners=True)[0, 0]
        near = values.abs() < band
        axis = torch.linspace(BOX_MIN, BOX_MAX, finer + 1, device=values.device)
        exact = [field(axis[part], condition) for part in near.nonzero().split(chunk)]
        values[near] = torch.cat(exact) if exact else values[near]
    return values

"""A head's field at the nodes of a grid over the box: all of them, or exactly near the surface alone."""

from __future__ import annotations

import torch
from torch import Tensor

from avatar_kit.conventions import BOX_MAX, BOX_MIN
from avatar_kit.field.head_field import HeadField

_BAND = 0.6  # cells: a finer grid is evaluated where the distance interpolated from the coarser one is below this


@torch.no_grad()
def sdf_on_grid(field: HeadField, latent: Tensor, cells: int, *, chunk: int = 8192) -> Tensor:
    """The field of one head at all nodes of a grid over the box: (cells + 1,) * 3, indexed [x, y, z], units."""
    axis = torch.linspace(BOX_MIN, BOX_MAX, cells + 1, device=latent.device)
    nodes = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    condition = field.condition(latent[None])
    return torch.cat([field(part, condition) for part in nodes.split(chunk)]).reshape((cells + 1,) * 3)


@torch.no_grad()
def narrow_band(
    field: HeadField, latent: Tensor, cells: int, *, coarse: int | Tensor, where: Tensor | None = None, chunk: int = 8192
) -> Tensor:
    """As `sdf_on_grid`, exact at both ends of all edges that cross the surface, near it, and interpolated elsewhere, from grids of
    half as many cells down to `coarse`.

    Args:
        coarse: its cells along an axis, or its values.
        where: (m, m, m) on another grid over the box; where this is 0 all is interpolated.
    """
    values = sdf_on_grid(field, latent, min(coarse, cells)) if isinstance(coarse, int) else coarse.clone()
    finer, condition = len(values) - 1, field.condition(latent[None])
    while finer < cells:
        band = _BAND * (BOX_MAX - BOX_MIN) / finer
        finer = min(2 * finer, cells)
        values, axis = on_finer_grid(values, finer), torch.linspace(BOX_MIN, BOX_MAX, finer + 1, device=values.device)
        done = torch.zeros_like(values, dtype=torch.bool) if where is None else on_finer_grid(where, finer) == 0
        wanted = (values.abs() < band) & ~done
        while wanted.any():  # exact values may put the surface where the others are not
            values[wanted] = torch.cat([field(axis[part], condition) for part in wanted.nonzero().split(chunk)])
            done |= wanted
            wanted = beside_surface(values) & ~done
    return values


def on_finer_grid(values: Tensor, cells: int) -> Tensor:
    """Values (n, n, n) at the nodes of a grid over the box interpolated at those of another, (cells + 1,) * 3."""
    return torch.nn.functional.interpolate(values[None, None], size=(cells + 1,) * 3, mode="trilinear", align_corners=True)[0, 0]


def beside_surface(values: Tensor) -> Tensor:
    """Which nodes (n, n, n) have one of the other sign beside them along an axis."""
    inside = values < 0
    found = torch.zeros_like(inside)
    for axis, nodes in enumerate(inside.shape):
        changes = inside.narrow(axis, 1, nodes - 1) ^ inside.narrow(axis, 0, nodes - 1)
        for end in (0, 1):
            found.narrow(axis, end, nodes - 1).logical_or_(changes)
    return found

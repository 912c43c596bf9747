"""The field's zero level as a mesh: marching cubes on a narrow band, cut where the photos end, one piece."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from avatar_kit.config import MeshConfig
from avatar_kit.conventions import BOX_MAX, BOX_MIN
from avatar_kit.field.head_field import HeadField
from avatar_kit.kernels.marching_cubes import marching_cubes
from avatar_kit.prior.storage import sdf_on_grid
from avatar_kit.types import Mesh

_BAND = 1.2  # cells: a finer grid is evaluated where the distance interpolated from the coarser one is below this


@torch.no_grad()
def extract(field: HeadField, latent: Tensor, config: MeshConfig, *, cut_below: float = BOX_MIN) -> Mesh:
    """The head's surface in the head frame: watertight, one component.

    Args:
        cut_below: height (y, head frame) below which nothing is kept; the cut is closed.

    Returns:
        a mesh without faces when the field has no inside.
    """
    values = narrow_band(field, latent, config)
    axis = torch.linspace(BOX_MIN, BOX_MAX, config.resolution + 1, device=values.device)
    values = torch.maximum(values, (cut_below - axis)[None, :, None].to(values))
    return largest_component(marching_cubes(values))


@torch.no_grad()
def narrow_band(field: HeadField, latent: Tensor, config: MeshConfig, *, chunk: int = 8192) -> Tensor:
    """The field at the nodes of the fine grid: exact near the surface, interpolated from
    grids of half the resolution elsewhere."""
    values, cells = sdf_on_grid(field, latent, config.coarse), config.coarse
    condition = field.condition(latent[None])
    while cells < config.resolution:
        band = _BAND * (BOX_MAX - BOX_MIN) / cells
        cells = min(2 * cells, config.resolution)
        size = (cells + 1,) * 3
        values = torch.nn.functional.interpolate(values[None, None], size=size, mode="trilinear", align_corners=True)[0, 0]
        near = values.abs() < band
        axis = torch.linspace(BOX_MIN, BOX_MAX, cells + 1, device=values.device)
        exact = [field(axis[part], condition) for part in near.nonzero().split(chunk)]
        values[near] = torch.cat(exact) if exact else values[near]
    return values


def largest_component(mesh: Mesh) -> Mesh:
    """The connected component with the most faces."""
    if len(mesh.faces) == 0:
        return mesh
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    a, b = mesh.faces[:, [0, 1]].T
    c, d = mesh.faces[:, [1, 2]].T
    n = len(mesh.vertices)
    rows, columns = np.concatenate([a, c]), np.concatenate([b, d])
    _, label = connected_components(coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(n, n)), directed=False)
    kept = label == np.bincount(label[mesh.faces[:, 0]]).argmax()
    if kept.all():
        return mesh
    new_index = np.cumsum(kept) - 1
    faces = new_index[mesh.faces[kept[mesh.faces[:, 0]]]].astype(np.int32)
    colors = None if mesh.colors is None else mesh.colors[kept]
    return Mesh(mesh.vertices[kept], faces, colors)

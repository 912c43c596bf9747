"""The field's zero level as a mesh: a narrow band of values, an extractor, cut where the photos end, one piece."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from avatar_kit.backends import BackendMissing, pick
from avatar_kit.config import MeshConfig
from avatar_kit.conventions import BOX_MAX, BOX_MIN
from avatar_kit.field.head_field import HeadField
from avatar_kit.field.on_grid import narrow_band, on_finer_grid
from avatar_kit.kernels.grid_query import query_grids
from avatar_kit.kernels.marching_cubes import marching_cubes
from avatar_kit.mesh.handles import without_handles
from avatar_kit.mesh.slivers import without_slivers
from avatar_kit.mesh.unseen import smooth_unless_seen
from avatar_kit.types import Mesh

EXTRACTORS = {"warp": "warp", "flexicubes": "kaolin", "tetrahedra": "kaolin"}
"""Each way to extract and the backend that has it: marching cubes, FlexiCubes with the field's gradient, marching tetrahedra."""


@torch.no_grad()
def extract(
    field: HeadField, latent: Tensor, config: MeshConfig, *, cut_below: float = BOX_MIN, seen: Callable[[Tensor], Tensor] | None = None,
    outside: Callable[[Tensor], Tensor] | None = None, beside: Tensor | None = None,
) -> Mesh:  # fmt: skip
    """The head's surface in the head frame: watertight, one component, without slivers and, if `config.cut_handles` says so, handles.

    Args:
        cut_below: height (y, head frame) below which nothing is kept; the cut is closed.
        seen: of the field at a coarse grid's nodes, how far photos see the surface there, in [0, 1]: the rest is smoothed
            (`mesh.unseen`). By default all of it is seen.
        outside: of the values, how far outside what the head must be within the nodes of another grid over the box lie, units.
        beside: distances to what is no part of the field, at the nodes of another grid over the box, units.

    Returns:
        a mesh without faces when the field has no inside.

    Raises:
        BackendMissing: the extractor's library cannot be used.
    """
    chosen = pick_extractor(config, latent.device.type)
    if seen is None or config.unseen_blur <= 0:
        values = narrow_band(field, latent, config.resolution, coarse=config.coarse)
    else:
        values = smooth_unless_seen(field, latent, config, seen)
    axis = torch.linspace(BOX_MIN, BOX_MAX, config.resolution + 1, device=values.device)
    if beside is not None:
        values = torch.minimum(values, on_finer_grid(beside, config.resolution))
    if outside is not None:
        values = torch.maximum(values, on_finer_grid(outside(values), config.resolution))
    values = torch.maximum(values, (cut_below - axis)[None, :, None].to(values))
    values = without_slivers(values, config.sliver_depth)
    if config.cut_handles:
        values = without_handles(values)
    return _surface(values, chosen=chosen, field=field, latent=latent, cut=cut_below, beside=beside)


def _surface(values: Tensor, *, chosen: str, field: HeadField, latent: Tensor, cut: float, beside: Tensor | None) -> Mesh:
    """Zero level of `values`, its largest piece."""
    if chosen == "warp":
        return largest_component(marching_cubes(values))
    from avatar_kit.mesh import kaolin_extraction

    if chosen == "tetrahedra":
        return largest_component(kaolin_extraction.marching_tetrahedra(values))
    gradient = functools.partial(_gradient, field=field, latent=latent, cut=cut, beside=beside)
    return largest_component(kaolin_extraction.flexicubes(values, gradient))


def pick_extractor(config: MeshConfig, device: str) -> str:
    """The name in `EXTRACTORS` that serves `device` ("cpu" or "cuda").

    Raises:
        BackendMissing: why not, in words.
    """
    if config.extractor == "auto":
        backend = pick("extract", device)
        return next(name for name, needed in EXTRACTORS.items() if needed == backend)
    if config.extractor not in EXTRACTORS:
        raise BackendMissing(f"mesh.extractor={config.extractor}: not known. There are auto, {', '.join(EXTRACTORS)}.")
    pick("extract", device, EXTRACTORS[config.extractor])
    return config.extractor


def _gradient(points: Tensor, *, field: HeadField, latent: Tensor, cut: float, beside: Tensor | None, chunk: int = 8192) -> Tensor:
    """Gradient (N, 3) at `points` (N, 3) of the field, of what is beside it where that is less, or of the cut where that is greater."""
    condition = field.condition(latent[None])
    found = [field.with_gradient(part, condition) for part in points.split(chunk)]
    value, gradient = (torch.cat(parts) for parts in zip(*found))
    if beside is not None:
        other = query_grids(points, [beside.reshape(-1, 1)])[..., 0]
        gradient = torch.where((other[0] < value)[:, None], other[1:].T, gradient)
        value = torch.minimum(value, other[0])
    downwards = torch.tensor([0.0, -1.0, 0.0]).to(points)
    return torch.where((cut - points[:, 1] > value)[:, None], downwards, gradient)


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

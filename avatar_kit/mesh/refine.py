"""Finer triangles where the photos see the surface, with their new vertices on the field's zero level."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from avatar_kit.field.head_field import HeadField
from avatar_kit.types import Array, Mesh


def subdivide(mesh: Mesh, chosen: Array) -> tuple[Mesh, Array]:
    """Split every edge of the `chosen` faces (F,) bool at its middle; their neighbours are split to fit, so that a
    closed mesh stays closed. Colours at the middles are the means of their ends'.

    Returns:
        the mesh, whose first V vertices are the old ones, and the indices of the new vertices.
    """
    count = len(mesh.vertices)
    corners = mesh.faces.astype(np.int64)
    ends = np.sort(np.stack([corners, np.roll(corners, -1, axis=1)], axis=-1), axis=-1)  # edge k: corner k to k + 1
    keys = ends[..., 0] * count + ends[..., 1]
    split = np.unique(keys[chosen])
    position = np.searchsorted(split, keys).clip(max=max(len(split) - 1, 0))
    marked = split[position] == keys if len(split) else np.zeros(keys.shape, bool)
    middle = np.where(marked, count + position, -1)
    a, b = split // count, split % count
    faces = [corners[marked.sum(1) == 0]]
    for turn in range(3):  # turn each face so that one pattern of split edges serves all three
        c, m = np.roll(corners, -turn, axis=1), np.roll(middle, -turn, axis=1)
        one = (m[:, 0] >= 0) & (m[:, 1] < 0) & (m[:, 2] < 0)
        faces += _triangles(c[one], m[one], [("c0", "m0", "c2"), ("m0", "c1", "c2")])
        two = (m[:, 0] >= 0) & (m[:, 1] >= 0) & (m[:, 2] < 0)
        faces += _triangles(c[two], m[two], [("m0", "c1", "m1"), ("c0", "m0", "m1"), ("c0", "m1", "c2")])
    three = (middle >= 0).all(1)
    faces += _triangles(corners[three], middle[three], [("c0", "m0", "m2"), ("m0", "c1", "m1"), ("m1", "c2", "m2"), ("m0", "m1", "m2")])
    vertices, colors = (
        values if values is None else np.concatenate([values, (values[a] + values[b]) / 2.0]) for values in (mesh.vertices, mesh.colors)
    )
    assert vertices is not None
    return Mesh(vertices, np.concatenate(faces).astype(np.int32), colors), np.arange(count, len(vertices))


def _triangles(corners: Array, middles: Array, pattern: list[tuple[str, str, str]]) -> list[Array]:
    tables = {"c": corners, "m": middles}
    return [np.stack([tables[name[0]][:, int(name[1])] for name in triangle], axis=1) for triangle in pattern]


@torch.no_grad()
def onto_surface(points: Array, normals: Array, field: HeadField, latent: Tensor, *, reach: float, chunk: int = 8192) -> Array:
    """Move `points` (N, 3), head frame, along their unit `normals` (N, 3) to the field's zero level.

    One step of -d, at most `reach` units: from the middle of an edge the way is a hundredth of the edge, so that a
    slope of the field other than 1 does not matter and its gradient need not be evaluated.
    """
    if len(points) == 0:
        return points
    condition = field.condition(latent[None])
    parts = torch.from_numpy(np.ascontiguousarray(points, np.float32)).to(latent.device).split(chunk)
    distance = [field(part, condition) for part in parts]
    return points - torch.cat(distance).clamp(-reach, reach).cpu().numpy()[:, None] * normals

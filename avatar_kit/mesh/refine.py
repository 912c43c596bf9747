"""Finer triangles where the photos see the surface, as round as it is."""

from __future__ import annotations

import numpy as np

from avatar_kit.render.renderer import vertex_normals
from avatar_kit.types import Array, Mesh


def subdivide(mesh: Mesh, chosen: Array) -> tuple[Mesh, Array]:
    """Split every edge of the `chosen` faces (F,) bool at its middle; their neighbours are split to fit, so that a
    closed mesh stays closed; the new vertices lie where a surface with the mesh's normals would pass. Colours are dropped.

    Returns:
        the mesh, whose first V vertices are the old ones, and the indices of the new vertices.
    """
    count = len(mesh.vertices)
    touched = np.zeros(count, bool)
    touched[mesh.faces[chosen]] = True
    here = touched[mesh.faces]
    near = (here[:, 0] & here[:, 1]) | (here[:, 1] & here[:, 2]) | (here[:, 2] & here[:, 0])  # of the others no edge is split
    corners = mesh.faces[near].astype(np.int64)
    keys = np.stack([np.minimum(*ends) * count + np.maximum(*ends) for ends in _edges(corners)], axis=1)
    split = np.unique(keys[chosen[near]])
    position = np.searchsorted(split, keys).clip(max=max(len(split) - 1, 0))
    marked = split[position] == keys if len(split) else np.zeros(keys.shape, bool)
    middle = np.where(marked, count + position, -1)
    a, b = split // count, split % count
    halves = marked.sum(1, dtype=np.int8)
    faces = [mesh.faces[~near], corners[halves == 0]]
    for turn in range(3):  # turn each face so that one pattern of split edges serves all three
        order = [turn, (turn + 1) % 3, (turn + 2) % 3]
        first, second, _ = marked[:, order].T
        one, two = first & (halves == 1), first & second & (halves == 2)
        faces += _triangles(corners[one][:, order], middle[one][:, order], [("c0", "m0", "c2"), ("m0", "c1", "c2")])
        pattern = [("m0", "c1", "m1"), ("c0", "m0", "m1"), ("c0", "m1", "c2")]
        faces += _triangles(corners[two][:, order], middle[two][:, order], pattern)
    three = halves == 3
    faces += _triangles(corners[three], middle[three], [("c0", "m0", "m2"), ("m0", "c1", "m1"), ("m1", "c2", "m2"), ("m0", "m1", "m2")])
    normals = vertex_normals(mesh)
    vertices = np.concatenate([mesh.vertices, _middles(mesh.vertices[a], mesh.vertices[b], normals[a], normals[b])])
    return Mesh(vertices, np.concatenate(faces).astype(np.int32)), np.arange(count, len(vertices))


def _middles(a: Array, b: Array, normal_a: Array, normal_b: Array) -> Array:
    """Middles (N, 3) of the cubic curves from points `a` to `b` that leave both at right angles to their unit normals."""
    across = b - a
    bend = np.einsum("nc,nc->n", across, normal_a)[:, None] * normal_a - np.einsum("nc,nc->n", across, normal_b)[:, None] * normal_b
    return (a + b) / 2.0 - bend / 8.0


def _edges(faces: Array) -> list[tuple[Array, Array]]:
    """Both ends of edge k of each face (F, 3), which goes from corner k to k + 1."""
    a, b, c = faces.T
    return [(a, b), (b, c), (c, a)]


def _triangles(corners: Array, middles: Array, pattern: list[tuple[str, str, str]]) -> list[Array]:
    tables = {"c": corners, "m": middles}
    return [np.stack([tables[name[0]][:, int(name[1])] for name in triangle], axis=1) for triangle in pattern]

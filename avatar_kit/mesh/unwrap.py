"""A mesh light enough for viewers and games, cut open and laid flat for a texture."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from avatar_kit.heads.surgery import simplified
from avatar_kit.mesh.charts import Charts
from avatar_kit.types import Mesh, Texture

_SHORT = 0.3  # of the median: edges that are drawn together before the collapse


def simplify(mesh: Mesh, faces: int) -> Mesh:
    """The mesh with about `faces` triangles, by quadric edge collapse, without colours."""
    mesh = Mesh(mesh.vertices, mesh.faces)
    if len(mesh.faces) > faces:
        mesh = without_short_edges(mesh, _SHORT)
    if len(mesh.faces) <= faces:
        return mesh
    low = mesh.vertices.min(0)
    scale = float((mesh.vertices.max(0) - low).max())  # the library's thresholds are absolute, meant for lengths near 1
    collapsed = simplified(Mesh((mesh.vertices - low) / scale, mesh.faces), faces)
    return Mesh(collapsed.vertices * scale + low, collapsed.faces)


def without_short_edges(mesh: Mesh, share: float) -> Mesh:
    """The mesh with edges below `share` of the median length drawn together to a point; what loses its area goes.

    Marching cubes leaves slivers whose edges an edge collapse may not touch, since it would turn a face over: with them
    a head stayed 0.8 mm from its fine mesh where it now stays 0.07, and fell into ten times as many charts.
    """
    edges = np.sort(np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]), axis=1)
    length = np.linalg.norm(mesh.vertices[edges[:, 0]] - mesh.vertices[edges[:, 1]], axis=1)
    short = edges[length < share * np.median(length)]
    count = len(mesh.vertices)
    groups, group = connected_components(coo_matrix((np.ones(len(short), bool), short.T), shape=(count, count)), directed=False)
    size = np.bincount(group, minlength=groups)
    vertices = np.stack([np.bincount(group, weights=column, minlength=groups) for column in mesh.vertices.T], axis=1) / size[:, None]
    faces = group[mesh.faces]
    kept = (faces != np.roll(faces, 1, axis=1)).all(1)
    return Mesh(vertices, faces[kept].astype(np.int32))


def unwrap(mesh: Mesh, laid: Charts) -> Mesh:
    """The mesh with a texture that is still blank, where its charts are; vertices are double where these end."""
    colors = None if mesh.colors is None else mesh.colors[laid.before]
    return Mesh(mesh.vertices[laid.before], laid.faces, colors, Texture(np.ones((1, 1, 3), np.float32), laid.uv))

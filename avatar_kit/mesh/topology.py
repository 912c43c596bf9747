"""Whether a surface is one piece, closed and without handles, and where its handles are. Counting alone, no geometry.

Each connected piece of an orientable surface has V - E + F = 2 - 2 genus - loops, loops being those along its boundary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

from avatar_kit.types import Array, Mesh

_WINDOWS = (0.05, 0.1, 0.2, 0.4)  # sides of the cubes in which handles are looked for, of the head frame: 10 to 80 mm


@dataclass(frozen=True)
class Topology:
    """Counts of a mesh.

    Attributes:
        components: pieces that no edge connects.
        genus: handles (through holes, as of a torus), of all pieces together, their open boundaries taken as closed.
        boundary_loops, boundary_edges: of edges that not exactly two faces share; 0 for a closed surface.
    """

    components: int
    genus: int
    boundary_loops: int
    boundary_edges: int


class Handle(NamedTuple):
    """A cube of side `size` around `centre` (3,) whose part of the surface has `genus` handles, the mesh's unit."""

    centre: Array
    size: float
    genus: int


def topology(mesh: Mesh) -> Topology:
    """Counts of a mesh, consistently wound. Faces that meet in a vertex alone are not connected."""
    if len(mesh.faces) == 0:
        return Topology(0, 0, 0, 0)
    pieces = _pieces(mesh.faces.astype(np.int64))
    return Topology(len(pieces.genus), int(pieces.genus.sum()), int(pieces.loops.sum()), pieces.boundary_edges)


def find_handles(mesh: Mesh, *, sizes: tuple[float, ...] = _WINDOWS) -> list[Handle]:
    """The smallest cubes that hold a handle whole, tried in growing `sizes`, half a side apart; none overlaps another.

    Handles that are larger than the largest cube are not among them.
    """
    found: list[Handle] = []
    centres = mesh.vertices[mesh.faces].mean(1)
    for size in sizes:
        base = np.floor(centres / (size / 2)).astype(np.int64)
        corners = np.stack(np.meshgrid(*[[-1, 0]] * 3, indexing="ij"), -1).reshape(-1, 3)
        windows = (base[None] + corners[:, None]).reshape(-1, 3)  # each face lies in eight cubes
        places, number = np.unique(windows, axis=0, return_inverse=True)
        faces = np.tile(mesh.faces.astype(np.int64), (len(corners), 1)) + number.reshape(-1, 1) * len(mesh.vertices)
        pieces = _pieces(faces)
        genus = np.bincount(number.ravel()[pieces.first_face], weights=pieces.genus, minlength=len(places)).astype(int)
        for window in np.flatnonzero(genus)[np.argsort(-genus[genus > 0], kind="stable")]:
            centre = (places[window] + 1) * size / 2
            if all(np.abs(centre - other.centre).max() >= (size + other.size) / 2 for other in found):
                found.append(Handle(centre, size, int(genus[window])))
    return found


class _Pieces(NamedTuple):
    """Per connected piece: `genus`, boundary `loops`, `first_face`."""

    genus: Array
    loops: Array
    first_face: Array
    boundary_edges: int


def _pieces(faces: Array) -> _Pieces:
    """Pieces of `faces` (F, 3). A vertex where only corners meet is taken apart, so that every piece is a manifold."""
    count = len(faces)
    start = faces.ravel()  # half-edge h leaves corner h for the next corner of its face
    following = np.arange(3 * count).reshape(-1, 3)[:, [1, 2, 0]].ravel()
    end = start[following]
    order = np.lexsort((np.maximum(start, end), np.minimum(start, end)))
    low, high = np.minimum(start, end)[order], np.maximum(start, end)[order]
    new = np.concatenate([[True], (low[1:] != low[:-1]) | (high[1:] != high[:-1])])
    edge = np.cumsum(new) - 1
    shared = np.bincount(edge)[edge] == 2
    pairs = order[shared].reshape(-1, 2)
    single = order[~shared]  # edges of one face, or of more than two: open either way

    a, b = pairs.T
    opposite = start[a] == end[b]
    same_start, same_end = np.where(opposite, following[b], b), np.where(opposite, b, following[b])
    vertex_count, vertex = _label(3 * count, np.concatenate([a, following[a]]), np.concatenate([same_start, same_end]))
    piece_count, piece = _label(count, a // 3, b // 3)

    vertices = np.zeros(vertex_count, np.int64)
    vertices[vertex] = np.repeat(piece, 3)
    edges = np.bincount(piece[a // 3], minlength=piece_count) + np.bincount(piece[single // 3], minlength=piece_count)
    euler = np.bincount(vertices, minlength=piece_count) - edges + np.bincount(piece, minlength=piece_count)
    _, loop = _label(vertex_count, vertex[single], vertex[following[single]])
    one_of_each = single[np.unique(loop[vertex[single]], return_index=True)[1]]
    loops = np.bincount(piece[one_of_each // 3], minlength=piece_count)
    first = np.unique(piece, return_index=True)[1]
    return _Pieces((2 - loops - euler) // 2, loops, first, len(np.unique(edge[~shared])))


def neighbours(mesh: Mesh) -> csr_matrix:
    """1.0 for every two vertices that an edge joins, (V, V), symmetric."""
    start, end = mesh.faces.ravel(), np.roll(mesh.faces, -1, axis=1).ravel()
    joined = csr_matrix((np.ones(2 * len(start)), (np.r_[start, end], np.r_[end, start])), shape=(len(mesh.vertices),) * 2)
    joined.data[:] = 1.0
    return joined


def _label(count: int, a: Array, b: Array) -> tuple[int, Array]:
    """Number of components of a graph of `count` nodes with edges from `a` to `b`, and the component of each node."""
    found, label = connected_components(coo_matrix((np.ones(len(a), bool), (a, b)), shape=(count, count)), directed=False)
    return int(found), label

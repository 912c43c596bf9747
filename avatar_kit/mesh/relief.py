"""The detail of normal maps as relief of a mesh.

A fit on coarse grids leaves lumps, and blurs eyelids and lips, where the photos' normals do not. Here vertices move along
their normals until edges lie at right angles to what the photos show: sparse least squares. What is wider than a given
reach stays where the fit, which has seen outlines and other photos, put it.
Source: Nehab et al. 2005, Efficiently combining positions and normals for precise 3D geometry.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import cg

from avatar_kit.kernels.height_system import height_system
from avatar_kit.mesh.photo_views import PhotoViews, sample
from avatar_kit.render.renderer import vertex_normals
from avatar_kit.types import Array, Mesh

_GIVEN = 100.0  # certainty of normals that come with a photo, a two-hundredth of a radian off; 1 is for a twentieth, of predicted ones
_MIXED = 0.8  # length of the mean of the normals around a pixel, below which these are of two surfaces
_WIDTH = 0.5  # of the robust weight: length of the difference between the normals of photo and mesh
_SMOOTH = 0.05  # of the certainty that normals mostly have: so sure it is, elsewhere, that a surface is smooth
_SMOOTHINGS = 6  # times that normals are averaged with those around, for what is smooth and for the ways along which vertices move
_FOLDED = 0.3  # cosine between a vertex's normal before and after, below which the surface has folded over: photos are not believed there
_TRIES = 2  # solutions, each without the normals that the one before folded over
_HELD = 1e4  # times as hard to move as others
_STIFFEST = 4.0  # an edge, of equilateral triangles 0.6: more between the ends of slivers slows the solution, less shows their pattern
_TOLERANCE, _MOST_STEPS = 0.05, 100  # of the conjugate gradients: relative residual, and how many


def photo_normals(views: PhotoViews, points: Array, normals: Array) -> tuple[Array, Array]:
    """Unit normals (N, 3) that photos show at surface `points` with `normals`, (N, 3), world frame; zero where none does. And their
    certainty (N,): how well the photos show a point times how sure their normals are, summed over photos."""
    total, certainty = np.zeros((len(points), 3)), np.zeros(len(points))
    for photo, pixels, weight in views.shown(points, normals):
        if photo.normals is None:
            continue
        on = np.flatnonzero(weight)
        shown = sample(photo.normals, pixels[on]).astype(np.float64)
        length = np.sqrt(np.einsum("nc,nc->n", shown, shown))
        sure = weight[on] * (length > _MIXED) * (_GIVEN if photo.confidence is None else sample(photo.confidence, pixels[on]))
        total[on] += (sure / np.maximum(length, 1e-6))[:, None] * shown @ photo.camera.world_from_camera[:3, :3].T
        certainty[on] += sure
    return _unit(total), certainty


def relief(mesh: Mesh, own: Array, shown: Array, certainty: Array, *, reach: float, held: Array) -> Mesh:
    """The mesh with the normals that are shown where they are certain.

    Args:
        own: the mesh's unit normals at its vertices, (V, 3).
        shown, certainty: of `photo_normals`.
        reach: what is narrower than some six times this, and the certainty's root, takes the shape that normals say; what is wider
            keeps its own. The mesh's unit.
        held: vertices that stay where they are, (V,) bool.
    """
    if not certainty.any():
        return mesh
    origin = mesh.vertices.mean(0)
    points, own, shown, certainty = (np.asarray(values, np.float32) for values in (mesh.vertices - origin, own, shown, certainty))
    edges = _edges(points, mesh.faces)
    up = _smoothed(own, edges)
    trust = certainty / np.square(1.0 + np.square(shown - own).sum(1) / _WIDTH**2)  # Geman and McClure: photos show another surface
    least = np.float32(_SMOOTH * np.percentile(certainty[certainty > 0], 90))
    stay = edges.area / reach**2 * np.where(held, _HELD, 1.0)
    height, moved = np.zeros(len(own), np.float32), mesh
    for _ in range(_TRIES):
        weight = np.maximum(trust, least)
        wanted = trust[:, None] * shown + (weight - trust)[:, None] * up  # where photos say little the surface is smooth
        height = _heights(points, edges, up, _unit(wanted), weight, stay.astype(np.float32), height)
        moved = Mesh(mesh.vertices + (height[:, None] * up).astype(np.float64), mesh.faces)
        folded = (np.einsum("vc,vc->v", own, vertex_normals(moved)) < _FOLDED) & (trust > 0)
        if not folded.any():
            break
        trust[_around(mesh.faces, folded)] = 0.0
    return moved


class _Edges(NamedTuple):
    """Every edge in both directions, sorted by where it starts, and the area around each vertex, (V,).

    Attributes:
        rows: of vertex i start the edges rows[i] to rows[i + 1], (V + 1,).
        end: the vertices at which they end, (E,).
        stiffness: half the sum of the cotangents of the angles that face the edge, which makes differences along edges
            finite elements; within bounds, as slivers would make it infinite, (E,).
    """

    rows: Array
    end: Array
    stiffness: Array
    area: Array


def _edges(points: Array, faces: Array) -> _Edges:
    count, corners = len(points), points[faces]
    sides = np.roll(corners, -1, axis=1) - corners
    double_area = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1)
    squares = np.einsum("fkc,fkc->fk", sides, sides)
    cotangents = (squares.sum(1, keepdims=True) - 2.0 * squares) / np.maximum(2.0 * double_area, 1e-12)[:, None]
    half = sparse.csr_matrix((cotangents.ravel() / 2.0, (faces.ravel(), np.roll(faces, -1, axis=1).ravel())), shape=(count, count))
    whole = sparse.csr_matrix(half + half.T)
    area = np.bincount(faces.ravel(), np.repeat(double_area, 3) / 6.0, count)
    return _Edges(whole.indptr, whole.indices, np.clip(whole.data, 0.0, _STIFFEST), area)


def _smoothed(normals: Array, edges: _Edges) -> Array:
    """Normals (V, 3) averaged with those around: along these neighbours move without getting in each other's way."""
    beside = sparse.csr_matrix((np.ones(len(edges.end), np.float32), edges.end, edges.rows), shape=(len(normals),) * 2)
    for _ in range(_SMOOTHINGS):
        normals = _unit(normals + beside @ normals)
    return normals


def _heights(points: Array, edges: _Edges, up: Array, wanted: Array, weight: Array, stay: Array, height: Array) -> Array:
    """How far each vertex goes along `up`, (V,), from `height` on: least squares of weight |grad height - slope|^2 + stay height^2."""
    parts = (edges.rows, edges.end, edges.stiffness, points, up, wanted, weight)
    diagonal, beside, pull = (part.numpy() for part in height_system(*map(torch.from_numpy, parts)))
    diagonal = np.maximum(diagonal + stay, 1e-12)
    matrix = sparse.diags(diagonal) - sparse.csr_matrix((beside, edges.end, edges.rows), shape=(len(points),) * 2)
    return cg(matrix, pull, height, rtol=_TOLERANCE, maxiter=_MOST_STEPS, M=sparse.diags(1.0 / diagonal))[0]


def _around(faces: Array, chosen: Array) -> Array:
    """The `chosen` vertices (V,) bool and two rings around them."""
    for _ in range(2):
        first, second, third = chosen[faces.T]
        chosen = chosen.copy()
        chosen[faces[first | second | third]] = True
    return chosen


def _unit(vectors: Array) -> Array:
    return vectors / np.sqrt(np.maximum(np.einsum("nc,nc->n", vectors, vectors), 1e-24))[:, None]

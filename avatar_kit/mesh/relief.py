"""The detail of normal maps as relief of a mesh.

A fit on coarse grids leaves lumps, and blurs eyelids and lips, where the photos' normals do not. Here vertices move along
their normals until edges lie at right angles to what the photos show: sparse least squares. What is wider than a given
reach stays where the fit, which has seen outlines and other photos, put it.
Source: Nehab et al. 2005, Efficiently combining positions and normals for precise 3D geometry.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
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
_CREASE = 0.05  # bend of normals at which they are half as certain: of 0.1 rad over 1 mm and none over the next, in a photo of a head
_CREASE_PX = 512  # longer side of a photo of which a bend is over one pixel, over two of one twice as large
_WIDTH = 0.5  # of the robust weight: length of the difference between the normals of photo and mesh
_SMOOTH = 0.05  # of the certainty that normals mostly have: so sure it is, elsewhere, that a surface is smooth
_SMOOTH_CREASED = 0.002  # ... and at creases
_SMOOTHINGS = 6  # times that normals are averaged with those around, for what is smooth and for the ways along which vertices move
_FOLDED = 0.3  # cosine between a vertex's normal before and after, below which the surface has folded over: photos are not believed there
_TRIES = 2  # solutions, each without the normals that the one before folded over
_HELD = 1e4  # times as hard to move as others
_STIFFEST = 4.0  # an edge, of equilateral triangles 0.6: more between the ends of slivers slows the solution, less shows their pattern
_TOLERANCE, _MOST_STEPS = 0.05, 100  # of the conjugate gradients: relative residual, and how many


class ShownNormals(NamedTuple):
    """What photos say of the normals at N points.

    Attributes:
        normals: unit, (N, 3), world frame; zero where no photo shows any.
        certainty: how well the photos show a point times how sure their normals are, summed over photos, (N,).
        evenness: the part of it that is left at creases, (N,); 1 where no photo shows any. Sides of creases are hidden or narrower than
            pixels: normals across them say little of heights, and would sink lips and noses. A single photo's are believed all the
            same: nothing else has told the fit of depths.
    """

    normals: Array
    certainty: Array
    evenness: Array


def photo_normals(views: PhotoViews, points: Array, normals: Array) -> ShownNormals:
    """The normals that photos show at surface `points` with unit `normals`, (N, 3), world frame."""
    total, certainty, anyhow = np.zeros((len(points), 3)), np.zeros(len(points)), np.zeros(len(points))
    for photo, pixels, weight in views.shown(points, normals):
        if photo.normals is None:
            continue
        on = np.flatnonzero(weight)
        shown = sample(photo.normals, pixels[on]).astype(np.float64)
        length = np.sqrt(np.einsum("nc,nc->n", shown, shown))
        sure = weight[on] * (length > _MIXED) * (_GIVEN if photo.confidence is None else sample(photo.confidence, pixels[on]))
        anyhow[on] += sure
        if views.with_normals > 1:
            sure /= 1.0 + np.square(sample(_bend(photo.normals), pixels[on]) / _CREASE)
        total[on] += (sure / np.maximum(length, 1e-6))[:, None] * shown @ photo.camera.world_from_camera[:3, :3].T
        certainty[on] += sure
    return ShownNormals(_unit(total), certainty, np.divide(certainty, anyhow, out=np.ones(len(points)), where=anyhow > 0))


def _bend(normals: Array) -> Array:
    """How much less evenly than on a cylinder a map of normals (H, W, 3) changes at each pixel: length of its second difference along
    rows or columns, the greater, (H, W) float32."""
    step = max(1, round(max(normals.shape) / _CREASE_PX))
    second = np.zeros((2 * step + 1, 1), np.float32)
    second[[0, step, -1], 0] = 1.0, -2.0, 1.0
    along = (cv2.filter2D(normals, -1, kernel, borderType=cv2.BORDER_REPLICATE) for kernel in (second, second.T))
    return np.sqrt(np.maximum(*(np.einsum("hwc,hwc->hw", bend, bend) for bend in along)))


def relief(mesh: Mesh, own: Array, photos: ShownNormals, *, reach: float, held: Array) -> Mesh:
    """The mesh with the normals that are shown where they are certain.

    Args:
        own: the mesh's unit normals at its vertices, (V, 3).
        photos: of `photo_normals`, at the vertices.
        reach: what is narrower than some six times this, and the certainty's root, takes the shape that normals say; what is wider
            keeps its own. The mesh's unit.
        held: vertices that stay where they are, (V,) bool.
    """
    if not photos.certainty.any():
        return mesh
    origin = mesh.vertices.mean(0)
    points, own, shown, certainty, evenness = (np.asarray(values, np.float32) for values in (mesh.vertices - origin, own, *photos))
    edges = _edges(points, mesh.faces)
    up = _smoothed(own, edges)
    trust = certainty / np.square(1.0 + np.square(shown - own).sum(1) / _WIDTH**2)  # Geman and McClure: photos show another surface
    least = np.maximum(_SMOOTH * evenness, _SMOOTH_CREASED) * np.float32(np.percentile(certainty[certainty > 0], 90))
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
    one, other, half = faces.ravel(), np.roll(faces, -1, axis=1).ravel(), cotangents.ravel() / 2.0
    both = np.concatenate([one, other]), np.concatenate([other, one])
    whole = sparse.csr_matrix((np.concatenate([half, half]), both), shape=(count, count))  # a sum of matrices would drop what cancels
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

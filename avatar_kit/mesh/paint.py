"""Colours from photos: each point of a surface takes what the photos that see it best show, and where none does what lies around it."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from avatar_kit.mesh.photo_views import PhotoViews, sample
from avatar_kit.mesh.topology import neighbours
from avatar_kit.types import Array, Camera, Mesh

_SHARPNESS = 8  # power of the weights: the best view wins, its neighbour takes over within some degrees
_AFTER = 1.25  # by how much better a photo must show a point than another of the same side: two would mix two expressions
_SAME_SIDE_DEG = 30.0  # between the views of two such photos
_SPREADING = 0.02  # of neighbours' colours against what photos are certain of: little where they are, all there is where they say nothing
_NO_COLOR = 1e-6  # of a middle grey: for pieces that no photo sees
_EXPECTED = 0.03  # of what is expected: nothing where photos see, all there is six vertices away from there


def shown_colors(views: PhotoViews, points: Array, normals: Array) -> tuple[Array, Array]:
    """What photos say of a surface's `points` with unit `normals`, (N, 3), world frame.

    Where several show a point, the one that shows it in most detail counts; of photos from one side, those before others in `views`
    first: photos of other days or expressions do not mix.

    Returns:
        sRGB (N, 3), and how certain the best photo is of it, (N,) in [0, 1]; at 0 the colour says nothing.
    """
    total, best, colors, certainty = np.zeros(len(points)), np.zeros(len(points)), np.zeros((len(points), 3)), np.zeros(len(points))
    before: list[Array] = []  # the photos' axes of view
    for photo, pixels, weight in views.shown(points, normals):
        axis = photo.camera.world_from_camera[:3, 2]
        place = sum(float(axis @ other) > np.cos(np.radians(_SAME_SIDE_DEG)) for other in before)
        before.append(axis)
        certainty = np.maximum(certainty, weight)
        on = np.flatnonzero(weight)
        quality = weight[on] * _detail(photo.camera, points[on], normals[on]) / _AFTER**place
        most = np.maximum(best[on], quality)
        kept, sharp = (best[on] / most) ** _SHARPNESS, (quality / most) ** _SHARPNESS
        total[on] = kept * total[on] + sharp
        colors[on] = kept[:, None] * colors[on] + sharp[:, None] * sample(photo.image, pixels[on])
        best[on] = most
    return colors / np.maximum(total, 1e-12)[:, None], certainty


def _detail(camera: Camera, points: Array, normals: Array) -> Array:
    """Pixels that a camera spends on a unit of the surface at `points` with unit `normals`, (N, 3), along its slope, (N,)."""
    towards = camera.centre - points
    away = np.linalg.norm(towards, axis=1)
    return np.einsum("nc,nc->n", normals, towards) / away * camera.intrinsics[0, 0] / away


def continued(
    mesh: Mesh, colors: Array, certainty: Array, *, like: tuple[Array, Array] | None = None, ease: Array | None = None,
    expected: Array | None = None,
) -> Array:  # fmt: skip
    """Colours of a mesh's vertices (V, 3), continued from where they are certain to where they are not: least squares of the differences
    to `colors` (V, 3), weighed by their `certainty` (V,), and of those between neighbours.

    Args:
        like: other colours (V, 3) and their certainty (V,), whose differences between neighbours are wanted where both are certain,
            instead of none (Perez, Gangnet, Blake, "Poisson image editing", SIGGRAPH 2003).
        ease: how easily colours go on at each vertex, (V,) above 0: low along lines that separate things. By default 1.
        expected: colours (V, 3) to which those that nothing is known of go over; by default they do not, but where a piece is not
            seen at all: to grey.
    """
    near = neighbours(mesh)
    one, beside = near.nonzero()
    if ease is not None:
        near.data = np.minimum(ease[one], ease[beside])
    apart = sparse.diags(np.asarray(near.sum(1)).ravel()) - near
    guessed = np.full(len(colors), _NO_COLOR * _SPREADING)
    if expected is not None:
        unknown = 1 - certainty if like is None else (1 - certainty) * (1 - like[1])
        guessed += _EXPECTED * _SPREADING * unknown
    sure = certainty**2 + guessed
    known = (certainty**2)[:, None] * colors + guessed[:, None] * (0.5 if expected is None else expected)
    if like is not None:
        other, sure_of_it = like
        weight = near.data * np.minimum(sure_of_it[one], sure_of_it[beside])
        wanted = weight[:, None] * (other[one] - other[beside])
        known += _SPREADING * np.stack([np.bincount(one, channel, len(colors)) for channel in wanted.T], axis=1)
    return splu((sparse.diags(sure) + _SPREADING * apart).tocsc()).solve(known)

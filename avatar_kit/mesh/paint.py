"""Colours from photos: each point of a surface takes what the photos that see it best show, and where none does what lies around it."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from avatar_kit.mesh.photo_views import PhotoViews, sample
from avatar_kit.mesh.topology import neighbours
from avatar_kit.types import Array, Mesh

_SHARPNESS = 4  # power of the weights: the best view wins, its neighbour takes over within some degrees
_SPREADING = 0.02  # of neighbours' colours against what photos are certain of: little where they are, all there is where they say nothing
_NO_COLOR = 1e-6  # of a middle grey: for pieces that no photo sees
_EXPECTED = 0.03  # of what is expected: nothing where photos see, all there is six vertices away from there


def shown_colors(views: PhotoViews, points: Array, normals: Array) -> tuple[Array, Array]:
    """What photos say of a surface's `points` with unit `normals`, (N, 3), world frame.

    Returns:
        sRGB (N, 3), and how certain the best photo is of it, (N,) in [0, 1]; at 0 the colour says nothing.
    """
    total, best, colors = np.zeros(len(points)), np.zeros(len(points)), np.zeros((len(points), 3))
    for photo, pixels, weight in views.shown(points, normals):
        best = np.maximum(best, weight)
        on = np.flatnonzero(weight)
        sharp = weight[on] ** _SHARPNESS
        total[on] += sharp
        colors[on] += sharp[:, None] * sample(photo.image, pixels[on])
    return colors / np.maximum(total, 1e-12)[:, None], best


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

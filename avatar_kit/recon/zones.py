"""Hair, skin and clothes of an average head: what they look like where photos show them says how to colour where none does."""

from __future__ import annotations

import numpy as np

from avatar_kit.heads.hair import AVERAGE_CROWN
from avatar_kit.normals.skin import above_hairline
from avatar_kit.types import Array

_COLLAR, _COLLAR_SLOPE, _NECK = -0.55, 0.5, 0.3  # y of an average collar at z = 0, by how much it falls forwards, half a neck's width
_WIDTH, _ACROSS = 0.1, 0.01  # units to either side of a border over which colours go on less easily, and how easily on the border itself
_CHIN, _INSIDE = -0.4, 0.06  # y from which skin, and units within a border from which hair and clothes, are no mistake
_CERTAIN = 0.1  # of what is shown, from which it counts for what a zone looks like
_FEWEST = 8  # of points that do


def _within_hair(points: Array) -> Array:
    """How far `points` (N, 3), head frame, lie above an average hairline, units."""
    return above_hairline(points, AVERAGE_CROWN)


def _above_collar(points: Array) -> Array:
    """The same of an average collar; shoulders are below it however high they are."""
    return points[:, 1] - _COLLAR + _COLLAR_SLOPE * points[:, 2] - np.maximum(np.abs(points[:, 0]) - _NECK, 0.0)


def ease(points: Array) -> Array:
    """How easily colours go on at `points` (N, 3), head frame: hardly near hairline and collar, so that faces and necks do not colour the
    back of a head, nor clothes a neck; in (0, 1]."""
    border = np.minimum(np.abs(_within_hair(points)), np.abs(_above_collar(points)))
    return np.clip(np.square(border / _WIDTH), _ACROSS, 1.0)


def expected_colors(points: Array, colors: Array, certainty: Array) -> Array:
    """The colour of each point's zone, (N, 3): the median of what is certain there; where next to nothing is, of all that is above the
    collar.

    Args:
        points: (N, 3), head frame.
        colors: shown, sRGB (N, 3); certainty: of it, (N,).
    """
    hair, collar = _within_hair(points), _above_collar(points)
    sure = certainty > _CERTAIN
    head = sure & (collar >= 0)
    expected = np.broadcast_to(np.median(colors[head], axis=0) if head.any() else 0.5, colors.shape).copy()
    for zone, inside in (
        ((hair <= 0) & (collar >= 0), points[:, 1] > _CHIN),  # skin
        ((hair > 0) & (collar >= 0), hair > _INSIDE),
        (collar < 0, collar < -_INSIDE),  # clothes
    ):
        known = sure & zone & inside
        if known.sum() >= _FEWEST:
            expected[zone] = np.median(colors[known], axis=0)
    return expected

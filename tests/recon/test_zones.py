"""Hair, skin and clothes of an average head."""

from __future__ import annotations

import numpy as np

from avatar_kit.recon.zones import ease, expected_colors
from avatar_kit.types import Array

PLACES = {
    "skin": [(0.0, 0.3, 0.5), (0.35, 0.0, 0.2), (0.2, -0.5, 0.1), (-0.35, 0.0, 0.2)],
    "hair": [(0.0, 0.75, 0.2), (0.0, 0.2, -0.5), (0.3, 0.5, 0.0), (0.0, -0.1, -0.5)],
    "clothes": [(0.0, -0.8, 0.3), (0.0, -0.5, -0.4), (0.8, -0.4, 0.0), (-0.8, -0.4, 0.0)],
}
COLORS = {"skin": (0.8, 0.5, 0.4), "hair": (0.2, 0.1, 0.0), "clothes": (0.1, 0.2, 0.7)}
POINTS = np.array([point for places in PLACES.values() for point in places])
WANTED = np.array([COLORS[zone] for zone, places in PLACES.items() for _ in places])


def shown(rng: np.random.Generator, *zones: str) -> tuple[Array, Array, Array]:
    """The first place of each of these zones, thirty times, with every third colour quite another; then all places, of which nothing is
    known."""
    seen = np.array([PLACES[zone][0] for zone in zones for _ in range(30)]).reshape(-1, 3)
    colors = np.array([COLORS[zone] for zone in zones for _ in range(30)]).reshape(-1, 3)
    colors[::3] = rng.random((len(colors[::3]), 3))
    points = np.concatenate([seen, POINTS])
    return points, np.concatenate([colors, np.full(POINTS.shape, 9.0)]), np.repeat([1.0, 0.0], [len(seen), len(POINTS)])


def test_each_zone_looks_like_what_is_seen_of_it(rng: np.random.Generator) -> None:
    found = expected_colors(*shown(rng, "skin", "hair", "clothes"))[-len(POINTS) :]
    np.testing.assert_allclose(found, WANTED, atol=0.1)
    assert len(np.unique(found, axis=0)) == 3


def test_what_is_not_seen_looks_like_what_is_of_the_head(rng: np.random.Generator) -> None:
    points, colors, certainty = shown(rng, "skin", "clothes")
    found = expected_colors(points, colors, certainty)[-len(POINTS) :]
    np.testing.assert_allclose(found, np.repeat(WANTED[[0, 0, 8]], 4, axis=0), atol=0.1)  # bald
    np.testing.assert_array_equal(expected_colors(*shown(rng, "clothes"))[-len(POINTS) : -4], np.full((8, 3), 0.5))
    np.testing.assert_array_equal(expected_colors(POINTS, WANTED, np.zeros(len(POINTS))), np.full(POINTS.shape, 0.5))


def test_forehead_and_throat_say_nothing_of_hair_and_clothes(rng: np.random.Generator) -> None:
    """Close to a border average heads may be wrong, and collars may be high."""
    border = np.array([(0.0, 0.58, 0.45), (0.0, -0.5, 0.2), (0.0, -0.68, 0.2)]).repeat(60, axis=0)
    points, colors, certainty = shown(rng, "skin", "hair", "clothes")
    near = np.full(border.shape, 0.99), np.ones(len(border))
    found = expected_colors(*(np.concatenate(pair) for pair in zip((border, *near), (points, colors, certainty), strict=True)))
    np.testing.assert_allclose(found[-len(POINTS) :], WANTED, atol=0.1)


def test_colours_hardly_go_on_across_hairline_and_collar() -> None:
    assert (ease(POINTS) == 1).mean() > 0.7
    for inside, outside in (("hair", "skin"), ("skin", "clothes")):
        a, b = np.array(PLACES[inside][0]), np.array(PLACES[outside][0])
        way = a + np.linspace(0, 1, 200)[:, None] * (b - a)
        assert ease(way).min() < 0.02

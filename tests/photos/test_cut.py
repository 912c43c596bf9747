"""Subjects cut out by their colours."""

from __future__ import annotations

import numpy as np
import pytest

from avatar_kit.photos.cut import cut_by_colors
from avatar_kit.types import Array


def disc(size: int, middle: tuple[float, float], radius: float) -> Array:
    y, x = np.mgrid[:size, :size] + 0.5
    return np.hypot(x - middle[0], y - middle[1]) < radius


def picture(subject: Array, rng: np.random.Generator) -> Array:
    """Red cloth with stripes on blue and grey."""
    y, x = np.mgrid[: len(subject), : len(subject)]
    behind = np.where((x // 16 % 2 == 0)[..., None], [0.2, 0.3, 0.7], [0.6, 0.6, 0.6])
    cloth = np.where((y // 8 % 2 == 0)[..., None], [0.7, 0.2, 0.1], [0.3, 0.05, 0.05])
    return np.clip(np.where(subject[..., None], cloth, behind) + rng.normal(0, 0.03, (*subject.shape, 3)), 0, 1)


@pytest.mark.parametrize("size", [128, 512])
def test_holes_and_what_sticks_out_go_where_their_colours_belong(size: int, rng: np.random.Generator) -> None:
    subject = disc(size, (size / 2, size / 2), size / 4)
    hole, bump = disc(size, (0.5 * size, 0.6 * size), 0.08 * size), disc(size, (0.8 * size, 0.5 * size), 0.1 * size)
    probability = np.where(subject, 0.97, 0.03)
    probability[hole], probability[bump & ~subject] = 0.3, 0.7
    before = (probability > 0.5) != subject
    assert before.mean() > 0.03
    image = picture(subject, rng)
    found = cut_by_colors(image, probability)
    assert ((found > 0.5) != subject).mean() < 0.005
    assert found.min() == 0
    assert found.max() == 1
    np.testing.assert_array_equal(found, cut_by_colors(image, probability))


def test_what_is_sure_stays_whatever_its_colour(rng: np.random.Generator) -> None:
    subject = disc(128, (64, 64), 32)
    patch = disc(128, (64, 64), 10)
    image = picture(subject & ~patch, rng)  # a blue badge
    assert (cut_by_colors(image, np.where(subject, 0.97, 0.03))[patch] == 1).all()


def test_a_torso_taken_for_what_is_behind_it_goes_where_its_colours_belong(rng: np.random.Generator) -> None:
    """The middle of the subject is surely none, as the network has it; said to be torso, it is cut out with the rest and what lies
    beside the subject, said to be torso too, is not."""
    subject = disc(128, (64, 64), 40)
    lost, beside = disc(128, (64, 64), 20), disc(128, (64, 118), 8)
    image, probability = picture(subject, rng), np.where(subject & ~lost, 0.97, 0.03)
    assert (cut_by_colors(image, probability)[lost] == 0).all()
    assert ((cut_by_colors(image, probability, lost | beside) > 0.5) != subject).mean() < 0.005


@pytest.mark.parametrize("probability", [0.02, 0.98])
def test_a_picture_of_one_side_alone_is_left_as_it_is(probability: float, rng: np.random.Generator) -> None:
    values = np.full((64, 48), probability)
    np.testing.assert_array_equal(cut_by_colors(rng.random((64, 48, 3)), values), values.astype(np.float32))

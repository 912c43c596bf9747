"""What is cut off for being thin, and what is not."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from avatar_kit.mesh.slivers import without_slivers

CELLS, DEPTH = 64, 0.06


def nodes() -> Tensor:
    axis = torch.linspace(-1.0, 1.0, CELLS + 1)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1)


def ball(middle: tuple[float, float, float], radius: float) -> Tensor:
    return (nodes() - torch.tensor(middle)).norm(dim=-1) - radius


def plate(middle: tuple[float, float, float], half: tuple[float, float, float]) -> Tensor:
    """Signed distance to a box."""
    q = (nodes() - torch.tensor(middle)).abs() - torch.tensor(half)
    return q.clamp(min=0).norm(dim=-1) + q.amax(-1).clamp(max=0)


def test_a_ball_and_its_nose_stay() -> None:
    head = torch.minimum(ball((0, 0, 0), 0.5), ball((0, 0, 0.5), 0.1))
    assert torch.equal(without_slivers(head, DEPTH), head)
    assert torch.equal(without_slivers(head, 0.0), head)


def test_a_thin_sheet_goes_and_a_thick_one_stays() -> None:
    head = ball((0, 0, 0), 0.5)
    for half_thickness, stays in ((0.04, False), (0.1, True)):
        sheet = plate((0.65, 0.0, 0.0), (0.25, half_thickness, 0.25))  # from within the ball far out
        both = torch.minimum(head, sheet)
        found = without_slivers(both, DEPTH)
        outer = (sheet < 0) & (head > 4.5 * DEPTH)
        assert outer.any()
        assert bool((found[outer] < 0).all()) is stays
        assert bool((found[outer] > 0).all()) is not stays
        own = head < 0
        assert torch.equal(found[own], both[own])


def test_what_hangs_by_a_thread_goes() -> None:
    head, lump = ball((0, 0, 0), 0.4), ball((0.75, 0, 0), 0.15)
    thread = plate((0.5, 0, 0), (0.3, 0.035, 0.035))
    found = without_slivers(torch.minimum(torch.minimum(head, lump), thread), DEPTH)
    assert (found[lump < 0] > 0).all()
    assert (found[head < 0] < 0).all()


def test_where_nothing_is_deep_nothing_changes() -> None:
    thin = plate((0, 0, 0), (0.5, 0.02, 0.5))
    assert torch.equal(without_slivers(thin, DEPTH), thin)
    empty = torch.ones_like(thin)
    assert torch.equal(without_slivers(empty, DEPTH), empty)


def test_what_reaches_the_box_is_cut_there_all_the_same() -> None:
    bust = plate((0, -0.8, 0), (0.6, 0.6, 0.3))  # goes on below the box
    found = without_slivers(bust, DEPTH)
    assert np.array_equal(found.numpy() < 0, bust.numpy() < 0)

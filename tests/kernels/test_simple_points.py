"""Growing without changing the topology: against a naive twin, and on what has a closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference import simple_points_twin
from scipy import ndimage

from avatar_kit.kernels.simple_points import grow_simply


@pytest.mark.parametrize("share", [0.4, 0.6, 0.9])
def test_it_grows_as_its_twin(share: float, rng: np.random.Generator) -> None:
    allowed = rng.random((9, 8, 10)) < share
    start = np.zeros_like(allowed)
    start[4, 4, 4] = start[6, 5, 5] = True
    priority = rng.normal(size=allowed.shape).astype(np.float32)
    found = grow_simply(*(torch.from_numpy(values) for values in (start, allowed, priority)))
    expected = simple_points_twin.grow_simply(start, allowed, priority)
    assert expected.sum() > 10
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize(("size", "start", "shallow"), [(7, (1, 3), (5, 3)), (43, (1, 20), (25, 1))])
def test_a_ring_is_left_open_where_it_is_shallowest(size: int, start: tuple[int, int], shallow: tuple[int, int]) -> None:
    """However far that is: on the large ring a race along both sides would end opposite to the start, not a quarter of the way around."""
    allowed = torch.zeros(size, size, 3, dtype=torch.bool)
    allowed[1:-1, 1:-1, 1] = True
    allowed[2:-2, 2:-2, 1] = False
    begin = torch.zeros_like(allowed)
    begin[*start, 1] = True
    priority = torch.rand(allowed.shape, generator=torch.Generator().manual_seed(0)) - 1.0
    priority[*shallow, 1] = 1.0
    found = grow_simply(begin, allowed, priority)
    assert (allowed & ~found).nonzero().tolist() == [[*shallow, 1]]


def test_a_ball_is_filled_whole_and_a_second_one_is_not_reached() -> None:
    axis = torch.arange(-8.0, 9.0)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    first, second = ((x + 3) ** 2 + y**2 + z**2).sqrt() - 3.2, ((x - 5) ** 2 + y**2 + z**2).sqrt() - 2.1
    distance = torch.minimum(first, second)
    start = torch.zeros_like(distance, dtype=torch.bool)
    start[5, 8, 8] = True
    found = grow_simply(start, distance < 0, distance)
    assert torch.equal(found, first < 0)
    assert ndimage.label(found.numpy())[1] == 1

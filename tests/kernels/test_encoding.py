"""The fused positional encoding: its torch twin, gradcheck, progressive masking on the way."""

from __future__ import annotations

import pytest
import torch
from reference import encoding_twin

from avatar_kit.kernels.encoding import positional_encoding


@pytest.mark.parametrize("derivatives", [True, False])
@pytest.mark.parametrize(("frequencies", "opened"), [(0, 0.0), (1, 1.0), (5, 5.0), (5, 2.4)])
def test_the_kernel_gives_what_its_twin_gives(frequencies: int, opened: float, derivatives: bool, generator: torch.Generator) -> None:
    points = torch.rand(40, 3, generator=generator, dtype=torch.float64) * 2 - 1
    expected = encoding_twin.positional_encoding(points, frequencies, opened, derivatives=derivatives)
    torch.testing.assert_close(positional_encoding(points, frequencies, opened, derivatives=derivatives), expected, rtol=1e-9, atol=1e-9)
    rough = positional_encoding(points.float(), frequencies, opened, derivatives=derivatives)
    torch.testing.assert_close(rough.double(), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("derivatives", [True, False])
def test_gradients_with_respect_to_the_points(derivatives: bool, generator: torch.Generator) -> None:
    points = (torch.rand(6, 3, generator=generator, dtype=torch.float64) * 2 - 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: positional_encoding(x, 4, 2.5, derivatives=derivatives), (points,))


def test_no_points_and_points_that_need_no_gradient() -> None:
    assert positional_encoding(torch.zeros(0, 3), 3, 3.0, derivatives=True).shape == (4, 0, 21)
    assert not positional_encoding(torch.zeros(2, 3), 3, 3.0, derivatives=True).requires_grad

"""Smoothness, whose gradient is written by hand."""

from __future__ import annotations

import torch

from avatar_kit.field.smoothness import grid_roughness, smoothness_loss


def test_smoothness_is_the_mean_square_of_differences_along_each_axis(generator: torch.Generator) -> None:
    change = torch.randn(4, 5, 3, 2, generator=generator, dtype=torch.float64).requires_grad_()
    expected = sum(change.diff(dim=axis).square().mean() for axis in range(3))
    torch.testing.assert_close(smoothness_loss(change), expected)
    assert torch.autograd.gradcheck(smoothness_loss, (change,))
    (gradient,) = torch.autograd.grad(3.0 * smoothness_loss(change), change)
    torch.testing.assert_close(gradient, torch.autograd.grad(3.0 * expected, change)[0])


def test_constant_grids_are_smooth_and_levels_are_summed(generator: torch.Generator) -> None:
    rough = torch.randn(27, 2, generator=generator)
    assert grid_roughness([]) == 0
    assert abs(grid_roughness([torch.ones(27, 2), torch.full((125, 2), 3.0)])) < 1e-5  # rounding
    torch.testing.assert_close(grid_roughness([rough]), smoothness_loss(rough.reshape(3, 3, 3, 2)))

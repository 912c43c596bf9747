"""Losses with gradients written by hand."""

from __future__ import annotations

import torch

from avatar_kit.recon.losses import smoothness_loss


def test_smoothness_is_the_mean_square_of_differences_along_each_axis(generator: torch.Generator) -> None:
    change = torch.randn(4, 5, 3, 2, generator=generator, dtype=torch.float64).requires_grad_()
    expected = sum(change.diff(dim=axis).square().mean() for axis in range(3))
    torch.testing.assert_close(smoothness_loss(change), expected)
    assert torch.autograd.gradcheck(smoothness_loss, (change,))
    (gradient,) = torch.autograd.grad(3.0 * smoothness_loss(change), change)
    torch.testing.assert_close(gradient, torch.autograd.grad(3.0 * expected, change)[0])

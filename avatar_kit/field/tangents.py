"""Values and their derivatives with respect to x, carried forward together.

A "stack" is a tensor (R, N, C): row 0 is a value at N points, and where R = 4, rows 1 to 3 are its derivatives
d/dx, d/dy, d/dz. Carrying the three tangents forward costs three more rows of the same matrix product and makes
normals an ordinary output, so that losses on normals need no double backward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_FLAT = 1e-9


class _SoftplusStack(torch.autograd.Function):
    """h = softplus(u + shift), dh = sigmoid(beta (u + shift)) du; row 0 of the stack is u, the others du."""

    @staticmethod
    def forward(ctx: Any, stack: Tensor, shift: Tensor, beta: float) -> Tensor:
        heads = len(shift)
        u = (_runs(stack[0], heads) + shift[:, None]).flatten(0, 1)
        slope = _slope(u, beta)
        out = torch.empty_like(stack)
        out[0] = _softplus(u, slope, beta)
        torch.mul(stack[1:], slope, out=out[1:])
        ctx.save_for_backward(stack[1:], slope)
        ctx.beta, ctx.heads = beta, heads
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        du, slope = ctx.saved_tensors
        grad_stack = grad * slope
        if len(du):
            curvature = slope * (1 - slope) * ctx.beta
            grad_stack[0].addcmul_((grad[1:] * du).sum(0), curvature)
        return grad_stack, _runs(grad_stack[0], ctx.heads).sum(1), None


def _runs(values: Tensor, heads: int) -> Tensor:
    """The values (N, C) of each head (B, N / B, C); also of no points at all, each with a head of its own."""
    return values.unflatten(0, (heads, len(values) // max(heads, 1)))


def _slope(u: Tensor, beta: float) -> Tensor:
    """Derivative of softplus, sigmoid(beta u), kept so far from 0 that no product of three layers' is denormal: those are slow."""
    return torch.sigmoid(u * beta).clamp_(min=_FLAT)


def _softplus(u: Tensor, slope: Tensor, beta: float) -> Tensor:
    """log(1 + exp(beta u)) / beta = max(u, 0) - log(sigmoid(beta |u|)) / beta, from the slope that is there already.

    torch's own takes far longer on CPUs, where its log1p is not vectorised.
    """
    return u.clamp(min=0.0).sub_(torch.maximum(slope, 1.0 - slope).log_(), alpha=1.0 / beta)


def softplus(stack: Tensor, shift: Tensor, beta: float) -> Tensor:
    """Softplus with sharpness `beta` of a stack (R, N, C) whose values are first shifted.

    Args:
        shift: (B, C), a bias per head: the points are B runs of N / B points.
    """
    if len(stack) == 1 and not torch.is_grad_enabled():  # values alone, as in extraction: no slopes to keep
        shifted = _runs(stack[0], len(shift)) + shift[:, None]
        u = shifted.flatten(0, 1)
        return _softplus(u, _slope(u, beta), beta)[None]
    return _SoftplusStack.apply(stack, shift, beta)

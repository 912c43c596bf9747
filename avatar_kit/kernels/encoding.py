"""Positional encoding of points and its derivatives with respect to them, in one Warp kernel.

Written out in torch it is a hundred tiny operations, which cost more than their arithmetic. Twin:
`tests/reference/encoding_twin.py`.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import warp as wp
from torch import Tensor

from avatar_kit.kernels import runtime


@functools.cache
def _kernels(dtype: torch.dtype) -> tuple[wp.Kernel, wp.Kernel]:
    real = runtime.FLOATS[dtype]
    vec3 = wp.types.vector(length=3, dtype=real)
    vectors, reals, stacks = wp.array(dtype=vec3), wp.array(dtype=real), wp.array(dtype=real, ndim=3)

    def forward(points: Any, weights: Any, frequencies: Any, derivatives: Any, out: Any):
        i = wp.tid()
        p = points[i]
        for axis in range(3):
            out[0, i, axis] = p[axis]
            if derivatives:
                out[1 + axis, i, axis] = real(1.0)
            sine = wp.sin(p[axis] * real(wp.pi))
            cosine = wp.cos(p[axis] * real(wp.pi))
            omega = real(wp.pi)
            for k in range(frequencies):
                at = 3 + 6 * k + axis
                out[0, i, at] = weights[k] * sine
                out[0, i, at + 3] = weights[k] * cosine
                if derivatives:
                    out[1 + axis, i, at] = weights[k] * omega * cosine
                    out[1 + axis, i, at + 3] = -weights[k] * omega * sine
                doubled = real(2.0) * sine * cosine
                cosine = real(1.0) - real(2.0) * sine * sine
                sine = doubled
                omega = omega * real(2.0)

    def backward(points: Any, weights: Any, frequencies: Any, derivatives: Any, grad: Any, grad_points: Any):
        i = wp.tid()
        p = points[i]
        total = vec3()
        for axis in range(3):
            change = grad[0, i, axis]
            sine = wp.sin(p[axis] * real(wp.pi))
            cosine = wp.cos(p[axis] * real(wp.pi))
            omega = real(wp.pi)
            for k in range(frequencies):
                at = 3 + 6 * k + axis
                change += weights[k] * omega * (grad[0, i, at] * cosine - grad[0, i, at + 3] * sine)
                if derivatives:
                    bend = grad[1 + axis, i, at] * sine + grad[1 + axis, i, at + 3] * cosine
                    change -= weights[k] * omega * omega * bend
                doubled = real(2.0) * sine * cosine
                cosine = real(1.0) - real(2.0) * sine * sine
                sine = doubled
                omega = omega * real(2.0)
            total[axis] = change
        grad_points[i] = total

    forward.__annotations__ = {"points": vectors, "weights": reals, "frequencies": int, "derivatives": bool, "out": stacks}
    backward.__annotations__ = {
        "points": vectors, "weights": reals, "frequencies": int, "derivatives": bool, "grad": stacks, "grad_points": vectors,
    }  # fmt: skip
    module = wp.get_module(f"avatar_kit.encoding_{str(dtype).split('.')[-1]}")
    return wp.Kernel(forward, key="forward", module=module), wp.Kernel(backward, key="backward", module=module)


class _Encoding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: Tensor, weights: Tensor, derivatives: bool) -> Tensor:
        points = points.contiguous()
        out = points.new_zeros(4 if derivatives else 1, len(points), 3 + 6 * len(weights))
        inputs = [runtime.view(points, 3), runtime.view(weights), len(weights), derivatives, runtime.view(out)]
        runtime.launch(_kernels(points.dtype)[0], len(points), inputs, like=points)
        ctx.save_for_backward(points, weights)
        ctx.derivatives = derivatives
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None]:
        if not ctx.needs_input_grad[0]:
            return None, None, None
        points, weights = ctx.saved_tensors
        grad, grad_points = grad.contiguous(), torch.empty_like(points)
        inputs = [
            runtime.view(points, 3), runtime.view(weights), len(weights), ctx.derivatives, runtime.view(grad), runtime.view(grad_points, 3),
        ]  # fmt: skip
        runtime.launch(_kernels(points.dtype)[1], len(points), inputs, like=points)
        return grad_points, None, None


def positional_encoding(points: Tensor, frequencies: int, opened: float, *, derivatives: bool) -> Tensor:
    """The stack of [x, sin(2^k pi x), cos(2^k pi x)] for k < `frequencies`, with progressive masking.

    Args:
        points: (N, 3).
        opened: how many frequencies count: frequency k has the weight (1 - cos(pi clamp(opened - k, 0, 1))) / 2.
        derivatives: also give the tangents.

    Returns:
        (4 or 1, N, 3 + 6 * frequencies), channels [x, y, z, then per frequency 3 sines and 3 cosines]; it can be
        differentiated once.

    Source: section 3.1 (progressive masking) after BARF, equation 14 (Lin et al. 2021).
    """
    return _Encoding.apply(points, _weights(frequencies, float(opened), points.dtype, points.device), derivatives)


@functools.lru_cache(maxsize=64)
def _weights(frequencies: int, opened: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    shares = [0.5 * (1.0 - math.cos(math.pi * min(max(opened - k, 0.0), 1.0))) for k in range(frequencies)]
    return torch.tensor(shares, dtype=dtype, device=device)

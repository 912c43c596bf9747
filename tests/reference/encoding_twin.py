"""The positional encoding with its tangents in plain torch, which can be differentiated twice."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def positional_encoding(points: Tensor, frequencies: int, opened: float, *, derivatives: bool) -> Tensor:
    """As `avatar_kit.kernels.encoding.positional_encoding`."""
    n = len(points)
    rows = 4 if derivatives else 1
    stack = points.new_zeros(rows, n, 3 + 6 * frequencies)
    stack[0, :, :3] = points
    if derivatives:
        for axis in range(3):
            stack[1 + axis, :, axis] = 1.0
    sine, cosine = torch.sin(math.pi * points), torch.cos(math.pi * points)
    for k in range(frequencies):
        if k > 0:  # the double angle: five times cheaper than new sines
            sine, cosine = 2.0 * sine * cosine, 1.0 - 2.0 * sine**2
        weight = 0.5 * (1.0 - math.cos(math.pi * min(max(opened - k, 0.0), 1.0)))
        if weight == 0.0:
            continue
        omega = math.pi * 2.0**k
        first = 3 + 6 * k
        stack[0, :, first : first + 3] = weight * sine
        stack[0, :, first + 3 : first + 6] = weight * cosine
        if derivatives:
            for axis in range(3):
                stack[1 + axis, :, first + axis] = weight * omega * cosine[:, axis]
                stack[1 + axis, :, first + 3 + axis] = -weight * omega * sine[:, axis]
    return stack

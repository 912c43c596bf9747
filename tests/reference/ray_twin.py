"""Ray by ray, sample by sample: the slow, obvious search for the first zero crossing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor


def first_crossing(sdf: Callable[[Tensor], Tensor], origin: Tensor, direction: Tensor, coarse: int, fine: int) -> float:
    """Depth of the first change from outside to inside within [-1, 1]^3, or inf."""
    entry, leave = 0.0, math.inf
    for o, d in zip(origin.tolist(), direction.tolist(), strict=True):
        if abs(d) < 1e-12:
            if abs(o) > 1:
                return math.inf
            continue
        a, b = sorted(((-1 - o) / d, (1 - o) / d))
        entry, leave = max(entry, a), min(leave, b)
    if entry >= leave:
        return math.inf

    def value(t: float) -> float:
        return float(sdf((origin + t * direction)[None])[0])

    depths = [entry + (leave - entry) * k / (coarse - 1) for k in range(coarse)]
    for a, b in itertools.pairwise(depths):
        if value(a) > 0 >= value(b):
            inner = [a + (b - a) * k / (fine - 1) for k in range(fine)]
            for c, d in itertools.pairwise(inner):
                if value(c) > 0 >= value(d):
                    return c + (d - c) * value(c) / (value(c) - value(d))
            return math.inf
    return math.inf


def on_grid(values: Tensor) -> Callable[[Tensor], Tensor]:
    """Trilinear interpolation of node values (n, n, n), as a function of points."""
    from reference.grid_twin import interpolate

    return lambda points: interpolate(points, values.reshape(-1, 1))[:, 0]


def ray_sphere(origins: Tensor, directions: Tensor, radius: float) -> Tensor:
    """Closed form: depth of the first intersection with a sphere around the origin, inf for none."""
    b = (origins * directions).sum(-1)
    discriminant = b**2 - (origins**2).sum(-1) + radius**2
    root = -b - discriminant.clamp_min(0).sqrt()
    return torch.where(discriminant > 0, root, torch.full_like(root, torch.inf))

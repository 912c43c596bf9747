"""nvdiffrast.torch as its documentation has it, by brute force on the CPU: `rasterize` and its context. Small meshes only."""

from __future__ import annotations

import torch
from torch import Tensor


class RasterizeCudaContext:
    def __init__(self, device: object = None) -> None:
        self.pictures: list[tuple[int, int]] = []  # sizes that were asked for


def rasterize(context: RasterizeCudaContext, pos: Tensor, tri: Tensor, resolution: tuple[int, int], grad_db: bool = True):
    """(u, v, z / w, face + 1) per pixel, (1, H, W, 4), row 0 at y = -1; attributes are u a0 + v a1 + (1 - u - v) a2."""
    height, width = resolution
    assert pos.dtype == torch.float32
    assert tri.dtype == torch.int32
    assert max(resolution) <= 2048
    context.pictures.append((height, width))
    x = (torch.arange(width) + 0.5) / width * 2 - 1
    y = (torch.arange(height) + 0.5) / height * 2 - 1
    nearest = torch.full((height, width), torch.inf, dtype=torch.float64)
    out = torch.zeros(height, width, 4, dtype=torch.float64)
    for number, corners in enumerate(pos[0].double()[tri.long()]):
        a, b, c = corners
        px, py = torch.meshgrid(x.double(), y.double(), indexing="xy")
        (ax, ay), (bx, by), (cx, cy) = ((p[0] - px * p[3], p[1] - py * p[3]) for p in (a, b, c))
        e0, e1, e2 = bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx
        total = e0 + e1 + e2
        u, v = e0 / total, e1 / total
        w = u * a[3] + v * b[3] + (1 - u - v) * c[3]
        depth = (u * a[2] + v * b[2] + (1 - u - v) * c[2]) / w
        seen = (u >= 0) & (v >= 0) & (u + v <= 1) & (w > 0) & (depth >= -1) & (depth <= 1) & (depth < nearest)
        nearest = torch.where(seen, depth, nearest)
        found = torch.stack([u, v, depth, torch.full_like(u, number + 1)], dim=-1)
        out = torch.where(seen[..., None], found, out)
    return out.float()[None], torch.zeros(1, height, width, 0)

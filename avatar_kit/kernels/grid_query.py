"""Trilinear interpolation of multi-resolution feature grids: value and Jacobian in one pass (equation 2).

    z(x) = sum over levels l of interp(x, Z_l),   J(x) = dz / dx

Both are outputs, so one backward pass gives the gradients of either with respect to the grids and to x. That is what
supervising normals needs, and what `grid_sample` cannot do in 3D (it has no double backward). In words of the weights:
with w_c(x) the weight of corner c, z = sum w_c Z_c and J_i = sum (d w_c / d x_i) Z_c; the second derivatives of w_c,
zero for i = j within a cell, carry the gradient of J to x.

Layout: a grid of level l has (2^l + 1)^3 rows, indexed [(ix * n + iy) * n + iz]; outside [-1, 1]^3 the outermost cell
is extrapolated. Twin: `tests/reference/grid_twin.py`.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import warp as wp

from avatar_kit.kernels import runtime


@functools.cache
def _kernels(features: int, dtype: torch.dtype) -> tuple[wp.Kernel, wp.Kernel]:
    """The forward and backward kernels for one feature count and float type."""
    real = runtime.FLOATS[dtype]
    feature = wp.types.vector(length=features, dtype=real)
    vec3 = wp.types.vector(length=3, dtype=real)
    zero, one, half = real(0.0), real(1.0), real(0.5)

    def forward(points: Any, grid: Any, resolution: Any, rows: Any, accumulate: Any, out: Any):
        i = wp.tid()
        n = resolution + 1
        scale = real(resolution) * half
        u = (points[i] + vec3(one, one, one)) * scale
        cx = wp.clamp(int(wp.floor(u[0])), 0, resolution - 1)
        cy = wp.clamp(int(wp.floor(u[1])), 0, resolution - 1)
        cz = wp.clamp(int(wp.floor(u[2])), 0, resolution - 1)
        fx = u[0] - real(cx)
        fy = u[1] - real(cy)
        fz = u[2] - real(cz)
        base = (cx * n + cy) * n + cz
        value = feature()
        ddx = feature()
        ddy = feature()
        ddz = feature()
        for corner in range(8):
            bx = corner >> 2
            by = (corner >> 1) & 1
            bz = corner & 1
            sx = real(2 * bx - 1)
            sy = real(2 * by - 1)
            sz = real(2 * bz - 1)
            wx = real(1 - bx) + sx * fx
            wy = real(1 - by) + sy * fy
            wz = real(1 - bz) + sz * fz
            node = grid[base + (bx * n + by) * n + bz]
            value += node * (wx * wy * wz)
            if rows == 4:
                ddx += node * (sx * wy * wz)
                ddy += node * (wx * sy * wz)
                ddz += node * (wx * wy * sz)
        if accumulate:
            value += out[0, i]
        out[0, i] = value
        if rows == 4:
            ddx = ddx * scale
            ddy = ddy * scale
            ddz = ddz * scale
            if accumulate:
                ddx += out[1, i]
                ddy += out[2, i]
                ddz += out[3, i]
            out[1, i] = ddx
            out[2, i] = ddy
            out[3, i] = ddz

    def backward(
        points: Any, grid: Any, resolution: Any, rows: Any, grad_out: Any,
        want_grid: Any, want_points: Any, grad_grid: Any, grad_points: Any,
    ):  # fmt: skip
        i = wp.tid()
        n = resolution + 1
        scale = real(resolution) * half
        u = (points[i] + vec3(one, one, one)) * scale
        cx = wp.clamp(int(wp.floor(u[0])), 0, resolution - 1)
        cy = wp.clamp(int(wp.floor(u[1])), 0, resolution - 1)
        cz = wp.clamp(int(wp.floor(u[2])), 0, resolution - 1)
        fx = u[0] - real(cx)
        fy = u[1] - real(cy)
        fz = u[2] - real(cz)
        base = (cx * n + cy) * n + cz
        g0 = grad_out[0, i]
        g1 = feature()
        g2 = feature()
        g3 = feature()
        if rows == 4:
            g1 = grad_out[1, i] * scale
            g2 = grad_out[2, i] * scale
            g3 = grad_out[3, i] * scale
        px = zero
        py = zero
        pz = zero
        for corner in range(8):
            bx = corner >> 2
            by = (corner >> 1) & 1
            bz = corner & 1
            sx = real(2 * bx - 1)
            sy = real(2 * by - 1)
            sz = real(2 * bz - 1)
            wx = real(1 - bx) + sx * fx
            wy = real(1 - by) + sy * fy
            wz = real(1 - bz) + sz * fz
            row = base + (bx * n + by) * n + bz
            if want_grid:
                wp.atomic_add(grad_grid, row, g0 * (wx * wy * wz) + g1 * (sx * wy * wz) + g2 * (wx * sy * wz) + g3 * (wx * wy * sz))
            if want_points:
                node = grid[row]
                d0 = wp.dot(node, g0)
                d1 = wp.dot(node, g1)
                d2 = wp.dot(node, g2)
                d3 = wp.dot(node, g3)
                px += sx * (wy * wz * d0 + sy * wz * d2 + wy * sz * d3)
                py += sy * (wx * wz * d0 + sx * wz * d1 + wx * sz * d3)
                pz += sz * (wx * wy * d0 + sx * wy * d1 + wx * sy * d2)
        if want_points:
            grad_points[i] += vec3(px, py, pz) * scale

    features_1d, features_2d = wp.array(dtype=feature), wp.array2d(dtype=feature)
    vectors = wp.array(dtype=vec3)
    forward.__annotations__ = {
        "points": vectors, "grid": features_1d, "resolution": int, "rows": int, "accumulate": bool, "out": features_2d,
    }  # fmt: skip
    backward.__annotations__ = {
        "points": vectors, "grid": features_1d, "resolution": int, "rows": int, "grad_out": features_2d,
        "want_grid": bool, "want_points": bool, "grad_grid": features_1d, "grad_points": vectors,
    }  # fmt: skip
    module = wp.get_module(f"avatar_kit.grid_query_{features}_{str(dtype).split('.')[-1]}")
    return wp.Kernel(forward, key="forward", module=module), wp.Kernel(backward, key="backward", module=module)


class _GridQuery(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, points: torch.Tensor, rows: int, *grids: torch.Tensor) -> torch.Tensor:
        points = points.contiguous()
        features = grids[0].shape[1]
        kernel, _ = _kernels(features, points.dtype)
        out = points.new_empty(rows, len(points), features)
        for level, grid in enumerate(grids):
            at, known, found = runtime.view(points, 3), runtime.view(grid, features), runtime.view(out, features)
            inputs = [at, known, resolution_of(grid), rows, level > 0, found]
            runtime.launch(kernel, len(points), inputs, like=points)
        ctx.save_for_backward(points, *grids)
        ctx.rows = rows
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_out: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        points, *grids = ctx.saved_tensors
        features = grids[0].shape[1]
        _, kernel = _kernels(features, points.dtype)
        grad_out = grad_out.contiguous()
        want_points = ctx.needs_input_grad[0]
        grad_points = torch.zeros_like(points)
        grad_grids: list[torch.Tensor | None] = []
        for level, grid in enumerate(grids):
            want_grid = ctx.needs_input_grad[2 + level]
            grad_grid = torch.zeros_like(grid) if want_grid else grid.new_empty(1, features)
            if want_grid or want_points:
                inputs = [
                    runtime.view(points, 3), runtime.view(grid, features), resolution_of(grid), ctx.rows,
                    runtime.view(grad_out, features), want_grid, want_points, runtime.view(grad_grid, features),
                    runtime.view(grad_points, 3),
                ]  # fmt: skip
                runtime.launch(kernel, len(points), inputs, like=points)
            grad_grids.append(grad_grid if want_grid else None)
        return (grad_points if want_points else None, None, *grad_grids)


def resolution_of(grid: torch.Tensor) -> int:
    """Cells per axis of a grid with (cells + 1)^3 rows.

    Raises:
        ValueError: the number of rows is no cube.
    """
    nodes = round(grid.shape[0] ** (1 / 3))
    if nodes**3 != grid.shape[0] or nodes < 2:
        raise ValueError(f"a grid has (cells + 1)^3 rows, this one has {grid.shape[0]}")
    return nodes - 1


def query_grids(points: torch.Tensor, grids: list[torch.Tensor], *, jacobian: bool = True) -> torch.Tensor:
    """Interpolated features at `points`, and their derivatives.

    Args:
        points: (N, 3) in the head frame, float32 or float64.
        grids: per level ((2^l + 1)^3, F), contiguous, of the same float type and device.
        jacobian: also return the derivatives.

    Returns:
        (4, N, F): value, d/dx, d/dy, d/dz; or (1, N, F) without the Jacobian. Differentiable once with respect to
        points and grids.

    Source: equation 2; section 3.1.
    """
    return _GridQuery.apply(points, 4 if jacobian else 1, *grids)


def corners(points: torch.Tensor, cells: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The nodes around points in a grid of `cells` per axis, and their parts in the interpolation.

    Args:
        points: (N, 3) in the head frame; outside the box the outermost cell is extrapolated.

    Returns:
        rows of the grid, (N, 8), and weights (4, N, 8): of the value, and of its derivatives by x, y and z.

    Source: equation 2.
    """
    u = (points + 1.0) * (cells / 2)
    cell = u.floor().clamp(0, cells - 1)
    offsets = torch.tensor([[c >> 2, (c >> 1) & 1, c & 1] for c in range(8)], device=points.device)
    node = cell.long()[:, None] + offsets
    rows = (node[..., 0] * (cells + 1) + node[..., 1]) * (cells + 1) + node[..., 2]
    sign = (2 * offsets - 1).to(points)
    along = 1.0 - offsets + sign * (u - cell)[:, None]  # (N, 8, 3), the weight's factor of each axis
    slope = (sign * (cells / 2)).expand_as(along)
    weights = [along.prod(-1)]
    for axis in range(3):
        weights.append(torch.stack([slope[..., a] if a == axis else along[..., a] for a in range(3)]).prod(0))
    return rows, torch.stack(weights)

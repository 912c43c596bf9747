"""The second half of the start: Gauss-Newton on the grids too, whose many unknowns conjugate gradients solve for.

Normals say how a surface bends, not where it is; from them a depth follows by integration, which is a Poisson problem: one
step of a first-order method carries what a normal says to the neighbouring nodes only, so that a part of the face that is
millimetres off takes hundreds of steps. Here each step solves the linear problem, over grids of several resolutions at once.
The matrix is never made: its products are grid queries and their backward passes (`kernels.grid_query`). Source: Hestenes
and Stiefel (1952); preconditioned by the diagonal over all levels, after Bramble, Pasciak and Xu (1990).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from avatar_kit.config import CamerasConfig, RaysConfig, StartConfig
from avatar_kit.kernels.grid_query import corners, query_grids, resolution_of
from avatar_kit.prior.storage import HeadPrior
from avatar_kit.recon.rays import RayBank
from avatar_kit.recon.start import (
    PosedHead,
    Residuals,
    Start,
    moved,
    normal_equations,
    prior_cost,
    residuals_of,
    with_cameras,
)


class Unknowns(NamedTuple):
    """Pose, code and cameras as one vector, and a change of each grid (nodes, F)."""

    shared: Tensor
    grids: list[Tensor]

    def plus(self, other: Unknowns, times: float) -> Unknowns:
        return Unknowns(self.shared + times * other.shared, [a.add(b, alpha=times) for a, b in zip(self.grids, other.grids, strict=True)])

    def dot(self, other: Unknowns) -> float:
        parts = [torch.dot(self.shared, other.shared)]
        parts += [torch.dot(a.flatten(), b.flatten()).double() for a, b in zip(self.grids, other.grids, strict=True)]
        return float(torch.stack(parts).sum())


def solve_grids(
    bank: RayBank, prior: HeadPrior, start: Start, config: StartConfig, rays_config: RaysConfig, cameras: CamerasConfig | None = None
) -> Start:
    """Go on from `recon.start.solve_start` with the grids free.

    Args: as there.

    Returns:
        the start with its `grids`.
    """
    cameras = cameras if start.cameras is not None else None
    config = replace(
        config, outline_count=config.grid_count, normal_count=config.grid_count, normal_width=config.grid_normal_width,
        outline_width=config.grid_outline_width,
    )  # fmt: skip
    head = PosedHead(prior, rays_config.cache_resolution, bank.rays.origins.device)
    levels = [grid for grid in head.field.grids if resolution_of(grid) <= 2**config.grid_level]
    std = [config.grid_std * 0.5**i for i in range(len(levels))]
    now = start._replace(grids=[torch.zeros_like(grid) for grid in levels])
    best, lowest, system, damping = now, float("inf"), None, 1.0
    for step in range(config.grid_steps + 1):
        head.move(now)
        parts = residuals_of(head, bank, config, rays_config, config.outline_width)
        assert now.grids is not None
        roughness = sum(float((grid / s).square().sum()) for grid, s in zip(now.grids, std, strict=True))
        cost = sum(part.cost for part in parts) + prior_cost(now, config, cameras) + roughness
        import os

        if os.environ.get("GNV"):
            print(
                step,
                [round(p.cost, 1) for p in parts],
                round(prior_cost(now, config, cameras), 1),
                round(roughness, 1),
                "damp",
                damping,
                flush=True,
            )
        if cost < lowest:
            best, lowest, system, damping = now, cost, System(parts, now, std, config, cameras), max(0.3 * damping, 1e-2)
        else:
            damping *= 10.0
        if step < config.grid_steps:
            assert system is not None
            update = system.solve(damping, config.grid_iterations)
            now = moved(best, -update.shared)
            assert best.grids is not None
            now = now._replace(grids=[grid - change for grid, change in zip(best.grids, update.grids, strict=True)])
    return best


class System:
    """The normal equations around one state."""

    def __init__(self, parts: list[Residuals], now: Start, std: list[float], config: StartConfig, cameras: CamerasConfig | None) -> None:
        self._parts = [part for part in parts if part.by_features is not None]
        self._rows = [with_cameras(part.jacobian, part.photo, now.cameras) for part in self._parts]
        self._normal, rhs = normal_equations(parts, now, config, cameras)
        self._precision = [s**-2 for s in std]
        assert now.grids is not None
        self._shapes = now.grids
        grid_rhs = [grid * p for grid, p in zip(now.grids, self._precision, strict=True)]
        for part in self._parts:
            for total, more in zip(grid_rhs, self._pull(part, part.weights * part.values), strict=True):
                total += more
        self._rhs = Unknowns(rhs, grid_rhs)
        self._diagonal = [self._grid_diagonal(grid, p) for grid, p in zip(now.grids, self._precision, strict=True)]

    def solve(self, damping: float, iterations: int) -> Unknowns:
        """Preconditioned conjugate gradients from zero."""
        factor = torch.linalg.cholesky(self._normal + damping * 1e-2 * torch.diag(self._normal.diagonal()))
        extra = [damping * 1e-2 * d for d in self._diagonal]

        def precondition(r: Unknowns) -> Unknowns:
            shared = torch.cholesky_solve(r.shared[:, None], factor)[:, 0]
            return Unknowns(shared, [g / (d + e) for g, d, e in zip(r.grids, self._diagonal, extra, strict=True)])

        x = Unknowns(torch.zeros_like(self._rhs.shared), [torch.zeros_like(grid) for grid in self._shapes])
        residual = self._rhs
        z = precondition(residual)
        direction, rz = z, residual.dot(z)
        for _ in range(iterations):
            product = self.times(direction, damping, extra)
            length = rz / max(direction.dot(product), 1e-30)
            x, residual = x.plus(direction, length), residual.plus(product, -length)
            z = precondition(residual)
            before, rz = rz, residual.dot(z)
            if rz < 1e-6 * before:
                break
            direction = z.plus(direction, rz / before)
        return x

    def times(self, x: Unknowns, damping: float, extra: list[Tensor]) -> Unknowns:
        """(J^T W J + prior + damping) x."""
        shared = self._normal @ x.shared + damping * 1e-2 * self._normal.diagonal() * x.shared
        grids = [g * (p + e) for g, p, e in zip(x.grids, self._precision, extra, strict=True)]
        for part, rows in zip(self._parts, self._rows, strict=True):
            assert part.by_features is not None
            by_grids = torch.einsum("crnf,rnf->cn", part.by_features, query_grids(part.points, x.grids))
            by_shared = (rows @ x.shared.float()) * part.share
            shared = shared + torch.einsum("cnd,cn->d", rows, part.weights * part.share * by_grids).double()
            for total, more in zip(grids, self._pull(part, part.weights * (by_grids + by_shared)), strict=True):
                total += more
        return Unknowns(shared, grids)

    def _pull(self, part: Residuals, values: Tensor) -> list[Tensor]:
        """J^T values (C, N), of the grids."""
        assert part.by_features is not None
        grids = [grid.detach().requires_grad_() for grid in self._shapes]
        with torch.enable_grad():
            out = query_grids(part.points, grids)
        return list(torch.autograd.grad(out, grids, torch.einsum("crnf,cn->rnf", part.by_features, values)))

    def _grid_diagonal(self, grid: Tensor, precision: float) -> Tensor:
        total = torch.full_like(grid, precision)
        for part in self._parts:
            assert part.by_features is not None
            rows, weights = corners(part.points, resolution_of(grid))
            squared = torch.einsum("crnf,rnk->cnkf", part.by_features, weights).square().sum(0) * part.weights[:, None, None]
            total.index_add_(0, rows.flatten(), squared.flatten(0, 1))
        return total

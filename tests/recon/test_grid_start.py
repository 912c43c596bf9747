"""The start on the grids: its products against a matrix written out, and a head that no latent has."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from recon.test_start import WORLD_FROM_HEAD, bank, code  # noqa: F401  # fixtures

from avatar_kit import load_prior
from avatar_kit.config import PRESETS
from avatar_kit.kernels.grid_query import corners, resolution_of
from avatar_kit.recon.grid_start import Unknowns, System, solve_grids
from avatar_kit.recon.rays import RayBank
from avatar_kit.recon.start import PosedHead, Residuals, Start, prior_cost, residuals_of

CONFIG = PRESETS["fast"]
K, FEATURES, LEVELS, STD = 2, 3, (1, 2), [0.3, 0.1]


def random_residuals(generator: torch.Generator, components: int, count: int) -> Residuals:
    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    points = torch.rand(count, 3, generator=generator) * 2 - 1
    return Residuals(
        normal(components, count), normal(components, count, 7 + K), normal(count).abs(), torch.rand(count, generator=generator), 0.0,
        torch.zeros(count, dtype=torch.int64), points, normal(components, 4, count, FEATURES),
    )  # fmt: skip


def written_out(parts: list[Residuals], now: Start) -> tuple[torch.Tensor, torch.Tensor]:
    """Matrix and right side of the normal equations, row by row."""
    assert now.grids is not None
    sizes = [grid.numel() for grid in now.grids]
    size = 7 + K + sum(sizes)
    matrix, rhs = torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    for part in parts:
        assert part.by_features is not None
        for c in range(len(part.values)):
            for n in range(len(part.points)):
                row, at = torch.zeros(size, dtype=torch.float64), 7 + K
                row[: 7 + K] = part.jacobian[c, n]
                for grid, entries in zip(now.grids, sizes, strict=True):
                    rows, weights = corners(part.points[n : n + 1], resolution_of(grid))
                    change = torch.zeros(grid.shape, dtype=torch.float64)
                    change.index_add_(0, rows[0], torch.einsum("rf,rk->kf", part.by_features[c, :, n], weights[:, 0]).double())
                    row[at : at + entries] = change.flatten()
                    at += entries
                weight, share = float(part.weights[n]), float(part.share[n])
                left = row.clone()
                left[: 7 + K] *= share  # far off, a residual has no say in pose and code
                matrix += weight * torch.outer(left, left)
                matrix[: 7 + K, : 7 + K] += weight * (share - share**2) * torch.outer(row[: 7 + K], row[: 7 + K])
                rhs += weight * left * float(part.values[c, n])
    prior = torch.cat([torch.zeros(7), torch.ones(K), *(torch.full((n,), s**-2) for n, s in zip(sizes, STD, strict=True))]).double()
    prior[6] = CONFIG.start.scale_std**-2
    state = torch.cat([torch.zeros(7), now.code, *(grid.flatten() for grid in now.grids)]).double()
    state[6] = now.log_scale
    return matrix + torch.diag(prior), rhs + prior * state


def test_products_are_those_of_the_matrix(generator: torch.Generator) -> None:
    parts = [random_residuals(generator, 1, 6), random_residuals(generator, 3, 5)]
    grids = [torch.randn((2**level + 1) ** 3, FEATURES, generator=generator) * 0.1 for level in LEVELS]
    now = Start(np.eye(4), torch.randn(K, generator=generator), 0.01, None, grids)
    system = System(parts, now, STD, CONFIG.start, None)
    matrix, rhs = written_out(parts, now)
    got = system.solve(0.0, 400)
    exact = torch.linalg.solve(matrix, rhs)
    flat = torch.cat([got.shared, *(grid.flatten().double() for grid in got.grids)])
    torch.testing.assert_close(flat, exact, atol=2e-3 * float(exact.abs().max()), rtol=0)
    x = Unknowns(torch.randn(7 + K, generator=generator).double(), [torch.randn(g.shape, generator=generator) for g in grids])
    product = system.times(x, 0.0, [torch.zeros(()), torch.zeros(())])
    flat = torch.cat([product.shared, *(grid.flatten().double() for grid in product.grids)])
    expected = matrix @ torch.cat([x.shared, *(grid.flatten().double() for grid in x.grids)])
    torch.testing.assert_close(flat, expected, atol=1e-3 * float(expected.abs().max()), rtol=0)


def test_grids_take_what_the_latent_leaves(bank: RayBank, code: torch.Tensor) -> None:  # noqa: F811
    """The latent is held at the mean by a prior a hundred times too strong for it; the grids must bring the head."""
    prior = load_prior()
    held = dataclasses.replace(prior, latents=prior.mean_latent + 0.01 * (prior.latents - prior.mean_latent))
    config = dataclasses.replace(CONFIG.start, grid_steps=4)
    start = Start(np.linalg.inv(WORLD_FROM_HEAD), torch.zeros_like(code), 0.0)
    found = solve_grids(bank, held, start, config, CONFIG.rays)
    head, truth = PosedHead(held, 64, torch.device("cpu")), PosedHead(prior, 64, torch.device("cpu"))
    truth.move(start._replace(code=code))

    def error_mm(to: Start) -> float:
        """On the true surface where the photos see it."""
        rays = bank.subject(2000)
        truth.move(start._replace(code=code))
        points = residuals_of(truth, bank, config, CONFIG.rays, 0.05)[1].points
        del rays
        head.move(to)
        with torch.no_grad():
            return float(head.field(points, head.field.condition(head.latent[None])).abs().mean()) * 200

    assert error_mm(found) < 0.35 * error_mm(start)
    assert prior_cost(found, config, None) < 5.0
    with pytest.raises(AssertionError):  # a check that can fail
        assert error_mm(start) < 0.35 * error_mm(start)

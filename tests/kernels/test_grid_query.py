"""The grid query against its torch twin: value, gradient and gradient through the Jacobian, in float64."""

from __future__ import annotations

import pytest
import torch
from reference import grid_twin

from avatar_kit.kernels.grid_query import corners, query_grids, resolution_of

LEVELS = (1, 2, 3)


def make_grids(generator: torch.Generator, dtype: torch.dtype = torch.float64, features: int = 8) -> list[torch.Tensor]:
    return [torch.randn((2**level + 1) ** 3, features, generator=generator, dtype=dtype).requires_grad_() for level in LEVELS]


def make_points(generator: torch.Generator, count: int = 40) -> torch.Tensor:
    return (torch.rand(count, 3, generator=generator, dtype=torch.float64) * 2.2 - 1.1).requires_grad_()


def test_linear_grid_gives_linear_function_and_constant_jacobian() -> None:
    axis = torch.linspace(-1, 1, 5, dtype=torch.float64)
    nodes = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    slope = torch.tensor([[2.0, 0.0], [-1.0, 3.0], [0.5, 0.0]], dtype=torch.float64)
    points = torch.rand(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    out = query_grids(points, [nodes @ slope])
    torch.testing.assert_close(out[0], points @ slope)
    torch.testing.assert_close(out[1:], slope[:, None, :].expand(3, 50, 2))


def test_value_and_jacobian_match_the_twin(generator: torch.Generator) -> None:
    grids, points = make_grids(generator), make_points(generator)
    torch.testing.assert_close(query_grids(points, grids), grid_twin.query_grids(points, grids), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("row", ["value", "jacobian"])
def test_gradients_match_the_twin(generator: torch.Generator, row: str) -> None:
    """Row "jacobian" is the double gradient: through dz/dx to the grids and to x."""
    grids, points = make_grids(generator), make_points(generator)
    rows = slice(0, 1) if row == "value" else slice(1, 4)
    weight = torch.randn(4, len(points), 8, generator=generator, dtype=torch.float64)[rows]
    ours = torch.autograd.grad((query_grids(points, grids)[rows] * weight).sum(), [points, *grids])
    twins = torch.autograd.grad((grid_twin.query_grids(points, grids)[rows] * weight).sum(), [points, *grids])
    for a, b in zip(ours, twins, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_gradcheck(generator: torch.Generator) -> None:
    grids = [grid.detach()[:, :2].contiguous().requires_grad_() for grid in make_grids(generator)[:2]]
    points = (torch.rand(4, 3, generator=generator, dtype=torch.float64) * 0.3 + 0.05).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, *g: query_grids(x, list(g)), (points, *grids))


def test_float32_agrees_with_float64(generator: torch.Generator) -> None:
    grids, points = make_grids(generator), make_points(generator)
    single = query_grids(points.detach().float(), [grid.detach().float() for grid in grids])
    torch.testing.assert_close(single.double(), query_grids(points, grids).detach(), rtol=2e-4, atol=2e-4)  # 1e-6 times slopes of 8


def test_value_alone_is_row_zero(generator: torch.Generator) -> None:
    grids, points = make_grids(generator), make_points(generator)
    torch.testing.assert_close(query_grids(points, grids, jacobian=False)[0], query_grids(points, grids)[0])


def test_a_grid_with_missing_rows_is_rejected() -> None:
    assert resolution_of(torch.zeros(125, 8)) == 4
    with pytest.raises(ValueError, match="124"):
        resolution_of(torch.zeros(124, 8))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_matches_cpu(generator: torch.Generator) -> None:
    grids, points = make_grids(generator), make_points(generator)
    on_gpu = query_grids(points.detach().cuda(), [grid.detach().cuda() for grid in grids])
    torch.testing.assert_close(on_gpu.cpu(), query_grids(points, grids).detach(), rtol=1e-12, atol=1e-12)


def test_corners_are_the_interpolation_written_out(generator: torch.Generator) -> None:
    grid, points = make_grids(generator)[2].detach(), make_points(generator).detach()
    rows, weights = corners(points, 8)
    torch.testing.assert_close(torch.einsum("rnc,ncf->rnf", weights, grid[rows]), query_grids(points, [grid]))

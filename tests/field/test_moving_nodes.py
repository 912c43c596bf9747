"""Some nodes of a grid move: the same roughness and gradients as the whole grid's, where the others stay."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from avatar_kit.field.moving_nodes import MovingNodes
from avatar_kit.field.smoothness import smoothness_loss
from avatar_kit.kernels.grid_query import query_grids


def ball(nodes: int, radius: float = 0.5) -> Tensor:
    """Distances to a ball at the nodes of a grid over the box."""
    axis = torch.linspace(-1.0, 1.0, nodes)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).norm(dim=-1) - radius


@pytest.fixture
def grid(generator: torch.Generator) -> nn.Parameter:
    return nn.Parameter(torch.randn(17**3, 3, generator=generator))


@pytest.mark.parametrize("band", [0.2, 4.0])
def test_roughness_is_that_of_the_whole_change(band: float, grid: nn.Parameter, generator: torch.Generator) -> None:
    nodes = MovingNodes(grid, ball(9), band)
    assert nodes.roughness() == 0
    added = torch.randn(nodes.values.shape, generator=generator)
    nodes.values.data += added
    change = torch.zeros_like(grid, requires_grad=True)
    whole = smoothness_loss(change.index_add(0, nodes.rows, added).reshape(17, 17, 17, 3))
    torch.testing.assert_close(nodes.roughness(), whole)
    (expected,) = torch.autograd.grad(3.0 * whole, change)
    (found,) = torch.autograd.grad(3.0 * nodes.roughness(), nodes.values)
    torch.testing.assert_close(found, expected[nodes.rows])


def test_those_near_the_surface_move_and_no_others(grid: nn.Parameter) -> None:
    nodes = MovingNodes(grid, ball(17), 0.3)
    near = (ball(17).abs() < 0.3).flatten()
    assert 0.05 < near.float().mean() < 0.5
    assert torch.equal(nodes.rows, near.nonzero()[:, 0])
    before = grid.detach().clone()
    nodes.values.data += 1.0
    nodes.write()
    assert torch.equal(grid.detach()[near], before[near] + 1.0)
    assert torch.equal(grid.detach()[~near], before[~near])
    assert len(MovingNodes(grid, ball(17), 4.0).rows) == 17**3


def test_a_thin_band_still_holds_the_cells_around_the_surface(grid: nn.Parameter, generator: torch.Generator) -> None:
    """Gradients of points on the surface, to a node that does not move, would be lost."""
    nodes = MovingNodes(grid, ball(65), 0.0)
    points = 0.5 * torch.nn.functional.normalize(torch.randn(500, 3, generator=generator), dim=-1)
    query_grids(points, [grid]).square().sum().backward()
    assert grid.grad is not None
    whole = grid.grad.clone()
    nodes.take_gradient()
    assert grid.grad is None
    assert nodes.values.grad is not None
    torch.testing.assert_close(nodes.values.grad, whole[nodes.rows])
    torch.testing.assert_close(nodes.values.grad.abs().sum(), whole.abs().sum())
    query_grids(points, [grid]).square().sum().backward()
    nodes.take_gradient()  # adds
    torch.testing.assert_close(nodes.values.grad, 2 * whole[nodes.rows])

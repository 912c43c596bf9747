"""Sphere tracing: closed forms, and the hits of the sampled search."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from avatar_kit.config import FieldConfig, RaysConfig
from avatar_kit.field.head_field import HeadField
from avatar_kit.kernels.ray_search import search_field
from avatar_kit.kernels.sphere_tracing import sphere_trace
from avatar_kit.recon.surface import FieldCache, search
from avatar_kit.types import InputError


def ball(points: Tensor) -> Tensor:
    return points.norm(dim=-1) - 0.5


def two_balls(points: Tensor) -> Tensor:
    shifted = torch.tensor([0.45, 0.0, -0.4])
    return torch.minimum((points - shifted).norm(dim=-1) - 0.25, (points + shifted).norm(dim=-1) - 0.3)


def rays(count: int, generator: torch.Generator, spread: float) -> tuple[Tensor, Tensor]:
    origins = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1) * 3
    towards = (torch.rand(count, 3, generator=generator) - 0.5) * spread - origins
    return origins, torch.nn.functional.normalize(towards, dim=-1)


def test_depths_on_a_ball_are_those_of_the_quadratic(generator: torch.Generator) -> None:
    origins, directions = rays(500, generator, 1.2)
    middle = -(origins * directions).sum(-1)
    inside = middle**2 - origins.square().sum(-1) + 0.25
    found = sphere_trace(ball, origins, directions).crossings
    sure = inside.abs() > 0.01
    assert torch.equal(found.hit[sure], (inside > 0)[sure])
    both = found.hit & (inside > 0.01)
    torch.testing.assert_close(found.depth[both], (middle - inside.clamp_min(0).sqrt())[both], atol=1e-3, rtol=0)
    missed = ~found.hit & torch.isfinite(found.closest_value) & sure
    nearest = (origins.square().sum(-1) - middle**2).clamp_min(0).sqrt() - 0.5
    torch.testing.assert_close(found.closest_value[missed], nearest[missed], atol=2e-3, rtol=0)


def test_hits_are_those_of_the_sampled_search(generator: torch.Generator) -> None:
    origins, directions = rays(800, generator, 1.6)
    traced, sampled = (
        sphere_trace(two_balls, origins, directions).crossings,
        search_field(two_balls, origins, directions, coarse=128, fine=8),
    )
    assert (traced.hit == sampled.hit).float().mean() > 0.98  # rays that graze go either way
    both = traced.hit & sampled.hit
    assert (traced.depth[both] - sampled.depth[both]).abs().median() < 1e-3


def test_an_exact_distance_loses_few_rays_and_one_that_is_too_small_loses_many(generator: torch.Generator) -> None:
    origins, directions = rays(400, generator, 0.5)
    exact = sphere_trace(ball, origins, directions)
    timid = sphere_trace(lambda x: 0.1 * ball(x), origins, directions)
    assert exact.lost.float().mean() < 0.05
    assert timid.lost.float().mean() > 0.9
    assert torch.equal(exact.crossings.hit, timid.crossings.hit)  # the uniform search finds them


def test_a_field_that_overshoots_is_traced_back(generator: torch.Generator) -> None:
    origins, directions = rays(400, generator, 0.5)
    steep = sphere_trace(lambda x: 1.6 * ball(x), origins, directions)
    exact = search_field(ball, origins, directions, coarse=256, fine=16)
    assert exact.hit.all()
    found = ~steep.lost
    assert found.float().mean() > 0.5
    torch.testing.assert_close(steep.crossings.depth[found], exact.depth[found], atol=2e-3, rtol=0)


def test_rays_beside_the_box_find_nothing() -> None:
    found = sphere_trace(ball, torch.tensor([[0.0, 5.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0]])).crossings
    assert not found.hit.any()
    assert torch.isinf(found.closest_value).all()


def test_an_unknown_search_is_named() -> None:
    field, none = HeadField(FieldConfig(latent=1, width=4, layers=1, levels=())), torch.zeros(1, 3)
    condition = field.condition(torch.zeros(1, 1))
    cache = FieldCache(field, torch.zeros(1), 4)
    with pytest.raises(InputError, match=r"rays\.search=spheer.*grid, field and sphere"):
        search(field, cache, condition, none, none + 1, RaysConfig(search="spheer"))

"""The zero-crossing search against closed-form roots and a ray-by-ray twin."""

from __future__ import annotations

import torch
from reference import ray_twin

from avatar_kit.kernels.ray_search import search_field, search_grid

RADIUS = 0.6


def sphere(points: torch.Tensor) -> torch.Tensor:
    return points.norm(dim=-1) - RADIUS


def make_rays(generator: torch.Generator, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    origins = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    origins = 3.0 * origins / origins.norm(dim=1, keepdim=True)
    targets = torch.rand(count, 3, generator=generator, dtype=torch.float64) * 1.6 - 0.8
    directions = targets - origins
    return origins, directions / directions.norm(dim=1, keepdim=True)


def cached_sphere(cells: int) -> torch.Tensor:
    axis = torch.linspace(-1, 1, cells + 1, dtype=torch.float64)
    return sphere(torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)).reshape((cells + 1,) * 3)


def test_roots_of_a_sphere(generator: torch.Generator) -> None:
    origins, directions = make_rays(generator, 500)
    truth = ray_twin.ray_sphere(origins, directions, RADIUS)
    found = search_field(sphere, origins, directions, coarse=64, fine=16)
    graze = ((origins - (origins * directions).sum(-1, keepdim=True) * directions).norm(dim=-1) - RADIUS).abs() < 2e-3
    assert torch.equal(found.hit[~graze], torch.isfinite(truth)[~graze])
    both = found.hit & torch.isfinite(truth)
    assert both.sum() > 100
    # a linear root in an interval of 3.5 / 64 / 15 units errs by at most its square over 8 radii: 2e-6 head on
    torch.testing.assert_close(found.depth[both & ~graze], truth[both & ~graze], atol=1e-4, rtol=0)


def test_grid_search_matches_the_twin_ray_by_ray(generator: torch.Generator) -> None:
    values = cached_sphere(16) + 0.05 * torch.randn(17, 17, 17, generator=generator, dtype=torch.float64)
    origins, directions = make_rays(generator, 60)
    found = search_grid(values, origins, directions, coarse=48, fine=8)
    field = ray_twin.on_grid(values)
    twin = [ray_twin.first_crossing(field, o, d, 48, 8) for o, d in zip(origins, directions, strict=True)]
    torch.testing.assert_close(found.depth, torch.tensor(twin, dtype=torch.float64), atol=1e-10, rtol=0)
    assert torch.isfinite(found.depth).any()
    assert torch.isinf(found.depth).any()


def test_grid_and_field_search_agree(generator: torch.Generator) -> None:
    values = cached_sphere(16)
    origins, directions = make_rays(generator, 200)
    a = search_grid(values, origins, directions, coarse=40, fine=6)
    b = search_field(ray_twin.on_grid(values), origins, directions, coarse=40, fine=6)
    for name in ("depth", "closest_depth", "closest_value"):
        torch.testing.assert_close(getattr(a, name), getattr(b, name), atol=1e-10, rtol=0, equal_nan=True, msg=name)


def test_sampling_ends_behind_the_crossing_where_that_alone_matters(generator: torch.Generator) -> None:
    origins, directions = make_rays(generator, 200)
    to_crossing = torch.rand(200, generator=generator) < 0.5
    sampled = 0

    def counted(points: torch.Tensor) -> torch.Tensor:
        nonlocal sampled
        sampled += len(points)
        return sphere(points)

    whole = search_field(counted, origins, directions, coarse=64, fine=8)
    all_of_them, sampled = sampled, 0
    found = search_field(counted, origins, directions, coarse=64, fine=8, to_crossing=to_crossing)
    assert sampled < 0.9 * all_of_them  # half of some 60 % of the rays hit, about half way
    torch.testing.assert_close(found.depth, whole.depth, atol=0, rtol=0)
    others = ~(to_crossing & whole.hit)
    assert 20 < int((~others).sum()) < 150
    for name in ("closest_depth", "closest_value"):
        torch.testing.assert_close(getattr(found, name)[others], getattr(whole, name)[others], atol=0, rtol=0, equal_nan=True)
    assert (found.closest_value[~others] <= 0).all()


def test_a_crossing_between_two_runs_of_samples_is_found() -> None:
    # samples 1 / 16 apart from z = 1 on, eight a run: the surface lies between the eighth and the ninth
    origins, directions = torch.tensor([[0.0, 0.0, 2.0]]), torch.tensor([[0.0, 0.0, -1.0]])
    found = search_field(lambda x: x[:, 2] - 0.53, origins, directions, coarse=33, fine=8, to_crossing=torch.tensor([True]))
    torch.testing.assert_close(found.depth, torch.tensor([1.47]))


def test_a_ray_that_misses_the_box_has_no_closest_point() -> None:
    origins = torch.tensor([[0.0, 3.0, 3.0]], dtype=torch.float64)
    directions = torch.tensor([[0.0, 0.0, -1.0]], dtype=torch.float64)
    found = search_grid(cached_sphere(8), origins, directions, coarse=16, fine=4)
    assert not found.hit.any()
    assert torch.isnan(found.closest_depth).all()


def test_the_first_of_two_surfaces_is_taken() -> None:
    def two_spheres(x: torch.Tensor) -> torch.Tensor:
        shift = torch.tensor([0.0, 0.0, 0.5], dtype=x.dtype)
        return torch.minimum((x - shift).norm(dim=-1), (x + shift).norm(dim=-1)) - 0.2

    origins = torch.tensor([[0.0, 0.0, 3.0]], dtype=torch.float64)
    directions = torch.tensor([[0.0, 0.0, -1.0]], dtype=torch.float64)
    depth = search_field(two_spheres, origins, directions, coarse=64, fine=16).depth
    torch.testing.assert_close(depth, torch.tensor([2.3], dtype=torch.float64), atol=1e-6, rtol=0)

"""Ratios of two ways to do the same work, interleaved in one run on this machine.

python benchmarks/kernels.py [--repeats 15]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from reference import grid_twin

import avatar_kit as ak
from avatar_kit.config import RaysConfig
from avatar_kit.conventions import MM_PER_UNIT
from avatar_kit.kernels.grid_query import query_grids
from avatar_kit.kernels.ray_search import Crossings, search_field, search_grid
from avatar_kit.kernels.sphere_tracing import sphere_trace
from avatar_kit.recon.align import align
from avatar_kit.recon.pose import HeadPose
from avatar_kit.recon.rays import RayBank
from avatar_kit.recon.surface import FieldCache, search


def machine() -> str:
    """Processor, threads and versions."""
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?")
    return f"{model}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def compare(name: str, ours: Callable[[], object], other: Callable[[], object], repeats: int) -> None:
    """Time the two in turn and print medians and the median of the pairs' ratios."""
    ours(), other()
    pairs = []
    for _ in range(repeats):
        times = []
        for work in (ours, other):
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
        pairs.append(times)
    a, b = (statistics.median(column) * 1e3 for column in zip(*pairs, strict=True))
    ratio = statistics.median(y / x for x, y in pairs)
    print(f"{name:<66} {a:9.2f} ms {b:9.2f} ms {ratio:7.1f} x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    print(machine())
    print(f"{'':<66} {'ours':>12} {'other':>12}   ratio")
    generator = torch.Generator().manual_seed(0)

    grids = [torch.randn((2**level + 1) ** 3, 8, generator=generator).requires_grad_() for level in (4, 5, 6)]
    points = torch.rand(2048, 3, generator=generator) * 1.2 - 0.6
    weight = torch.randn(4, 2048, 8, generator=generator)

    def step(query: Callable[..., torch.Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad((query(points.clone().requires_grad_(), grids) * weight).sum(), grids)

    compare("grid query, value + Jacobian + backward, 2048 points (torch twin)", step(query_grids), step(grid_twin.query_grids), repeats)

    prior = ak.load_prior()
    condition = prior.field.condition(prior.mean_latent[None])
    origins = torch.nn.functional.normalize(torch.randn(2048, 3, generator=generator), dim=-1) * 4.0
    directions = torch.nn.functional.normalize(torch.rand(2048, 3, generator=generator) - 0.5 - origins, dim=-1)

    def cached() -> object:
        found = search_grid(prior.mean_sdf, origins, directions, coarse=64, fine=8)
        on = found.hit
        with torch.no_grad():  # and the Newton step that takes the hits to the true field
            return prior.field.with_gradient(origins[on] + found.depth[on, None] * directions[on], condition)

    def sampled() -> object:
        with torch.no_grad():
            return search_field(lambda x: prior.field(x, condition), origins, directions, coarse=64, fine=8)

    compare("ray search, 2048 rays: cached field + Newton (64 + 8 network samples)", cached, sampled, max(3, repeats // 3))

    def search_only() -> object:
        return search_grid(prior.mean_sdf, origins, directions, coarse=64, fine=8)

    compare("ray search, 2048 rays: cached field alone (64 + 8 network samples)", search_only, sampled, max(3, repeats // 3))
    searches(prior, max(3, repeats // 3))


def searches(prior: ak.HeadPrior, repeats: int) -> None:
    """Sampled search against sphere tracing on rays of a fit: the bundled head's photos and the mean head where it stands."""
    scene = ak.load_scene(Path(str(resources.files("avatar_kit") / "weights" / "demo")), views=3)
    bank = RayBank(scene, 256, torch.device("cpu"))
    rays = bank.draw(2048, 0.65, torch.Generator().manual_seed(0))
    pose = HeadPose(align(scene, prior.mean_sdf), torch.device("cpu"))
    with torch.no_grad():
        origins, directions, _ = pose.rays(rays)
    condition = prior.field.condition(prior.mean_latent[None])
    cache = FieldCache(prior.field, prior.mean_latent, 64, start=prior.mean_sdf)

    def found_by(name: str) -> Crossings:
        return search(prior.field, cache, condition, origins, directions, RaysConfig(search=name), to_crossing=rays.inside)

    def with_newton() -> Crossings:
        found = found_by("grid")
        on = found.hit
        with torch.no_grad():
            prior.field.with_gradient(origins[on] + found.depth[on, None] * directions[on], condition)
        return found

    with torch.no_grad():
        true = search_field(lambda x: prior.field(x, condition), origins, directions, coarse=1024, fine=16)
        lost = sphere_trace(lambda x: prior.field(x, condition), origins, directions).lost
    for name, work in (("cached field + Newton", with_newton), ("64 + 8 network samples", lambda: found_by("field"))):
        compare(f"ray search, 2048 rays of a fit: {name} (sphere tracing)", work, lambda: found_by("sphere"), repeats)
    print(f"\nof {int(true.hit.sum())} rays that hit by 1024 samples:")
    for name in ("grid", "field", "sphere"):
        found = found_by(name)
        missed, both = (true.hit & ~found.hit).float().sum() / true.hit.sum(), true.hit & found.hit
        apart = (true.depth - found.depth)[both].abs() * MM_PER_UNIT
        also = f"; sphere tracing alone leaves {lost.float().mean():.1%} of all rays to a uniform search" if name == "sphere" else ""
        far = (apart > 5).float().mean()
        print(f"{name:<8} misses {missed:.2%}; the others are off by {apart.median():.3f} mm (median), more than 5 mm: {far:.2%}{also}")


if __name__ == "__main__":
    main()

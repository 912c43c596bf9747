"""What this machine could do, and how much of it each kernel and stage uses: for a CPU or a GPU.

python benchmarks/machine.py [--device cpu|cuda] [--repeats 9] [--presets fast,paper] [--fits]

First the two ceilings, measured: copying memory, multiplying matrices. Then each kernel: its time, and the share of the
ceiling that bounds it (bytes that it must move, or multiplications that it must do, over its time). `--fits` adds whole
reconstructions of the bundled head, by preset.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from kernels import machine

from avatar_kit import load_prior
from avatar_kit.backends import TABLE, obstacle, pick_device
from avatar_kit.config import PRESETS, MeshConfig
from avatar_kit.kernels.grid_query import query_grids
from avatar_kit.kernels.ray_search import search_grid
from avatar_kit.mesh.extraction import EXTRACTORS, extract
from avatar_kit.recon.pipeline import reconstruct
from avatar_kit.render.renderer import Renderer
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.scene.views import load_scene
from avatar_kit.score.distances import nearest

POINTS, RAYS = 1 << 16, 1 << 14


def seconds(work: Callable[[], object], device: str, repeats: int) -> float:
    """Median over repeats, after one for warming up."""

    def once() -> float:
        started = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    once()
    return statistics.median(once() for _ in range(repeats))


def ceilings(device: str, repeats: int) -> tuple[float, float]:
    """Bytes a second of a copy (read and written), multiply-adds a second of a float32 matrix product."""
    large = torch.zeros(1 << 27 if device == "cuda" else 1 << 25, device=device)
    other = torch.empty_like(large)
    copy = 2 * large.numel() * 4 / seconds(lambda: other.copy_(large), device, repeats)
    n = 8192 if device == "cuda" else 2048
    a = torch.randn(n, n, device=device)
    product = n**3 / seconds(lambda: a @ a, device, repeats)
    return copy, product


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--presets", default="fast")
    parser.add_argument("--fits", action="store_true")
    options = parser.parse_args()
    device, repeats = pick_device(options.device), options.repeats
    print(machine() if device == "cpu" else f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    copy, product = ceilings(device, repeats)
    print(f"copy {copy / 1e9:.1f} GB/s, matrix product (float32) {product / 1e9:.1f} G multiply-adds/s\n")

    def line(name: str, work: Callable[[], object], *, moved: float = 0, products: float = 0, times: int = repeats) -> None:
        spent = seconds(work, device, times)
        shares = [f"{moved / spent / copy:6.0%} of copying"] * bool(moved) + [f"{products / spent / product:6.0%} of multiplying"] * bool(
            products
        )
        print(f"{name:<62} {spent * 1e3:10.2f} ms  {'  '.join(shares)}", flush=True)

    prior = load_prior("default", device)
    field, latent = prior.field, prior.mean_latent.to(device)
    condition = field.condition(latent[None])
    generator = torch.Generator().manual_seed(0)
    points = (torch.rand(POINTS, 3, generator=generator) * 1.2 - 0.6).to(device)
    grids = [grid.detach() for grid in field.grids]
    width = sum(grid.shape[1] for grid in grids)
    weights = sum(
        parameter.numel() for name, parameter in field.named_parameters() if name.startswith(("hidden", "last")) and parameter.ndim > 1
    )
    with torch.no_grad():
        line(f"grid query, value and Jacobian, {POINTS} points", lambda: query_grids(points, grids, jacobian=True),
             moved=POINTS * width * (8 + 4) * 4)  # fmt: skip
        line(f"field, value and gradient, {POINTS} points", lambda: field.with_gradient(points, condition),
             products=POINTS * weights * 4)  # fmt: skip
    origins = torch.nn.functional.normalize(torch.randn(RAYS, 3, generator=generator), dim=-1) * 4.0
    directions = torch.nn.functional.normalize(torch.rand(RAYS, 3, generator=generator) - 0.5 - origins, dim=-1)
    origins, directions, cache = origins.to(device), directions.to(device), prior.mean_sdf.to(device)
    line(f"ray search, {RAYS} rays, 64 + 8 samples of the cached field", lambda: search_grid(cache, origins, directions, coarse=64, fine=8),
         moved=RAYS * 72 * 8 * 4)  # fmt: skip
    few = max(1, repeats // 5)
    for extractor, backend in EXTRACTORS.items():
        if obstacle(next(b for b in TABLE["extract"] if b.name == backend), device) is None:
            config = MeshConfig(extractor=extractor)
            line(f"extraction, 256^3, {extractor}", lambda config=config: extract(field, latent, config), times=few)
    mesh = extract(field, latent, MeshConfig())
    cloud = np.random.default_rng(0).permutation(mesh.vertices)[:100_000]
    moved_cloud = cloud + 0.01
    for backend in TABLE["chamfer"]:
        if obstacle(backend, device) is None:
            work = lambda name=backend.name: nearest(cloud, moved_cloud, device=device, backend=name)  # noqa: E731
            line(f"nearest points, {len(cloud)} to {len(cloud)}, {backend.name}", work, times=few)
    camera = orbit_camera(yaw_deg=30, pitch_deg=0, distance=5.0, target=np.zeros(3), focal_px=1200, size=512)
    for backend in TABLE["render"]:
        if obstacle(backend, device) is None:
            renderer = Renderer(mesh, device=device, backend=backend.name)
            line(f"visibility, {len(mesh.faces)} faces, 512 x 512, {backend.name}", lambda r=renderer: r.hits(camera))
    if options.fits:
        print()
        scene = load_scene(Path(str(resources.files("avatar_kit") / "weights" / "demo")), views=3)
        for preset in options.presets.split(","):
            config = PRESETS[preset]
            steps = min(config.fit.steps, 110)
            short = replace(config, fit=replace(config.fit, steps=steps))
            result = reconstruct(scene, prior=prior, preset=preset, config=short, device=device)
            stages = ", ".join(f"{name} {value:.1f}" for name, value in result.seconds.items())
            print(f"{preset}: {1e3 * result.seconds['fit'] / steps:.0f} ms a step; seconds: {stages} ({steps} of {config.fit.steps} steps)")


if __name__ == "__main__":
    main()

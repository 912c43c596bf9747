"""Heads that no training saw, with hair, fitted to their true distances: how near a prior comes, before any photo.

    python benchmarks/held_out.py [FILE] --source anny --source ict:FILE [--hair DIR] [--count 30] [--grid-heads 6] [--steps 1000,600]
        [--work runs/held_out]

Mean distance from true surface points to the modelled surface in mm: of the mean head, of latents alone (fitted together, first
number of steps), and of latent and grids (head by head, second number). Stopped while it samples, it goes on when started again.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from avatar_kit.prior.project import project, surface_error_mm
from avatar_kit.prior.samples import HeadRequest, write_samples
from avatar_kit.prior.storage import load_prior

SEED = 90_001  # of heads that no training saw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prior", nargs="?", default="default")
    parser.add_argument("--source", action="append", required=True, help="anny or ict:FILE; several make a row each")
    parser.add_argument("--hair")
    parser.add_argument("--count", type=int, default=30, help="heads of each source")
    parser.add_argument("--grid-heads", type=int, default=6, help="of them, those whose grids are fitted too")
    parser.add_argument("--steps", default="1000,600")
    parser.add_argument("--work", type=Path, default=Path("runs/held_out"))
    options = parser.parse_args()
    latent_steps, grid_steps = map(int, options.steps.split(","))
    prior, generator = load_prior(options.prior), torch.Generator().manual_seed(0)
    print("| heads | mean head | latent alone | worst | latent and grids | worst | seconds |\n|" + " --- |" * 7)
    for number, source in enumerate(options.source):
        started = time.perf_counter()
        request = HeadRequest(source, options.count, SEED + number, makehuman_hair=options.hair)
        samples = write_samples(options.work / f"{number}", [request])
        rows = list(range(len(samples)))
        mean = surface_error_mm(prior.field, prior.mean_latent.expand(len(rows), -1), samples, rows)
        field, latents = project(prior, samples, rows, steps=latent_steps, generator=generator)
        alone = [surface_error_mm(field, latents[[row]], samples, [row]) for row in rows]
        both = []
        for row in rows[:: max(1, len(rows) // options.grid_heads)][: options.grid_heads]:
            own, latent = project(prior, samples, [row], steps=grid_steps, generator=generator, grids=True)
            both.append(surface_error_mm(own, latent, samples, [row]))
        name = f"{len(rows)} {source.partition(':')[0]}"
        counts = f"{np.mean(alone):.2f} | {max(alone):.2f} | {np.mean(both):.3f} ({len(both)}) | {max(both):.3f}"
        print(f"| {name} | {mean:.2f} | {counts} | {time.perf_counter() - started:.0f} |", flush=True)


if __name__ == "__main__":
    main()

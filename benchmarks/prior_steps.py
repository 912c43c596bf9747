"""How long a step of the prior's training takes, stage by stage, and what a whole training would take.

    python benchmarks/prior_steps.py [--preset paper] [--heads 10000] [--steps 3] [--device cpu] [--tflops 20] [--set KEY=VALUE]

The samples are of balls: a step costs the same whatever it learns. `--tflops` is what a GPU would sustain of such work; its row is
arithmetic from the multiplications that torch counts, not a measurement.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
import trimesh
from kernels import machine
from torch.utils.flop_counter import FlopCounterMode

from avatar_kit.config import PRESETS, override
from avatar_kit.prior.samples import HeadRequest, SampleFolder, write_samples
from avatar_kit.prior.train import PriorTrainer


def balls(folder: Path, count: int) -> SampleFolder:
    for i in range(count):
        trimesh.creation.icosphere(subdivisions=3, radius=60.0 + 4.0 * i).export(folder / f"ball_{i:02d}.ply")
    return write_samples(folder / "samples", [HeadRequest(f"folder:{folder}", count)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--heads", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=3, help="timed, after one that is not")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tflops", type=float, default=20.0)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    config = override(PRESETS[options.preset], options.overrides)
    per_step = config.prior.heads_per_step
    print(f"{machine()}, {options.device}; preset {options.preset}, {per_step} heads of {config.prior.points_per_head} points a step")
    print("| stage | epochs | s a step | TFLOP a step | hours here | hours at the stated rate |\n|" + " --- |" * 6)
    totals = [0.0, 0.0]
    with tempfile.TemporaryDirectory() as folder:
        trainer = PriorTrainer(balls(Path(folder), per_step), config, seed=0, device=options.device)
        for stage, epochs in enumerate(config.prior.epochs):
            trainer.epoch = sum(config.prior.epochs[:stage])
            with FlopCounterMode(display=False) as counter:
                trainer._train_epoch()  # all heads are one step
            started = time.perf_counter()
            for _ in range(options.steps):
                trainer._train_epoch()
            if options.device != "cpu":
                torch.cuda.synchronize()
            seconds = (time.perf_counter() - started) / options.steps
            tera = counter.get_total_flops() / 1e12
            steps = epochs * -(-options.heads // per_step)
            hours = [steps * seconds / 3600, steps * tera / options.tflops / 3600]
            totals = [a + b for a, b in zip(totals, hours, strict=True)]
            print(f"| {stage + 1} | {epochs} | {seconds:.2f} | {tera:.3f} | {hours[0]:.0f} | {hours[1]:.1f} |", flush=True)
    print(f"| all | {sum(config.prior.epochs)} | | | {totals[0]:.0f} | {totals[1]:.1f} |")
    print(f"\n{options.heads} heads; the last column at {options.tflops:g} TFLOP/s.")


if __name__ == "__main__":
    main()

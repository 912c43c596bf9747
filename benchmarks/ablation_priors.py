"""Train the priors of the paper's tables 1 and 2, all on the same heads, epochs and seed, for `eval --table 1` and `--table 2`.

    python benchmarks/ablation_priors.py OUT --heads 'anny*150' --heads 'ict:FILE*100' [--hair DIR] [--work DIR] [--only NAME,NAME]
        [--epochs 64,50,136] [--threads 1]

Stopped, it goes on where it was when it is started again. "ours" is the prior with the default settings.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from avatar_kit.config import PRESETS, override
from avatar_kit.prior.card import write_prior
from avatar_kit.prior.held_out import split_requests
from avatar_kit.prior.samples import HeadRequest, write_samples
from avatar_kit.prior.train import PriorTrainer
from avatar_kit.score.ablations import ABLATIONS, training_config

_HELD_OUT = 6  # heads of each source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--heads", action="append", required=True, metavar="SOURCE*COUNT")
    parser.add_argument("--hair")
    parser.add_argument("--work", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--only")
    parser.add_argument("--epochs", default="64,50,136")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    requests = []
    for number, text in enumerate(options.heads):
        source, _, count = text.rpartition("*")
        requests.append(HeadRequest(source, int(count), options.seed + number, makehuman_hair=options.hair))
    seen, unseen = split_requests(requests, _HELD_OUT)
    samples = write_samples(options.work / "samples", seen, workers=options.threads)
    held_out = write_samples(options.work / "samples_held_out", unseen, workers=options.threads) if unseen else None
    base = override(PRESETS["fast"], [f"prior.epochs={options.epochs}"])
    variants = {v.prior: v for ablation in ABLATIONS.values() for v in reversed(ablation.variants) if v.prior != "none"}
    for name in options.only.split(",") if options.only else variants:
        file = options.out / f"{name}.safetensors"
        if file.is_file():
            continue
        trainer = PriorTrainer(samples, training_config(variants[name], base), seed=options.seed)
        checkpoint = options.work / f"{name}.ckpt"
        if checkpoint.is_file():
            trainer.load(checkpoint)
        started = time.perf_counter()
        trainer.train(checkpoint=checkpoint)
        card = write_prior(file, trainer, held_out=held_out, command=" ".join(["python", *sys.argv]), seed=options.seed)
        print(f"{name}: {trainer.seconds:.0f} s of training, {time.perf_counter() - started:.0f} s now, {card['scores']}", flush=True)


if __name__ == "__main__":
    main()

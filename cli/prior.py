"""`avatar-kit prior train` and `avatar-kit prior info`."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import click
from avatar_kit_cli.options import preset_options, resolve_config


@click.group()
def prior() -> None:
    """Train the head prior, or look inside one."""


@prior.command()
@click.option("--heads", "sources", multiple=True, required=True, metavar="SOURCE[*COUNT]",
              help="anny, ict:FILE or folder:DIR, with a number of heads (default 300), e.g. 'anny*540'; repeatable.")  # fmt: skip
@click.option("--hair", type=click.Path(path_type=Path), help="A folder of MakeHuman hair styles (*.obj).")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The prior, a .safetensors file.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("runs/prior"), show_default=True,
              help="Samples and checkpoints.")  # fmt: skip
@click.option("--workers", default=2, show_default=True, help="Processes that make samples.")
@click.option("--threads", type=int, help="Of the training; all cores by default.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint.")
@preset_options
def train(
    sources: tuple[str, ...], hair: Path | None, out: Path, work: Path, workers: int, threads: int | None, resume: bool,
    preset: str, overrides: tuple[str, ...], device: str, seed: int,
) -> None:  # fmt: skip
    """Train a prior: sample heads once to disk, then the auto-decoder, coarse to fine. Stop at any moment; --resume goes on."""
    import torch
    from tqdm import tqdm

    from avatar_kit.backends import pick_device
    from avatar_kit.prior.card import write_prior
    from avatar_kit.prior.samples import HeadRequest, write_samples
    from avatar_kit.prior.train import PriorTrainer

    config = resolve_config(preset, overrides)
    if threads:
        torch.set_num_threads(threads)
    requests = [
        HeadRequest(source, count, seed + i, makehuman_hair=str(hair) if hair else None)
        for i, (source, count) in enumerate(map(_source_and_count, sources))
    ]
    held_out = [dataclasses.replace(request, count=max(1, request.count // 30), seed=request.seed + 1000) for request in requests]
    folders = []
    for name, asked in (("held out", held_out), ("training", requests)):
        with tqdm(total=sum(request.count for request in asked), desc=f"{name} heads", unit="head") as bar:
            folder = work / f"samples_{name.replace(' ', '_')}"
            folders.append(write_samples(folder, asked, workers=workers, progress=lambda done, _, bar=bar: bar.update(done - bar.n)))
    trainer = PriorTrainer(folders[1], config, seed=seed, device=pick_device(device))
    checkpoint = work / "training.ckpt"
    if checkpoint.is_file() and not resume:
        raise click.UsageError(f"{checkpoint}: an earlier training is there. Give --resume to go on with it, or another --work.")
    if checkpoint.is_file():
        trainer.load(checkpoint)
    with tqdm(total=trainer.epochs, initial=trainer.epoch, desc="training", unit="epoch") as bar:

        def show(epoch: int, terms: dict[str, float]) -> None:
            bar.set_postfix_str(f"surface {terms['surface_mm']:.2f} mm")
            bar.update(epoch - bar.n)

        trainer.train(checkpoint=checkpoint, on_epoch=show)
    card = write_prior(out, trainer, held_out=folders[0], command=" ".join(["avatar-kit", *sys.argv[1:]]), seed=seed)
    click.echo(json.dumps(card["scores"], indent=1), err=True)
    click.echo(out)


@prior.command()
@click.argument("file", default="default")
def info(file: str) -> None:
    """Print the card of a prior: data, licences, command, seed, time, scores."""
    from avatar_kit.prior.storage import load_prior

    loaded = load_prior(file)
    click.echo(json.dumps({"field": dataclasses.asdict(loaded.field.config), **loaded.card}, indent=1))


def _source_and_count(text: str) -> tuple[str, int]:
    source, star, count = text.rpartition("*")
    if not star:
        return text, 300
    if not count.isdigit() or int(count) < 1:
        raise click.UsageError(f"--heads {text}: the count after * must be a positive number, as in 'anny*540'.")
    return source, int(count)

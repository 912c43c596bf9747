"""`avatar-kit prior`: train, info, sample, interpolate, fit, page."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import click
from avatar_kit_cli.options import check_file, check_folder, positive, preset_options, resolve_config


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
@click.option("--start", help="Go on from this prior (default, or a file) instead of from a sphere.")
@click.option("--held-out", type=click.IntRange(1),
              help="Heads of each source to score with, of a folder so many of its scans.  [default: a thirtieth]")  # fmt: skip
@click.option("--workers", default=2, show_default=True, help="Processes that make samples.")
@click.option("--threads", type=int, help="Of the training; all cores by default.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint.")
@preset_options
def train(
    sources: tuple[str, ...], hair: Path | None, out: Path, work: Path, start: str | None, held_out: int | None, workers: int,
    threads: int | None, resume: bool, preset: str, overrides: tuple[str, ...], device: str, seed: int,
) -> None:  # fmt: skip
    """Train a prior: sample heads once to disk, then the auto-decoder, coarse to fine. Stop at any moment; --resume goes on.

    On several GPUs or machines: torchrun --nproc-per-node N -m avatar_kit_cli.main prior train ...
    """
    import torch
    from tqdm import tqdm

    from avatar_kit.backends import pick_device
    from avatar_kit.prior import processes
    from avatar_kit.prior.card import write_prior
    from avatar_kit.prior.held_out import split_requests
    from avatar_kit.prior.history import History
    from avatar_kit.prior.samples import HeadRequest, SampleFolder, write_samples
    from avatar_kit.prior.storage import load_prior
    from avatar_kit.prior.train import PriorTrainer

    config = resolve_config(preset, overrides)
    if threads:
        torch.set_num_threads(threads)
    requests = [
        HeadRequest(source, count, seed + i, makehuman_hair=str(hair) if hair else None)
        for i, (source, count) in enumerate(map(_source_and_count, sources))
    ]
    begin = load_prior(start) if start else None
    checkpoint = work / "training.ckpt"
    if checkpoint.is_file() and not resume:
        raise click.UsageError(f"{checkpoint}: an earlier training is there. Give --resume to go on with it, or another --work.")
    with processes.joined(pick_device(device)) as device:  # not click's with_resource: its Exit would keep the group from being left
        processes.check_sizes(sum(request.count for request in requests), config.prior.heads_per_step)
        first = processes.rank() == 0  # the others wait for its samples, and are silent
        samples = {name: work / f"samples_{name.replace(' ', '_')}" for name in ("held out", "training")}
        seen, unseen = split_requests(requests, held_out) if first else ([], [])
        for (name, folder), asked in zip(samples.items(), (unseen, seen), strict=True):
            if not asked:
                continue
            with tqdm(total=sum(request.count for request in asked), desc=f"{name} heads", unit="head") as bar:
                write_samples(folder, asked, workers=workers, progress=lambda done, _, bar=bar: bar.update(done - bar.n))
        processes.wait()
        trainer = PriorTrainer(SampleFolder(samples["training"]), config, seed=seed, device=device, start=begin)
        if processes.first_says(checkpoint.is_file()):
            trainer.load(checkpoint)
        history = History(work / "history.jsonl", epoch=trainer.epoch) if first else None
        with tqdm(total=trainer.epochs, initial=trainer.epoch, desc="training", unit="epoch", disable=not first) as bar:

            def show(epoch: int, terms: dict[str, float]) -> None:
                if history:
                    history.add(epoch, trainer.seconds, terms)
                bar.set_postfix_str(f"surface {terms['surface_mm']:.2f} mm")
                bar.update(epoch - bar.n)

            trainer.train(checkpoint=checkpoint, on_epoch=show)
        command = " ".join(["avatar-kit", *sys.argv[1:]])
        scored = SampleFolder(samples["held out"]) if unseen else None
        card = write_prior(out, trainer, held_out=scored, command=command, seed=seed)
        if card:
            click.echo(json.dumps(card["scores"], indent=1), err=True)
            click.echo(out)


@prior.command()
@click.argument("file", default="default")
def info(file: str) -> None:
    """Print the card of a prior: data, licences, command, seed, time, scores."""
    from avatar_kit.prior.storage import load_prior

    loaded = load_prior(file)
    click.echo(json.dumps({"field": dataclasses.asdict(loaded.field.config), **loaded.card}, indent=1))


_look = [
    click.option("--out", type=click.Path(path_type=Path), required=True, help="A contact sheet, .png."),
    click.option("--meshes", type=click.Path(path_type=Path), help="A folder for the meshes too (.ply, mm, head frame)."),
    click.option("--resolution", default=128, show_default=True, type=click.IntRange(32), help="Cells along each side of the box."),
    click.option("--overwrite", is_flag=True),
]


def _look_options(command: Any) -> Any:
    for option in reversed(_look):
        command = option(command)
    return command


@prior.command()
@click.argument("file", default="default")
@click.option("--count", default=9, show_default=True, type=click.IntRange(1))
@click.option("--spread", default=1.0, show_default=True, callback=positive, help="Times the training heads' standard deviation.")
@click.option("--seed", default=0, show_default=True)
@_look_options
def sample(file: str, count: int, spread: float, seed: int, out: Path, meshes: Path | None, resolution: int, overwrite: bool) -> None:
    """Draw random heads of the prior FILE."""
    import torch

    from avatar_kit.mesh.gallery import random_latents
    from avatar_kit.prior.storage import load_prior

    loaded = load_prior(file)
    latents = random_latents(loaded, count, torch.Generator().manual_seed(seed), spread=spread)
    _show(loaded, latents, out, meshes, resolution, overwrite)


@prior.command()
@click.argument("a")
@click.argument("b")
@click.argument("file", default="default")
@click.option("--count", default=5, show_default=True, type=click.IntRange(2), help="Heads on the way, both ends included.")
@_look_options
def interpolate(a: str, b: str, file: str, count: int, out: Path, meshes: Path | None, resolution: int, overwrite: bool) -> None:
    """Go from head A to head B of the prior FILE: mean, a training head's number, or random:SEED."""
    from avatar_kit.mesh.gallery import between, named_latent
    from avatar_kit.prior.storage import load_prior

    loaded = load_prior(file)
    _show(loaded, between(named_latent(loaded, a), named_latent(loaded, b), count), out, meshes, resolution, overwrite)


@prior.command()
@click.argument("mesh", type=click.Path(path_type=Path))
@click.argument("file", default="default")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A folder.")
@click.option("--steps", default=600, show_default=True, type=click.IntRange(1), help="Of each fit.")
@click.option("--resolution", default=256, show_default=True, type=click.IntRange(32), help="Cells along each side of the box.")
@click.option("--seed", default=0, show_default=True)
@click.option("--mm-per-unit", type=float, callback=positive, help="Of MESH.  [default: what its scene says, else 1]")
@click.option(
    "--in-head-frame", is_flag=True, help="MESH is in the head frame already: +y up, +z out of the face, the nose tip at z = 130 mm."
)
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
def fit(
    mesh: Path,
    file: str,
    out: Path,
    steps: int,
    resolution: int,
    seed: int,
    mm_per_unit: float | None,
    in_head_frame: bool,
    overwrite: bool,
) -> None:
    """Fit the prior FILE to MESH, a mesh file or a scene with its truth: how near does it come?

    Writes fit.png, latent.ply (the latent alone) and grids.ply (latent and grids; both mm, head frame), and fit.json: distances from
    the true surface in mm, over all of it and over the face (95 mm around the nose tip), beside those of the mean head.
    """
    from avatar_kit.prior.fit_mesh import fit_mesh
    from avatar_kit.prior.storage import load_prior
    from avatar_kit.score.prior_fit import fit_table, score_fit, write_fit
    from avatar_kit.score.target import read_target

    check_folder(out, overwrite, ("fit.png", "fit.json", "latent.ply", "grids.ply"), inputs=[mesh])
    loaded = load_prior(file)
    target = read_target(mesh, loaded.mean_sdf, mm_per_unit=mm_per_unit, in_head_frame=in_head_frame, seed=seed)
    click.echo(f"{mesh}: frame {target.frame}", err=True)
    fitted = fit_mesh(
        loaded,
        target.head,
        steps=steps,
        seed=seed,
        free_pose=target.estimated,
        progress=lambda stage: click.echo(f"fitting {stage}", err=True),
    )
    for note in fitted.notes:
        click.echo(f"{mesh}: {note}", err=True)
    scored = score_fit(loaded, fitted, mm_per_head_unit=target.mm_after(fitted.moved), resolution=resolution, seed=seed)
    notes = {"mesh": str(mesh), "prior": file, "frame": target.frame, "steps": steps, "seed": seed, "resolution": resolution}
    paths = write_fit(out, fitted, scored, notes)
    click.echo(fit_table(scored), err=True)
    for path in paths:
        click.echo(path)


@prior.command()
@click.argument("file", default="default")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A page, .html.")
@click.option("--history", type=click.Path(path_type=Path), help="history.jsonl of the training, for its curves.")
@click.option("--count", default=9, show_default=True, type=click.IntRange(2), help="Random heads.")
@click.option("--resolution", default=128, show_default=True, type=click.IntRange(32), help="Cells along each side of the box.")
@click.option("--seed", default=0, show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
def page(file: str, out: Path, history: Path | None, count: int, resolution: int, seed: int, overwrite: bool) -> None:
    """Show the prior FILE on one page: card, random heads, interpolation, learning curves, held-out scores."""
    from avatar_kit.prior.history import read_history
    from avatar_kit.prior.storage import load_prior
    from avatar_kit.score.prior_page import prior_page

    check_file(out, overwrite, (".html",))
    entries = read_history(history) if history else []
    text = prior_page(load_prior(file), name=file, count=count, resolution=resolution, seed=seed, history=entries)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text)
    click.echo(out)


def _show(loaded: Any, latents: Any, out: Path, meshes: Path | None, resolution: int, overwrite: bool) -> None:
    from avatar_kit.conventions import MM_PER_UNIT
    from avatar_kit.mesh.files import write_mesh
    from avatar_kit.mesh.gallery import heads
    from avatar_kit.render.sheet import contact_sheet
    from avatar_kit.whole_folder import whole_folder

    check_file(out, overwrite, (".png",))
    if meshes:
        check_folder(meshes, overwrite, ("head_*.ply",))
    made = heads(loaded, latents, resolution=resolution)
    out.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(made, per_row=min(3, len(made))).save(out, optimize=True)
    click.echo(out)
    if not meshes:
        return
    with whole_folder(meshes) as part:
        for number, mesh in enumerate(made):
            write_mesh(part / f"head_{number:03d}.ply", dataclasses.replace(mesh, vertices=mesh.vertices * MM_PER_UNIT))
    for number in range(len(made)):
        click.echo(meshes / f"head_{number:03d}.ply")


def _source_and_count(text: str) -> tuple[str, int]:
    source, star, count = text.rpartition("*")
    if not star:
        return text, 300
    if not count.isdigit() or int(count) < 1:
        raise click.UsageError(f"--heads {text}: the count after * must be a positive number, as in 'anny*540'.")
    return source, int(count)

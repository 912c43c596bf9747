"""`avatar-kit normals train`, `predict`, `eval` and `pairs`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from avatar_kit_cli.options import check_additions, resolve_config

from avatar_kit.config import PRESETS

if TYPE_CHECKING:
    from avatar_kit.normals.generate import PairStreamRequest

_PAIRS_PER_HEAD = 4  # in `eval`: heads take longer to make than their pictures
_HELD_OUT_SEED = 1_000_003  # far from any seed that a user is likely to train with
_weights = click.option("--weights", type=click.Path(path_type=Path),
                        help="A network of `normals train`, or another's as .onnx; the shipped one by default.")  # fmt: skip
_device = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
_axes = click.option("--axes", help="Of an .onnx network's channels in x right, y down, z forward.  [default: x,-y,-z]")


@click.group()
def normals() -> None:
    """Train the network that estimates normals from photos, use it, score it."""


def pair_options(command: Any) -> Any:
    """What pairs are made of."""
    for option in (
        click.option("--seed", default=0, show_default=True, help="Of every random draw."),
        click.option("--without", multiple=True, metavar="NAME", help="Leave an ingredient of the pairs out; repeatable."),
        click.option("--skins", type=click.Path(path_type=Path), help="A folder of MakeHuman skins."),
        click.option("--hair", type=click.Path(path_type=Path), help="A folder of MakeHuman hair styles (*.obj)."),
        click.option("--sources", multiple=True, default=("anny",), show_default=True, metavar="SOURCE",
                     help="anny or ict:FILE; repeatable."),
    ):  # fmt: skip
        command = option(command)
    return command


def _request(seed: int, sources: tuple[str, ...], hair: Path | None, skins: Path | None, without: tuple[str, ...]) -> PairStreamRequest:
    from avatar_kit.normals.generate import PairStreamRequest
    from avatar_kit.normals.pairs import INGREDIENTS

    unknown = sorted(set(without) - INGREDIENTS)
    if unknown:
        raise click.UsageError(f"--without {unknown[0]}: no such ingredient. There are {', '.join(sorted(INGREDIENTS))}.")
    for source in sources:
        if source.startswith("folder:"):  # other seeds give no other scans, and held-out pairs would be of the heads that are trained on
            raise click.UsageError(f"{source}: pairs are made of anny and ict:FILE, whose heads never end.")
    return PairStreamRequest(seed, sources, hair, skins, without)


@normals.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The network, a .safetensors file.")
@click.option("--work", type=click.Path(path_type=Path), default=Path("runs/normals"), show_default=True,
              help="Pools of pairs, checkpoint, validation sheets.")  # fmt: skip
@click.option("--encoder-weights", default="imagenet", show_default=True, metavar="imagenet|none|FILE")
@click.option("--init", type=click.Path(path_type=Path), help="Start from the weights of a trained network.")
@click.option("--minutes", type=float, help="Budget of time, over all resumed runs; the schedule fits itself into it.")
@click.option("--workers", default=1, show_default=True, help="Processes that make pairs.")
@click.option("--pairs-first", metavar="N[,N]", help="Make so many pairs (for each size of crops) before training, and none during it.")
@click.option("--threads", default=1, show_default=True, help="Of the training.")
@_device
@click.option("--validate-every", default=5.0, show_default=True, help="Minutes between checkpoints with validation.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint.")
@click.option("--preset", type=click.Choice(sorted(PRESETS)), default="fast", show_default=True)
@click.option("--set", "overrides", multiple=True, metavar="STAGE.FIELD=VALUE", help="Replace a setting; repeatable.")
@pair_options
def train(
    out: Path, work: Path, encoder_weights: str, init: Path | None, minutes: float | None, workers: int,
    pairs_first: str | None, threads: int, device: str, validate_every: float, resume: bool, preset: str,
    overrides: tuple[str, ...], sources: tuple[str, ...], hair: Path | None, skins: Path | None, without: tuple[str, ...], seed: int,
) -> None:  # fmt: skip
    """Train on pairs that are made meanwhile, or before. Stop at any moment; --resume goes on, pairs included."""
    import dataclasses

    import torch

    from avatar_kit.backends import pick_device
    from avatar_kit.normals.schedule import predicted_px
    from avatar_kit.normals.session import TrainingSession

    torch.set_num_threads(threads)
    config = resolve_config(preset, overrides)
    if not any(text.strip().startswith("normals.crop_px=") for text in overrides):
        network = dataclasses.replace(config.normals, crop_px=predicted_px(config.normals_training.sizes))
        config = dataclasses.replace(config, normals=network)
    counts = _counts(pairs_first, len(config.normals_training.sizes))
    request = _request(seed, sources, hair, skins, without)
    session = TrainingSession(
        config, request, work=work, seed=seed,
        held_out=dataclasses.replace(request, seed=seed + _HELD_OUT_SEED, without=()),
        budget=None if minutes is None else minutes * 60, device=pick_device(device),
    )  # fmt: skip
    if session.trainer.checkpoint.is_file() and not resume:
        raise click.UsageError(f"{work}: an earlier training is there. Give --resume to go on with it, or another --work.")
    session.start(encoder_weights=encoder_weights, init=init)
    session.run(workers=workers, pause_every=validate_every * 60, pairs_first=counts)
    card = session.finish(out, command=" ".join(["avatar-kit", *sys.argv[1:]]))
    click.echo("  ".join(f"{name} {value:g}" for name, value in card["scores"].items()), err=True)
    click.echo(out)


def _counts(text: str | None, stages: int) -> tuple[int, ...]:
    if text is None:
        return ()
    counts = tuple(int(part) for part in text.split(",") if part.strip().isdigit())
    if len(counts) != stages or min(counts) < 1 or len(text.split(",")) != stages:
        asked = "one count" if stages == 1 else f"{stages} counts with commas between, one for each size of crops"
        raise click.UsageError(f"--pairs-first {text}: give {asked}.")
    return counts


@normals.command()
@click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A folder.")
@_weights
@_axes
@_device
@click.option(
    "--masks",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A folder with NAME.png (white on the subject) for each photo.",
)
@click.option("--flips/--no-flips", default=True, show_default=True, help="Average with the mirrored photo: better, twice the time.")
@click.option("--overwrite", is_flag=True)
def predict(
    photos: tuple[Path, ...],
    out: Path,
    weights: Path | None,
    axes: str | None,
    device: str,
    masks: Path | None,
    flips: bool,
    overwrite: bool,
) -> None:
    """Write NAME_normal.png (16 bits), NAME_mask.png and NAME_preview.png for each of PHOTOS into a folder."""
    import numpy as np
    from PIL import Image
    from tqdm import tqdm

    from avatar_kit.backends import pick_device
    from avatar_kit.normals.predict import predict_normals
    from avatar_kit.normals.prediction import preview
    from avatar_kit.normals.storage import load_estimator
    from avatar_kit.scene.h3ds import write_normal_map
    from avatar_kit.scene.photo_file import read_mask, read_photo

    check_additions(out, overwrite)
    stems = [photo.stem for photo in photos]
    if len(set(stems)) < len(stems):
        raise click.UsageError("two photos have the same name without its ending; their results would overwrite each other.")
    net = load_estimator(weights, axes=axes, device=pick_device(device))
    for photo in tqdm(photos, unit="photo", disable=None):
        read = read_photo(photo)
        mask = read_mask(masks / f"{photo.stem}.png", read.image.shape[:2]) if masks else read.mask
        found = predict_normals(read.image, net, mask, flips=flips, name=str(photo))
        out.mkdir(parents=True, exist_ok=True)
        write_normal_map(out / f"{photo.stem}_normal.png", found.normals)
        Image.fromarray(found.mask.astype(np.uint8) * 255).save(out / f"{photo.stem}_mask.png")
        Image.fromarray(preview(read.image, found)).save(out / f"{photo.stem}_preview.png")
        click.echo(out / f"{photo.stem}_preview.png")


@normals.command("eval")
@click.argument("targets", nargs=-1)
@_weights
@_axes
@_device
@click.option("--pairs", "count", default=500, show_default=True, type=click.IntRange(1), help="Of a source of heads.")
@click.option("--size", type=int, help="Of the pairs, px.  [default: what the network predicts on]")
@click.option("--flips/--no-flips", default=True, show_default=True)
@pair_options
def evaluate(
    targets: tuple[str, ...], weights: Path | None, axes: str | None, device: str, count: int, size: int | None, flips: bool,
    sources: tuple[str, ...], hair: Path | None, skins: Path | None, without: tuple[str, ...], seed: int,
) -> None:  # fmt: skip
    """Score on scene folders with a true mesh (TARGETS), or on pairs of unseen heads where none is given. Prints JSON."""
    import dataclasses
    import json

    from tqdm import tqdm

    from avatar_kit.backends import pick_device
    from avatar_kit.normals.evaluate import evaluate_pairs, evaluate_scene
    from avatar_kit.normals.storage import load_estimator
    from avatar_kit.scene.h3ds import H3dsFolder

    net = load_estimator(weights, axes=axes, device=pick_device(device))
    scores = {target: evaluate_scene(net, H3dsFolder(Path(target)), flips=flips) for target in targets}
    if not targets:
        request = _request(seed, sources, hair, skins, without)
        stream = dataclasses.replace(request, seed=seed + 2 * _HELD_OUT_SEED).open(size or net.crop_px)
        numbers = (i // _PAIRS_PER_HEAD * request.pairs_per_head + i % _PAIRS_PER_HEAD for i in range(count))
        pairs = (stream.pair(number) for number in tqdm(numbers, total=count, unit="pair"))
        scores[" ".join(sources)] = evaluate_pairs(net, pairs, flips=flips)
    click.echo(json.dumps(scores, indent=1))


@normals.command()
@click.option("--count", default=100, show_default=True, type=click.IntRange(1))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A folder.")
@click.option("--size", default=256, show_default=True, help="px")
@click.option("--overwrite", is_flag=True)
@pair_options
def pairs(
    count: int, out: Path, size: int, overwrite: bool, sources: tuple[str, ...], hair: Path | None, skins: Path | None,
    without: tuple[str, ...], seed: int,
) -> None:  # fmt: skip
    """Write pairs of photographs and normals as shards, for looking at or for training elsewhere."""
    from tqdm import tqdm

    from avatar_kit.normals.shards import write_shards

    check_additions(out, overwrite)
    with tqdm(total=count, unit="pair") as bar:
        write_shards(_request(seed, sources, hair, skins, without).open(size), count=count, out=out, on_pair=lambda *_: bar.update())
    click.echo(out)

"""`avatar-kit recon` and `avatar-kit demo`."""

from __future__ import annotations

import math
from pathlib import Path

import click
from avatar_kit_cli.maker import Maker, PhotoHints, finished
from avatar_kit_cli.options import check_folder, parse_view_ids, parse_yaws, positive, preset_options, refuse_field, resolve_config

_CONTACT = ("photos.json", "photos.png")  # of --check: the result joins them
_PARTS = (*_CONTACT, "mesh.ply", "avatar.*", "preview.png", "errors.png", "report.*", "fit.safetensors")
_EXTRACTOR = {"warp": "warp", "kaolin": "flexicubes"}


@click.command()
@click.argument("scenes", nargs=-1, required=True, metavar="SCENE...", type=click.Path(path_type=Path))
@click.option("--views", type=click.IntRange(1), help="How many photos to use.  [default: 3 of a scene, all plain photos]")
@click.option("--view-ids", help="Exactly these photos, e.g. 0,2,3.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the result; of several scenes, OUT/NAME each.")
@click.option("--prior", "prior_file", default="default", show_default=True, metavar="default|none|FILE",
              help="default: the shipped one; none: start from a sphere, to compare.")  # fmt: skip
@click.option("--normals", "normal_net", default="default", show_default=True, metavar="none|default|FILE",
              help="Network that predicts normals where the scene has none; default: the shipped one.")  # fmt: skip
@click.option("--refine-cameras/--keep-cameras", default=None,
              help="Move the cameras too, a little, so that the photos agree.  [default: only those of plain photos]")  # fmt: skip
@click.option(
    "--masks",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Of plain photos: a folder with NAME.png, white on the subject.",
)
@click.option(
    "--focal-mm", type=float, callback=positive, help="Of plain photos: focal length, 35 mm equivalent.  [default: EXIF, else estimated]"
)
@click.option("--person", type=click.IntRange(1), help="Of plain photos with several people: which, counted from the largest.")
@click.option("--yaw", metavar="DEG,...", help="Of plain photos: roughly from where each was taken, in the order of their names: "
              "0 is frontal, positive sees the subject's left side (the nose points to the picture's left), e.g. 0,45,-45.")  # fmt: skip
@click.option("--check", is_flag=True, help="Of plain photos: write photos.json and photos.png, what was understood, and stop.")
@click.option("--seconds", type=float, default=math.inf, callback=positive, help="Budget of the fit.")
@click.option("--backend", type=click.Choice(["warp", "kaolin"]), help="Extract the mesh with this one.  [default: the fastest that works]")
@click.option("--usd", is_flag=True, help="Write avatar.usdc too (needs usd-core).")
@click.option("--resume", is_flag=True, help="Keep results that are finished, make the others.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
@preset_options
def recon(
    scenes: tuple[Path, ...], views: int | None, view_ids: str | None, out: Path, prior_file: str, normal_net: str,
    refine_cameras: bool | None, masks: Path | None, focal_mm: float | None, person: int | None, yaw: str | None, check: bool,
    seconds: float, backend: str | None, usd: bool, resume: bool, overwrite: bool, preset: str, overrides: tuple[str, ...], device: str,
    seed: int,
) -> None:  # fmt: skip
    """Reconstruct the head of SCENE: a folder of posed photos with masks (H3DS / IDR layout), a folder of plain photos of one
    person, or one photo; of several, one after another.

    Writes mesh.ply (world frame and unit), avatar.glb (metres), preview.png, report.json and fit.safetensors. A result is
    there whole or not at all; with --resume those that are there stay. Of plain photos, photos.json and photos.png come
    first: they show which head, mask and cameras were found.
    """
    ids = parse_view_ids(view_ids)
    if views and ids:
        raise click.UsageError("--views and --view-ids both say which photos to use. Give one of them.")
    outs = _outputs(scenes, out)
    for each in outs:
        if check and finished(each):
            raise click.UsageError(f"{each} holds a result, of which photos.json and photos.png are a part. Give another --out to --check.")
        if not (resume and finished(each)):
            check_folder(each, overwrite or resume, _PARTS, joins=_CONTACT, inputs=scenes)
    if resume and overwrite:
        raise click.UsageError("--resume keeps finished results, --overwrite replaces them. Give one of them.")
    if backend:
        overrides = (*overrides, f"mesh.extractor={_EXTRACTOR[backend]}")
    if prior_file == "none":
        from avatar_kit.config import WITHOUT_PRIOR

        overrides = (*WITHOUT_PRIOR, *overrides)
    else:
        refuse_field(overrides)
    config, plain_config = (resolve_config(preset, overrides, plain=plain) for plain in (False, True))
    if usd:
        from avatar_kit.backends import pick

        pick("usd")  # before minutes are spent
    hints = PhotoHints(masks, focal_mm, person, parse_yaws(yaw), check)
    network = None if normal_net == "none" else normal_net
    maker = Maker(
        prior_file, network, seconds, preset, config, device, seed,
        usd=usd, hints=hints, refine_cameras=refine_cameras, plain_config=plain_config,
    )  # fmt: skip
    for scene in scenes:
        maker.refuse(scene, ids)
    failures: list[Exception] = []
    for scene, each in zip(scenes, outs, strict=True):
        if resume and finished(each):
            click.echo(f"{each}: finished already", err=True)
            continue
        try:
            for path in maker.make(scene, each, views, ids):
                click.echo(path)
        except _input_error() as error:
            if len(scenes) == 1:
                raise
            failures.append(error)
            click.echo(f"error: {error}", err=True)
    if failures:
        raise type(failures[0])(f"{len(failures)} of {len(scenes)} scenes could not be reconstructed: " + " ".join(map(str, failures)))


def _outputs(scenes: tuple[Path, ...], out: Path) -> list[Path]:
    if len(scenes) == 1:
        return [out]
    names = [scene.resolve().name for scene in scenes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise click.UsageError(f"two scenes are named {twice[0]}: their results would overwrite each other. Reconstruct them one by one.")
    return [out / name for name in names]


def _input_error() -> type[Exception]:
    from avatar_kit.types import InputError

    return InputError


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("out/demo"), show_default=True)
@click.option("--views", default=3, show_default=True, help="How many of the six photos to use.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
@preset_options
def demo(out: Path, views: int, overwrite: bool, preset: str, overrides: tuple[str, ...], device: str, seed: int) -> None:
    """Reconstruct the bundled head, which the prior never saw, and print its error in millimetres."""
    from importlib import resources

    check_folder(out, overwrite, _PARTS)
    scene = Path(str(resources.files("avatar_kit") / "weights" / "demo"))
    refuse_field(overrides)
    maker = Maker("default", None, math.inf, preset, resolve_config(preset, overrides), device, seed)
    for path in maker.make(scene, out, views, None):
        click.echo(path)

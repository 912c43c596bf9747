"""`avatar-kit recon` and `avatar-kit demo`."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import click
from avatar_kit_cli.options import check_output, parse_view_ids, preset_options, resolve_config

_EXTRACTOR = {"warp": "warp", "kaolin": "flexicubes"}


@click.command()
@click.argument("scenes", nargs=-1, required=True, metavar="SCENE...", type=click.Path(path_type=Path))
@click.option("--views", default=3, show_default=True, help="How many photos to use.")
@click.option("--view-ids", help="Exactly these photos, e.g. 0,2,3.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the result; of several scenes, OUT/NAME each.")
@click.option("--prior", "prior_file", default="default", show_default=True, help="default, or a file of `prior train`.")
@click.option("--normals", "normal_net", default="default", show_default=True, metavar="none|default|FILE",
              help="Network that predicts normals where the scene has none; default: the shipped one.")  # fmt: skip
@click.option("--refine-cameras", is_flag=True, help="Move the cameras too, a little, so that the photos agree.")
@click.option("--seconds", type=float, default=math.inf, help="Budget of the fit.")
@click.option("--backend", type=click.Choice(["warp", "kaolin"]), help="Extract the mesh with this one.  [default: the fastest that works]")
@click.option("--usd", is_flag=True, help="Write avatar.usdc too (needs usd-core).")
@click.option("--resume", is_flag=True, help="Keep results that are finished, make the others.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
@preset_options
def recon(
    scenes: tuple[Path, ...], views: int, view_ids: str | None, out: Path, prior_file: str, normal_net: str,
    refine_cameras: bool, seconds: float, backend: str | None, usd: bool, resume: bool, overwrite: bool, preset: str, overrides: tuple[str, ...], device: str, seed: int,
) -> None:  # fmt: skip
    """Reconstruct the head of SCENE, a folder of posed photos with masks (H3DS / IDR layout); of several, one after another.

    Writes mesh.ply (world frame and unit), avatar.glb (metres), preview.png, report.json and fit.safetensors. A result is
    there whole or not at all; with --resume those that are there stay.
    """
    ids = parse_view_ids(view_ids)
    outs = _outputs(scenes, out)
    for each in outs:
        if not resume:
            check_output(each, overwrite)
    if backend:
        overrides = (*overrides, f"mesh.extractor={_EXTRACTOR[backend]}")
    if refine_cameras:
        overrides = (*overrides, "cameras.refine=true")
    config = resolve_config(preset, overrides)
    if usd:
        from avatar_kit.backends import pick

        pick("usd")  # before minutes are spent
    maker = Maker(prior_file, None if normal_net == "none" else normal_net, seconds, preset, config, device, seed, usd=usd)
    failures: list[Exception] = []
    for scene, each in zip(scenes, outs, strict=True):
        if resume and (each / "report.json").is_file():
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

    check_output(out, overwrite)
    scene = Path(str(resources.files("avatar_kit") / "weights" / "demo"))
    maker = Maker("default", None, math.inf, preset, resolve_config(preset, overrides), device, seed)
    for path in maker.make(scene, out, views, None):
        click.echo(path)


class Maker:
    """Reads, reconstructs, scores where there is a truth, and writes: scene after scene with one prior."""

    def __init__(
        self, prior_file: str, normal_net: str | None, seconds: float, preset: str, config: Any, device: str, seed: int, *,
        usd: bool = False,
    ) -> None:  # fmt: skip
        from avatar_kit.backends import pick_device
        from avatar_kit.prior.storage import load_prior

        self._device = pick_device(device)
        started = time.perf_counter()
        self._prior = load_prior(prior_file, self._device)
        self._load_seconds = time.perf_counter() - started
        self._settings = dict(normal_net=normal_net, seconds=seconds, preset=preset, config=config, device=self._device, seed=seed)
        self._steps, self._usd = config.fit.steps, usd

    def make(self, scene: Path, out: Path, views: int, ids: list[int] | None) -> list[Path]:
        """One scene; the paths of what was written."""
        from avatar_kit.recon.pipeline import log, reconstruct
        from avatar_kit.recon.run_folder import write_run
        from avatar_kit.scene.h3ds import read_reference
        from avatar_kit.scene.views import load_scene
        from avatar_kit.score.picture import error_sheet
        from avatar_kit.score.report import score_run, score_table

        started = time.perf_counter()
        loaded = load_scene(scene, views=views, view_ids=ids)
        load_seconds = time.perf_counter() - started + self._load_seconds
        self._load_seconds = 0.0  # the next scene finds the prior there
        given = sum(photo.normals is not None for photo in loaded.photos)
        log(f"{loaded.name}: {len(loaded.photos)} photos (views {list(loaded.view_ids)}), {given} with normal maps, on {self._device}")
        with _progress(self._steps) as on_step:
            result = reconstruct(loaded, prior=self._prior, on_step=on_step, **self._settings)
        result.seconds["load"] = load_seconds
        result.seconds["total"] += load_seconds
        stages = ", ".join(f"{name} {value:.1f}" for name, value in result.seconds.items() if name != "total")
        log(f"reconstructed in {result.seconds['total']:.1f} s: {stages}")
        extra: dict[str, Any] = {}
        pictures = {}
        reference = read_reference(scene)
        if reference is not None:
            extra["scores"] = score_run(result, self._prior, reference)
            log(score_table(extra["scores"]))
            pictures["errors.png"] = error_sheet(result, reference)
        return write_run(result, out, extra=extra, pictures=pictures, usd=self._usd)


class _progress:
    """A bar on stderr with the losses that matter."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def __enter__(self) -> Any:
        from tqdm import tqdm

        self._bar = tqdm(total=self._steps, desc="fit", unit="step", leave=False, mininterval=0.5)
        return self._on_step

    def _on_step(self, step: int, state: dict[str, Any]) -> None:
        self._bar.update()
        if step % 20 == 0:
            normal = float(state["terms"]["normal"].detach())
            self._bar.set_postfix_str(f"normals {math.degrees(math.acos(max(-1.0, 1.0 - normal))):.1f} deg")

    def __exit__(self, *_: object) -> None:
        self._bar.close()

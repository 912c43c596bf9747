"""`avatar-kit recon` and `avatar-kit demo`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click
from avatar_kit_cli.options import check_output, parse_view_ids, preset_options, resolve_config

_EXTRACTOR = {"warp": "warp", "kaolin": "flexicubes"}


@click.command()
@click.argument("scene", type=click.Path(path_type=Path))
@click.option("--views", default=3, show_default=True, help="How many photos to use.")
@click.option("--view-ids", help="Exactly these photos, e.g. 0,2,3.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the result.")
@click.option("--prior", "prior_file", default="default", show_default=True, help="default, or a file of `prior train`.")
@click.option("--normals", "normal_net", default="none", show_default=True, metavar="none|default|FILE",
              help="Network that predicts normals where the scene has none; default: the shipped one.")  # fmt: skip
@click.option("--seconds", type=float, default=math.inf, help="Budget of the fit.")
@click.option("--backend", type=click.Choice(["warp", "kaolin"]), help="Extract the mesh with this one.  [default: the fastest that works]")
@click.option("--usd", is_flag=True, help="Write avatar.usdc too (needs usd-core).")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
@preset_options
def recon(
    scene: Path, views: int, view_ids: str | None, out: Path, prior_file: str, normal_net: str, seconds: float,
    backend: str | None, usd: bool, overwrite: bool, preset: str, overrides: tuple[str, ...], device: str, seed: int,
) -> None:  # fmt: skip
    """Reconstruct the head of SCENE, a folder of posed photos with masks (H3DS / IDR layout).

    Writes mesh.ply (world frame and unit), avatar.glb (metres), preview.png, report.json and fit.safetensors.
    """
    ids = parse_view_ids(view_ids)
    check_output(out, overwrite)
    if backend:
        overrides = (*overrides, f"mesh.extractor={_EXTRACTOR[backend]}")
    config = resolve_config(preset, overrides)
    if usd:
        from avatar_kit.backends import pick

        pick("usd")  # before minutes are spent
    for path in run(scene, out, views, ids, prior_file, normal_net, seconds, preset, config, device, seed, usd=usd):
        click.echo(path)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("out/demo"), show_default=True)
@click.option("--views", default=3, show_default=True, help="How many of the six photos to use.")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
@preset_options
def demo(out: Path, views: int, overwrite: bool, preset: str, overrides: tuple[str, ...], device: str, seed: int) -> None:
    """Reconstruct the bundled head, which the prior never saw, and print its error in millimetres."""
    from importlib import resources

    check_output(out, overwrite)
    config = resolve_config(preset, overrides)
    scene = Path(str(resources.files("avatar_kit") / "weights" / "demo"))
    for path in run(scene, out, views, None, "default", "none", math.inf, preset, config, device, seed):
        click.echo(path)


def run(
    scene: Path, out: Path, views: int, ids: list[int] | None, prior_file: str, normal_net: str, seconds: float, preset: str, config: Any,
    device: str, seed: int, *, usd: bool = False,
) -> list[Path]:  # fmt: skip
    """Read, reconstruct, score where there is a truth, and write."""
    import time

    from avatar_kit.backends import pick_device
    from avatar_kit.prior.storage import load_prior
    from avatar_kit.recon.pipeline import log, reconstruct
    from avatar_kit.recon.run_folder import write_run
    from avatar_kit.scene.h3ds import read_reference
    from avatar_kit.scene.views import load_scene
    from avatar_kit.score.picture import error_sheet
    from avatar_kit.score.report import score_run, score_table

    device = pick_device(device)
    started = time.perf_counter()
    loaded = load_scene(scene, views=views, view_ids=ids)
    prior = load_prior(prior_file, device)
    load_seconds = time.perf_counter() - started
    given = sum(photo.normals is not None for photo in loaded.photos)
    log(f"{loaded.name}: {len(loaded.photos)} photos (views {list(loaded.view_ids)}), {given} with normal maps, on {device}")
    with _progress(config.fit.steps) as on_step:
        result = reconstruct(
            loaded, prior=prior, normal_net=None if normal_net == "none" else normal_net, preset=preset, config=config, device=device,
            seed=seed, seconds=seconds, on_step=on_step,
        )  # fmt: skip
    result.seconds["load"] = load_seconds
    result.seconds["total"] += load_seconds
    log(
        f"reconstructed in {result.seconds['total']:.1f} s: " + ", ".join(f"{k} {v:.1f}" for k, v in result.seconds.items() if k != "total")
    )
    extra: dict[str, Any] = {}
    pictures = {}
    reference = read_reference(scene)
    if reference is not None:
        extra["scores"] = score_run(result, prior, reference)
        log(score_table(extra["scores"]))
        pictures["errors.png"] = error_sheet(result, reference)
    return write_run(result, out, extra=extra, pictures=pictures, usd=usd)


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

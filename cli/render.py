"""`avatar-kit render`."""

from __future__ import annotations

from pathlib import Path

import click
from avatar_kit_cli.options import check_file, positive


@click.command()
@click.argument("mesh_or_run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A .gif or .webp that moves, or a .png of all views.")
@click.option("--shading", type=click.Choice(["colors", "clay", "normals"]), default="colors", show_default=True)
@click.option("--frames", default=36, show_default=True, type=click.IntRange(1), help="Views around the head.")
@click.option("--size", default=384, show_default=True, type=click.IntRange(1), help="Pixels along each side of a view.")
@click.option("--seconds", default=3.0, show_default=True, callback=positive, help="A turn of the animation takes.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--backend", type=click.Choice(["warp", "nvdiffrast"]), help="Draw with this one.  [default: the fastest that works]")
@click.option("--overwrite", is_flag=True, help="Replace OUT.")
def render(
    mesh_or_run: Path, out: Path, shading: str, frames: int, size: int, seconds: float, device: str, backend: str | None, overwrite: bool
) -> None:
    """Show MESH_OR_RUN, a run's folder or a mesh with +y up and its face towards +z, turning around its axis."""
    check_file(out, overwrite, (".gif", ".webp", ".png"))
    from avatar_kit.backends import pick_device
    from avatar_kit.mesh.files import read_mesh
    from avatar_kit.render.renderer import Renderer
    from avatar_kit.render.turntable import write_turntable
    from avatar_kit.types import InputError

    file = mesh_or_run / "avatar.glb" if mesh_or_run.is_dir() else mesh_or_run
    if mesh_or_run.is_dir() and not file.is_file():
        raise InputError(f"{mesh_or_run}: is not the folder of a finished run, it lacks avatar.glb. Give one, or a mesh.")
    renderer = Renderer(read_mesh(file), device=pick_device(device), backend=backend)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_turntable(out, renderer, count=frames, size=size, shading=shading, seconds=seconds)
    click.echo(out)

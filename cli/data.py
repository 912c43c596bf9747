"""`avatar-kit data heads` and `avatar-kit data capture`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click
from avatar_kit_cli.options import check_folder, positive

_SCENE_PARTS = ("image", "mask", "normal", "regions", "cameras.npz", "views.json", "full_head.obj", "landmarks.txt")


@click.group()
def data() -> None:
    """Make heads; photograph a head."""


@data.command()
@click.option("--source", default="anny", show_default=True, help="anny, ict:FILE or folder:DIR.")
@click.option("--count", default=12, show_default=True, type=click.IntRange(1))
@click.option("--hair", type=click.Path(path_type=Path), help="A folder of MakeHuman hair styles (*.obj).")
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--overwrite", is_flag=True)
def heads(source: str, count: int, hair: Path | None, out: Path, seed: int, overwrite: bool) -> None:
    """Write COUNT heads as .ply (head frame, millimetres) with heads.json, and a contact sheet, sheet.png."""
    import json

    from tqdm import tqdm

    from avatar_kit.conventions import MM_PER_UNIT
    from avatar_kit.heads.sampler import HeadSampler, open_source
    from avatar_kit.mesh.files import write_mesh
    from avatar_kit.render.sheet import contact_sheet
    from avatar_kit.types import Mesh
    from avatar_kit.whole_folder import whole_folder

    check_folder(out, overwrite, ("*.ply", "heads.json", "sheet.png"), inputs=_read(source, hair))
    sampler = HeadSampler(open_source(source), seed=seed, makehuman_hair=hair)
    made, notes = [], {}
    with whole_folder(out) as part:
        for index in tqdm(range(count), unit="head"):
            head = sampler.head(index)
            mesh = head.mesh
            write_mesh(part / f"{head.name}.ply", Mesh(mesh.vertices * MM_PER_UNIT, mesh.faces))
            notes[head.name] = {
                "attributes": head.attributes, "parts": {name: len(piece.faces) for name, piece in head.parts.items()},
                "landmarks": {name: (point * MM_PER_UNIT).round(3).tolist() for name, point in head.landmarks.items()},
            }  # fmt: skip
            made.append(mesh)
        (part / "heads.json").write_text(json.dumps(notes, indent=1))
        contact_sheet(made).save(part / "sheet.png", optimize=True)
    click.echo(out / "sheet.png")


@data.command()
@click.argument("target", required=False, type=click.Path(path_type=Path))
@click.option("--source", default="anny", show_default=True, help="anny, ict:FILE or folder:DIR.")
@click.option("--index", default=0, show_default=True, type=click.IntRange(0), help="Which head of the source.")
@click.option("--hair", type=click.Path(path_type=Path), help="A folder of MakeHuman hair styles (*.obj).")
@click.option("--size", default=512, show_default=True, type=click.IntRange(32), help="Pixels along each side.")
@click.option("--views", default=8, show_default=True, type=click.IntRange(1, 8))
@click.option("--normal-bits", type=click.Choice(["8", "16"]), default="16", show_default=True, help="Of the normal maps.")
@click.option("--part-faces", type=click.IntRange(4), help="Simplify hair and clothes to at most this many triangles each.")
@click.option("--normals-only", is_flag=True, help="TARGET is a scene with its truth: add normal maps to it.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Of --normals-only.")
@click.option("--backend", type=click.Choice(["warp", "nvdiffrast"]), help="Render with this one.  [default: the fastest that works]")
@click.option("--seed", default=0, show_default=True)
@click.option("--overwrite", is_flag=True)
def capture(
    target: Path | None, source: str, index: int, hair: Path | None, size: int, views: int, normal_bits: str,
    part_faces: int | None, normals_only: bool, device: str, backend: str | None, seed: int, overwrite: bool,
) -> None:  # fmt: skip
    """Photograph a head into the scene folder TARGET: photos, masks, cameras, normal maps and truth."""
    import numpy as np

    from avatar_kit.backends import pick_device
    from avatar_kit.scene.capture import NOTES, add_normals, capture_head
    from avatar_kit.scene.h3ds import write_scene

    if target is None:
        raise click.UsageError("TARGET is missing: the scene folder to write, or with --normals-only the one to add to.")
    if normals_only:
        click.echo(f"{add_normals(target, device=pick_device(device), backend=backend)} normal maps", err=True)
        click.echo(target / "normal")
        return
    from avatar_kit.heads.sampler import HeadSampler, open_source
    from avatar_kit.heads.surgery import simplified

    check_folder(target, overwrite, _SCENE_PARTS, inputs=_read(source, hair))
    head = HeadSampler(open_source(source), seed=seed, makehuman_hair=hair).head(index)
    if part_faces:
        head = dataclasses.replace(head, parts={name: simplified(part, part_faces) for name, part in head.parts.items()})
    photos, reference = capture_head(head, size=size, views=views, rng=np.random.default_rng([seed, index, 2]))
    configs = {n: ids for n, ids in NOTES["view_configs"].items() if max(ids) < views}
    write_scene(target, photos, reference=reference, notes={**NOTES, "view_configs": configs}, normal_bits=int(normal_bits))
    click.echo(target)


@data.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The scene folder to write.")
@click.option("--images", type=click.Path(path_type=Path), help="The photos of a COLMAP model.  [default: images/ beside it]")
@click.option("--masks", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="A folder with NAME.png, white on the subject.  [default: predicted]")  # fmt: skip
@click.option(
    "--mm-per-unit", type=float, callback=positive, help="Millimetres of one unit of the cameras.  [default: from the size of the head]"
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--overwrite", is_flag=True)
def convert(
    source: Path, out: Path, images: Path | None, masks: Path | None, mm_per_unit: float | None, device: str, overwrite: bool
) -> None:
    """Make a scene folder of SOURCE: a transforms.json (nerfstudio, instant-ngp) or a COLMAP model, text or binary.

    Photos are undistorted and turned upright, masks predicted where none are given, and the cameras brought to millimetres.
    """
    from tqdm import tqdm

    from avatar_kit.backends import pick_device
    from avatar_kit.normals.storage import load_estimator
    from avatar_kit.photos.convert import convert as convert_files
    from avatar_kit.scene.h3ds import write_scene
    from avatar_kit.scene.posed_files import read_posed

    check_folder(out, overwrite, _SCENE_PARTS, inputs=[path for path in (source, images, masks) if path])
    files = read_posed(source, images)
    net = load_estimator(None, device=pick_device(device))
    with tqdm(total=len(files), unit="photo", leave=False) as bar:
        found = convert_files(files, net, masks=masks, mm_per_unit=mm_per_unit, on_photo=lambda: bar.update())
    place = {} if found.head_from_world is None else {"head_from_world": found.head_from_world.tolist()}
    write_scene(out, found.photos, notes={"units": "mm", "mm_per_source_unit": found.mm_per_unit, **place})
    click.echo(f"{len(found.photos)} of {len(files)} photos; one unit of the cameras is {found.mm_per_unit:.4g} mm", err=True)
    click.echo(out)


def _read(source: str, hair: Path | None) -> list[Path]:
    """The files and folders that heads come from."""
    _, colon, file = source.partition(":")
    return [Path(file)] * bool(colon) + [hair] * (hair is not None)

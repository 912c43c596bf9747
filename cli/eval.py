"""`avatar-kit eval`."""

from __future__ import annotations

import json as json_module
from pathlib import Path

import click
from avatar_kit_cli.options import parse_view_ids

_PROTOCOLS = ["h3ds", "metric", "paper"]


@click.command("eval")
@click.argument("mesh_or_run", type=click.Path(path_type=Path))
@click.option("--reference", type=click.Path(path_type=Path), required=True, help="A scene with its truth, or a mesh.")
@click.option("--protocol", type=click.Choice(["all", *_PROTOCOLS]), default="all", show_default=True)
@click.option("--views", help="Views that were used, e.g. 0,2,3: for what is visible. A run knows its own.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--backend", type=click.Choice(["scipy", "kaolin"]), help="Measure with this one.  [default: the fastest that works]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(mesh_or_run: Path, reference: Path, protocol: str, views: str | None, device: str, backend: str | None, as_json: bool) -> None:
    """Score MESH_OR_RUN, a mesh file or the folder of a run, against the truth. Millimetres.

    h3ds: the public package's steps: ICP with scale from the face, then vertex distances over the face (95 mm around
    the nose tip) and the head. metric: nothing is moved; point to surface, both directions, seen parts apart. paper: rigid
    ICP, then true vertices to an evenly sampled prediction. Beside them stands the mean head, the score to beat.
    """
    from avatar_kit.backends import pick_device
    from avatar_kit.score.evaluate import evaluate_path
    from avatar_kit.score.report import score_table

    protocols = _PROTOCOLS if protocol == "all" else [protocol]
    ids, where = parse_view_ids(views), pick_device(device)
    scores = evaluate_path(mesh_or_run, reference, view_ids=ids, device=where, backend=backend, protocols=protocols)
    if as_json:
        chosen = scores if protocol == "all" else {name: row[protocol] for name, row in scores.items()}
        click.echo(json_module.dumps(chosen, indent=1))
    else:
        click.echo(score_table(scores, protocol))

"""`avatar-kit eval`."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Any

import click
from avatar_kit_cli.options import parse_view_ids, preset_options, resolve_config

_PROTOCOLS = ["h3ds", "metric", "paper"]
_TABLES = {"3": "1", "4": "3,6"}  # of the paper: the numbers of views they are about
_ABLATIONS = ["1", "2"]


@click.command("eval")
@click.argument("mesh_or_run", required=False, type=click.Path(path_type=Path))
@click.option("--reference", type=click.Path(path_type=Path), help="Of MESH_OR_RUN: a scene with its truth, or a mesh.")
@click.option("--protocol", type=click.Choice(["all", *_PROTOCOLS]), default="all", show_default=True, help="Of MESH_OR_RUN.")
@click.option("--backend", type=click.Choice(["scipy", "kaolin"]), help="Measure with this one.  [default: the fastest that works]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--dataset", type=click.Choice(["scenes", "h3ds", "3dfaw", "celeba-hq"]), help="Reconstruct and score all of its subjects.")
@click.option("--root", type=click.Path(path_type=Path), help="Where the dataset lies.")
@click.option("--out", type=click.Path(path_type=Path), help="Of a dataset: a folder for results.jsonl, table.md and table.csv.")
@click.option("--table", type=click.Choice([*_ABLATIONS, *_TABLES]),
              help="Of the paper: 1 leaves out ingredients, 2 compares priors, 3 is one view, 4 is three and six.")  # fmt: skip
@click.option("--priors", type=click.Path(path_type=Path), help="Of tables 1 and 2: the folder of their priors.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Of tables 1 and 2: fits of each row, from --seed on.")
@click.option("--views", help="Of a dataset, how many, e.g. 1,3,6. Of MESH_OR_RUN, which were used, e.g. 0,2,3: for what is visible.")
@click.option("--normals", "normal_net", default="default", show_default=True, metavar="none|default|FILE",
              help="Network that predicts normals where a scene of the dataset has none.")  # fmt: skip
@click.option("--rival", "rivals", multiple=True, metavar="NAME=COMMAND",
              help="Of a dataset: score another method too; its command gets {scene}, {views} and {out}, a .ply to write.")  # fmt: skip
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="Of a dataset: so many subjects at a time.")
@preset_options
def evaluate(
    mesh_or_run: Path | None, reference: Path | None, protocol: str, backend: str | None, as_json: bool, dataset: str | None,
    root: Path | None, out: Path | None, table: str | None, priors: Path | None, seeds: int, views: str | None, normal_net: str,
    rivals: tuple[str, ...], jobs: int, preset: str, overrides: tuple[str, ...], device: str, seed: int,
) -> None:  # fmt: skip
    """Score MESH_OR_RUN, a mesh file or the folder of a run, against the truth; or a whole dataset. Millimetres.

    h3ds: the public package's steps: ICP with scale from the face, then vertex distances over the face (95 mm around
    the nose tip) and the head. metric: nothing is moved; point to surface, both directions, seen parts apart. paper: rigid
    ICP, then true vertices to an evenly sampled prediction. Beside them stands the mean head, the score to beat.

    With --dataset, a run that was stopped goes on where it was when it is started again.
    """
    from avatar_kit.backends import pick_device
    from avatar_kit.score.rivals import Rival

    if (mesh_or_run is None) == (dataset is None):
        raise click.UsageError("give either MESH_OR_RUN with --reference, or --dataset with --root and --out.")
    where = pick_device(device)
    if dataset is None:
        assert mesh_or_run is not None
        if reference is None:
            raise click.UsageError("--reference is missing: the scene with its truth, or a true mesh.")
        protocols = _PROTOCOLS if protocol == "all" else [protocol]
        _one(mesh_or_run, reference, protocols, parse_view_ids(views), where, backend, as_json)
        return
    if root is None or out is None:
        raise click.UsageError("--dataset needs --root, where it lies, and --out, a folder for the table.")
    config = resolve_config(preset, overrides)
    network = None if normal_net == "none" else normal_net
    if table in _ABLATIONS:
        if priors is None:
            raise click.UsageError(f"--table {table} needs --priors, a folder with the priors of its rows (docs/evaluation.md).")
        _ablation(table, dataset, root, out, priors, config, dict(device=where, seeds=range(seed, seed + seeds), normal_net=network))
        return
    counts = parse_view_ids(views or (_TABLES[table] if table else "1,3,6"))
    settings: dict[str, Any] = dict(preset=preset, config=config, device=where, seed=seed, normal_net=network)
    try:
        settings["rivals"] = [Rival.parse(text) for text in rivals]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    _all(dataset, root, out, counts or [], settings, jobs)


def _one(
    mesh_or_run: Path, reference: Path, protocols: list[str], ids: list[int] | None, device: str, backend: str | None, as_json: bool
) -> None:
    from avatar_kit.score.evaluate import evaluate_path
    from avatar_kit.score.report import score_table

    scores = evaluate_path(mesh_or_run, reference, view_ids=ids, device=device, backend=backend, protocols=protocols)
    if not as_json:
        click.echo(score_table(scores))
    elif len(protocols) == 1:
        click.echo(json_module.dumps({name: row[protocols[0]] for name, row in scores.items()}, indent=1))
    else:
        click.echo(json_module.dumps(scores, indent=1))


def _all(dataset: str, root: Path, out: Path, counts: list[int], settings: dict[str, Any], jobs: int) -> None:
    from avatar_kit.prior.storage import load_prior
    from avatar_kit.recon.pipeline import log
    from avatar_kit.score.datasets import WITHOUT_TRUTH, subjects
    from avatar_kit.score.evaluate import SubjectScorer
    from avatar_kit.score.montage import PhotoShower, montage
    from avatar_kit.score.page import table_page
    from avatar_kit.score.tables import run, summaries, write_tables

    prior = load_prior("default", settings["device"])
    if dataset in WITHOUT_TRUTH:
        settings.pop("rivals")
        scorer, counts = PhotoShower(prior, out / "heads", **settings), [1]
    elif dataset == "3dfaw":
        from avatar_kit.score.scans import ScanScorer

        if settings.pop("rivals"):
            raise click.UsageError("--rival: 3dfaw has photos without cameras, in which a rival's mesh has no place.")
        scorer = ScanScorer(prior, **settings)
    else:
        scorer = SubjectScorer(prior, **settings)
    results = run(subjects(dataset, root), counts, out, scorer, seed=settings["seed"], jobs=jobs, log=log)
    table, heads = write_tables(results, out, dataset=dataset), montage(out / "heads")
    if heads is not None:
        heads.save(out / "montage.png", optimize=True)
    (out / "report.html").write_text(table_page(results, summaries(results), dataset=dataset, picture=heads))
    click.echo(table.read_text(), err=True)
    click.echo(table)


def _ablation(table: str, dataset: str, root: Path, out: Path, priors: Path, config: Any, settings: dict[str, Any]) -> None:
    from avatar_kit.recon.pipeline import log
    from avatar_kit.score.ablations import ablation_table, run_ablation
    from avatar_kit.score.datasets import subjects

    text = ablation_table(table, run_ablation(table, subjects(dataset, root), priors, out, config, log=log, **settings))
    (out / f"table_{table}.md").write_text(text)
    click.echo(text, err=True)
    click.echo(out / f"table_{table}.md")

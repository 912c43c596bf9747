"""`avatar-kit eval`."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from avatar_kit_cli.options import need_network, parse_view_ids, preset_options, refuse_field, resolve_config
from click.core import ParameterSource

_PROTOCOLS = ["h3ds", "metric", "paper"]
_TABLES = {"3": "1", "4": "3,6"}  # of the paper: the numbers of views they are about
_ABLATIONS = ["1", "2"]
_OF_ONE = ("reference", "protocol", "backend", "as_json")
_OF_DATASET = ("root", "out", "table", "priors", "seeds", "normal_net", "rivals", "jobs", "preset", "overrides", "seed")


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
@click.pass_context
def evaluate(
    ctx: click.Context, mesh_or_run: Path | None, reference: Path | None, protocol: str, backend: str | None, as_json: bool,
    dataset: str | None, root: Path | None, out: Path | None, table: str | None, priors: Path | None, seeds: int, views: str | None,
    normal_net: str, rivals: tuple[str, ...], jobs: int, preset: str, overrides: tuple[str, ...], device: str, seed: int,
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
    if dataset is None:
        assert mesh_or_run is not None
        _refuse(ctx, _OF_DATASET, "is for a --dataset; MESH_OR_RUN is measured as it is")
        if reference is None:
            raise click.UsageError("--reference is missing: the scene with its truth, or a true mesh.")
        if reference.is_file():
            _refuse(ctx, ["views"], "is for a scene, whose cameras say what was visible; --reference is a mesh")
        if protocol == "metric":
            _refuse(ctx, ["backend"], "is for h3ds and paper; metric always measures in one way")
        protocols = _PROTOCOLS if protocol == "all" else [protocol]
        _one(mesh_or_run, reference, protocols, parse_view_ids(views), pick_device(device), backend, as_json)
        return
    _refuse_for_dataset(ctx, dataset, table)
    if root is None or out is None:
        raise click.UsageError("--dataset needs --root, where it lies, and --out, a folder for the table.")
    config, plain_config = (resolve_config(preset, overrides, plain=plain) for plain in (False, True))
    network = None if normal_net == "none" else normal_net
    if table in _ABLATIONS:
        if priors is None:
            raise click.UsageError(f"--table {table} needs --priors, a folder with the priors of its rows (docs/evaluation.md).")
        fits = dict(device=pick_device(device), seeds=range(seed, seed + seeds), normal_net=network)
        _ablation(table, dataset, root, out, priors, config, fits)
        return
    refuse_field(overrides)
    counts = parse_view_ids(views or (_TABLES[table] if table else "1" if dataset == "celeba-hq" else "1,3,6")) or []
    if dataset == "celeba-hq" and counts != [1]:
        raise click.UsageError("celeba-hq has one photo of each person: leave --views and --table out.")
    try:
        methods = [Rival.parse(text) for text in rivals]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    settings: dict[str, Any] = dict(preset=preset, device=pick_device(device), seed=seed, normal_net=network)
    _all(dataset, root, out, counts, settings, (config, plain_config), methods, jobs)


def _refuse_for_dataset(ctx: click.Context, dataset: str, table: str | None) -> None:
    _refuse(ctx, _OF_ONE, "is for MESH_OR_RUN; of a --dataset, results.jsonl and table.csv in --out have all numbers")
    if table is not None:
        _refuse(ctx, ["views"], f"cannot be chosen with --table {table}, which has its own")
    if table in _ABLATIONS:
        _refuse(ctx, ["jobs", "rivals"], f"does nothing with --table {table}")
        if dataset not in ("scenes", "h3ds"):
            raise click.UsageError(f"--table {table} needs posed scenes with their truth: --dataset scenes or h3ds.")
    else:
        _refuse(ctx, ["priors", "seeds"], "is for --table 1 and --table 2")
    if dataset == "celeba-hq":
        _refuse(ctx, ["rivals"], "has nothing to score in celeba-hq, whose photos have no truth")
    if dataset == "3dfaw":
        _refuse(ctx, ["rivals"], "does not work with 3dfaw: its photos have no cameras, so a rival's mesh has no place")


def _refuse(ctx: click.Context, names: Sequence[str], why: str) -> None:
    """Refuse options that were given and would do nothing."""
    for param in ctx.command.params:
        if param.name in names and ctx.get_parameter_source(param.name) == ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{param.opts[0]} {why}. Leave it out.")


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


def _all(
    dataset: str, root: Path, out: Path, counts: list[int], settings: dict[str, Any], configs: tuple[Any, Any], rivals: list[Any], jobs: int
) -> None:
    """`configs` are those for posed and for plain photos."""
    from avatar_kit.photos.folder import is_plain
    from avatar_kit.prior.storage import load_prior
    from avatar_kit.recon.pipeline import log
    from avatar_kit.score.datasets import WITHOUT_TRUTH, subjects
    from avatar_kit.score.evaluate import SubjectScorer
    from avatar_kit.score.montage import PhotoShower, montage
    from avatar_kit.score.page import table_page
    from avatar_kit.score.tables import run, summaries, write_tables

    found = subjects(dataset, root)
    if dataset in ("celeba-hq", "3dfaw"):
        for folder in (subject.folder for subject in found if is_plain(subject.folder)):
            need_network(folder, settings["normal_net"])
    prior, (config, plain_config) = load_prior("default", settings["device"]), configs
    if dataset in WITHOUT_TRUTH:
        scorer = PhotoShower(prior, out / "heads", config=plain_config, **settings)
    elif dataset == "3dfaw":
        from avatar_kit.score.scans import ScanScorer

        scorer = ScanScorer(prior, config=config, plain_config=plain_config, **settings)
    else:
        scorer = SubjectScorer(prior, config=config, rivals=rivals, **settings)
    results = run(found, counts, out, scorer, settings=scorer.fingerprint, seed=settings["seed"], jobs=jobs, log=log)
    table = write_tables(results, out, dataset=dataset)
    heads = montage(out / "heads", [result["subject"] for result in results if "error" not in result])
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

"""Every subject of a dataset with every number of views, scored: results that can be resumed, and a table of them."""

from __future__ import annotations

import csv
import functools
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avatar_kit.recon.pipeline import versions
from avatar_kit.score.datasets import Subject
from avatar_kit.score.jobs import each
from avatar_kit.score.reported import REPORTED, SOURCE
from avatar_kit.types import Array, InputError

Result = dict[str, Any]
METRICS = (("h3ds", "face_mm"), ("h3ds", "head_mm"), ("metric", "face_mm"), ("metric", "head_visible_mm"))
_DRAWS = 10_000  # of the bootstrap
_SEED = 0


def run(
    subjects: Iterable[Subject], views: Sequence[int], out: Path, reconstruct: Callable[[Subject, list[int]], Result], *,
    settings: str = "", seed: int = 0, jobs: int = 1, log: Callable[[str], None] = lambda message: None,
) -> list[Result]:  # fmt: skip
    """Fill `out`/results.jsonl with a line per subject and number of views; lines that are there already stay.

    Of these, lines of the same settings and seed are not made again, unless they name an error. Others are kept, and not used.

    Args:
        reconstruct: gives {"method": {protocol: {score: value}}, ...} and may raise `InputError`, which is written down.
        settings: what else a result depends on (`score.fingerprint`); noted.
        seed: noted.
        jobs: processes that work beside each other (`score.jobs.each`). Lines are then in the order in which they got done; what is
            returned is in that of `subjects`.

    Returns:
        the lines of these settings and this seed: those that were there, without errors, and those that were made.

    Raises:
        InputError: a line that is there is of another subject of that name.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / "results.jsonl"
    before = read(file)
    ours = [result for result in before if result.get("settings", "") == settings]
    if len(ours) < len(before):
        log(f"{file}: {len(before) - len(ours)} lines of other settings are kept aside.")
    results = [result for result in ours if result["seed"] == seed and "error" not in result]
    done = {(result["subject"], result["views"]): result for result in results}
    tasks = []
    for subject in subjects:
        for count in views:
            if (subject.name, count) in done:
                _check_same(subject, done[subject.name, count], file)
                log(f"{subject.name}, {count} views: there already")
            else:
                tasks.append((subject, count))
    fresh = {}
    for number, result in each(functools.partial(_attempt, reconstruct, settings, seed), tasks, jobs):
        if "error" in result:
            log(f"{result['subject']}, {result['views']} views: {result['error']}")
        fresh[number] = result
        with file.open("a") as lines:
            lines.write(json.dumps(result) + "\n")
            lines.flush()
            os.fsync(lines.fileno())
    return results + [fresh[number] for number in sorted(fresh)]


def _attempt(reconstruct: Callable[[Subject, list[int]], Result], settings: str, seed: int, task: tuple[Subject, int]) -> Result:
    subject, count = task
    result: Result = {"subject": subject.name, "views": count, "seed": seed, "settings": settings, "folder": str(subject.folder.resolve())}
    try:
        result |= reconstruct(subject, subject.view_ids(count))
    except InputError as error:
        result["error"] = str(error)
    return result | {"versions": versions()}


def _check_same(subject: Subject, result: Result, file: Path) -> None:
    """A dataset that was moved is the same; one whose folder is still there is another."""
    before, now = Path(result.get("folder", subject.folder)).resolve(), subject.folder.resolve()
    if before != now and before.exists():
        raise InputError(f"{file}: its {subject.name} is that of {before}, not of {now}. Give --out another folder, or --root that one.")


def read(file: Path) -> list[Result]:
    """The lines of a results.jsonl; one that was cut off by an interruption is dropped, in the file too."""
    if not file.is_file():
        return []
    text = file.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]


def write_tables(results: Sequence[Result], out: Path, *, dataset: str) -> Path:
    """Write table.md and table.csv into `out`: a row per method and number of views. Returns table.md."""
    rows = summaries(results)
    if not rows:
        return _write_without_scores(results, out, dataset)
    columns = list(dict.fromkeys(name for row in rows for name in row))
    sheet = io.StringIO()
    writer = csv.DictWriter(sheet, columns)
    writer.writeheader()
    writer.writerows(rows)
    (out / "table.csv").write_text(sheet.getvalue())
    failed = [result for result in results if "error" in result]
    lines = [f"# {dataset}", "", "Errors in mm over subjects: mean (median, standard deviation).", "", *_markdown(rows), ""]
    lines += [
        f"Not reconstructed: {len(failed)} of {len(results)}.",
        *(f"- {r['subject']}, {r['views']} views: {r['error']}" for r in failed),
    ]
    without = rivals_that_failed(results)
    if without:
        lines += ["", f"Rivals' meshes without a score: {len(without)}."]
        lines += [f"- {subject}, {views} views: {why}" for subject, views, why in without]
    lines += ["", *_differences(results)]
    if dataset == "h3ds":
        lines += [
            "",
            f"Reported by others ({SOURCE}), face and head in mm:",
            "",
            "| method | views | face | head | time |",
            "| --- " * 5 + "|",
        ]
    else:
        lines += [
            "",
            f"Reported on H3DS ({SOURCE}), other data than above:",
            "",
            "| method | views | face | head | time |",
            "| --- " * 5 + "|",
        ]
    lines += [f"| {row.method} | {row.views} | {row.face_mm} | {row.head_mm or '-'} | {row.time} |" for row in REPORTED]
    file = out / "table.md"
    file.write_text("\n".join(lines) + "\n")
    return file


def _write_without_scores(results: Sequence[Result], out: Path, dataset: str) -> Path:
    done = [result["seconds"]["total"] for result in results if "error" not in result]
    mean = f", {np.mean(done):.1f} s each" if done else ""
    lines = [f"# {dataset}", "", f"{len(done)} of {len(results)} reconstructed{mean}; nothing to score.", ""]
    lines += [f"- {result['subject']}: {result['error']}" for result in results if "error" in result]
    file = out / "table.md"
    file.write_text("\n".join(lines) + "\n")
    return file


def summaries(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Mean, median and standard deviation (n - 1) of each metric, per method and number of views; None where no subject has it."""
    rows = []
    for views in sorted({result["views"] for result in results}):
        scored = [result for result in results if result["views"] == views and "error" not in result]
        for method in dict.fromkeys(name for result in scored for name in result["scores"]):
            having = [result for result in scored if method in result["scores"]]  # a rival may have failed
            row: dict[str, Any] = {"method": method, "views": views, "subjects": len(having)}
            for protocol, name in METRICS:
                values = _values(having, method, protocol, name)
                values = values[np.isfinite(values)]
                stem = f"{protocol}_{name}"
                if len(values) == 0:
                    row |= {stem: None, f"{stem}_median": None, f"{stem}_std": None}
                    continue
                spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
                row |= {
                    stem: round(float(values.mean()), 4),
                    f"{stem}_median": round(float(np.median(values)), 4),
                    f"{stem}_std": round(spread, 4),
                }
            if method == "ours":
                row["seconds"] = round(float(np.mean([result["seconds"]["total"] for result in scored])), 2)
            rows.append(row)
    return rows


def rivals_that_failed(results: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, str]]:
    """Subject, number of views and reason of each."""
    return [(result["subject"], result["views"], why) for result in results for why in result.get("rival_errors", {}).values()]


def bootstrap(difference: Array) -> tuple[float, float]:
    """The central 95 % of the mean of paired differences (N,), over resampled subjects."""
    rng = np.random.default_rng(_SEED)
    means = difference[rng.integers(0, len(difference), (_DRAWS, len(difference)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _values(results: Sequence[Result], method: str, protocol: str, name: str) -> Array:
    """NaN where there is none."""
    return np.array([result["scores"][method][protocol][name] for result in results], float)


def summary_cells(rows: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of `summaries`, for people."""
    names = [f"{protocol}_{name}" for protocol, name in METRICS]
    headings = ["method", "views", *(name.removesuffix("_mm").replace("_", " ") for name in names), "s", "subjects"]
    cells = []
    for row in rows:
        numbers = [
            "-" if row[name] is None else f"{row[name]:.2f} ({row[f'{name}_median']:.2f}, {row[f'{name}_std']:.2f})" for name in names
        ]
        cells.append([row["method"], str(row["views"]), *numbers, str(row.get("seconds", "-")), str(row["subjects"])])
    return headings, cells


def _markdown(rows: Sequence[dict[str, Any]]) -> list[str]:
    headings, cells = summary_cells(rows)
    return ["| " + " | ".join(line) + " |" for line in (headings, ["---"] * len(headings), *cells)]


def _differences(results: Sequence[Result]) -> list[str]:
    """Ours against each other method, paired by subject."""
    lines = []
    for views in sorted({result["views"] for result in results}):
        scored = [result for result in results if result["views"] == views and "error" not in result]
        for method in dict.fromkeys(name for result in scored for name in result["scores"] if name != "ours"):
            having = [result for result in scored if method in result["scores"]]
            difference = _values(having, "ours", "h3ds", "face_mm") - _values(having, method, "h3ds", "face_mm")
            low, high = bootstrap(difference)
            lines.append(
                f"Face, ours less {method}, {views} views: {difference.mean():+.2f} mm, "
                f"95 % of resampled subjects {low:+.2f} to {high:+.2f}."
            )
    return lines

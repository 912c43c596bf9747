"""Every subject of a dataset with every number of views, scored: results that can be resumed, and a table of them."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avatar_kit.recon.pipeline import versions
from avatar_kit.score.datasets import Subject
from avatar_kit.score.reported import REPORTED, SOURCE
from avatar_kit.types import Array, InputError

Result = dict[str, Any]
METRICS = (("h3ds", "face_mm"), ("h3ds", "head_mm"), ("metric", "face_mm"), ("metric", "head_visible_mm"))
_DRAWS = 10_000  # of the bootstrap
_SEED = 0


def run(
    subjects: Iterable[Subject], views: Sequence[int], out: Path, reconstruct: Callable[[Subject, list[int]], Result], *,
    seed: int = 0, log: Callable[[str], None] = lambda message: None,
) -> list[Result]:  # fmt: skip
    """Fill `out`/results.jsonl with a line per subject and number of views; lines that are there already stay.

    Args:
        reconstruct: gives {"method": {protocol: {score: value}}, ...} and may raise `InputError`, which is written down.
        seed: noted, and part of what makes a line the same.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / "results.jsonl"
    results = read(file)
    done = {_key(result) for result in results}
    for subject in subjects:
        for count in views:
            result: Result = {"subject": subject.name, "views": count, "seed": seed}
            if _key(result) in done:
                log(f"{subject.name}, {count} views: there already")
                continue
            try:
                result |= reconstruct(subject, subject.view_ids(count))
            except InputError as error:
                result["error"] = str(error)
                log(f"{subject.name}, {count} views: {error}")
            result["versions"] = versions()
            results.append(result)
            with file.open("a") as lines:
                lines.write(json.dumps(result) + "\n")
                lines.flush()
                os.fsync(lines.fileno())
    return results


def read(file: Path) -> list[Result]:
    """The lines of a results.jsonl; one that was cut off by an interruption is dropped, in the file too."""
    if not file.is_file():
        return []
    text = file.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]


def _key(result: Result) -> tuple:
    return result["subject"], result["views"], result["seed"]


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
    """Mean, median and standard deviation (n - 1) of each metric, per method and number of views."""
    rows = []
    for views in sorted({result["views"] for result in results}):
        scored = [result for result in results if result["views"] == views and "error" not in result]
        for method in dict.fromkeys(name for result in scored for name in result["scores"]):
            row: dict[str, Any] = {"method": method, "views": views, "subjects": len(scored)}
            for protocol, name in METRICS:
                values = _values(scored, method, protocol, name)
                spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
                stem = f"{protocol}_{name}"
                row |= {
                    stem: round(float(values.mean()), 4),
                    f"{stem}_median": round(float(np.median(values)), 4),
                    f"{stem}_std": round(spread, 4),
                }
            if method == "ours":
                row["seconds"] = round(float(np.mean([result["seconds"]["total"] for result in scored])), 2)
            rows.append(row)
    return rows


def bootstrap(difference: Array) -> tuple[float, float]:
    """The central 95 % of the mean of paired differences (N,), over resampled subjects."""
    rng = np.random.default_rng(_SEED)
    means = difference[rng.integers(0, len(difference), (_DRAWS, len(difference)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def _values(results: Sequence[Result], method: str, protocol: str, name: str) -> Array:
    return np.array([result["scores"][method][protocol][name] for result in results], float)


def _markdown(rows: Sequence[dict[str, Any]]) -> list[str]:
    names = [f"{protocol}_{name}" for protocol, name in METRICS]
    lines = [
        "| method | views | " + " | ".join(name.removesuffix("_mm").replace("_", " ") for name in names) + " | s |",
        "| --- " * (len(names) + 3) + "|",
    ]
    for row in rows:
        cells = [f"{row[name]:.2f} ({row[f'{name}_median']:.2f}, {row[f'{name}_std']:.2f})" for name in names]
        lines.append(f"| {row['method']} | {row['views']} | " + " | ".join(cells) + f" | {row.get('seconds', '-')} |")
    return lines


def _differences(results: Sequence[Result]) -> list[str]:
    """Ours against each other method, paired by subject."""
    lines = []
    for views in sorted({result["views"] for result in results}):
        scored = [result for result in results if result["views"] == views and "error" not in result]
        for method in dict.fromkeys(name for result in scored for name in result["scores"] if name != "ours"):
            difference = _values(scored, "ours", "h3ds", "face_mm") - _values(scored, method, "h3ds", "face_mm")
            low, high = bootstrap(difference)
            lines.append(
                f"Face, ours less {method}, {views} views: {difference.mean():+.2f} mm, "
                f"95 % of resampled subjects {low:+.2f} to {high:+.2f}."
            )
    return lines

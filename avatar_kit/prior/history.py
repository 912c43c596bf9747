"""The history of a training: a line of JSON per epoch, written as it goes, and its curves."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from avatar_kit.types import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NO_ERRORS = ("surface_mm", "latent", "grid")  # the first is drawn apart, the others start at zero and grow


class History:
    """Appends to a file; a resumed training goes on where its checkpoint was.

    Args:
        file: of lines {"epoch", "seconds", "terms"}.
        epoch: that the training starts from; later lines, of epochs that will be trained again, are dropped.
    """

    def __init__(self, file: Path, *, epoch: int = 0) -> None:
        self._file = file
        kept = [entry for entry in read_history(file) if entry["epoch"] <= epoch] if file.is_file() else []
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_name(file.name + ".part")
        part.write_text("".join(json.dumps(entry) + "\n" for entry in kept))
        os.replace(part, file)

    def add(self, epoch: int, seconds: float, terms: Mapping[str, float]) -> None:
        """One epoch more: its number, the seconds of training up to its end, the means of the loss's terms."""
        entry = {"epoch": epoch, "seconds": round(seconds, 2), "terms": {name: float(f"{value:.6g}") for name, value in terms.items()}}
        with self._file.open("a") as lines:
            lines.write(json.dumps(entry) + "\n")


def read_history(file: Path) -> list[dict[str, Any]]:
    """Entries {"epoch", "seconds", "terms": {name: mean}}, in order; a last line that was cut off is left out.

    Raises:
        InputError: no such file, or another line that is none of `History`.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file. `avatar-kit prior train` writes history.jsonl into its --work folder.")
    lines = file.read_text().splitlines()
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            entries.append({"epoch": int(entry["epoch"]), "seconds": float(entry["seconds"]), "terms": dict(entry["terms"])})
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):  # the training was killed while it wrote
                break
            raise InputError(f"{file}, line {number}: is no epoch of a training ({error}). Remove that line, or the file.") from error
    return entries


def history_figure(entries: Sequence[Mapping[str, Any]]) -> Figure:
    """The surface's error in mm by epoch and by time, and the loss's errors, each over its first value, by epoch.

    Args:
        entries: of `read_history`, at least one.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.4))
    by_epoch, by_time, terms = figure.subplots(1, 3)
    unit, seconds = ("hours", 3600.0) if entries[-1]["seconds"] >= 3600 else ("minutes", 60.0)
    epochs = [entry["epoch"] for entry in entries]
    error = [entry["terms"].get("surface_mm", np.nan) for entry in entries]
    by_epoch.plot(epochs, error)
    by_epoch.set(xlabel="epoch", ylabel="training points to surface, mm", yscale="log")
    by_time.plot([entry["seconds"] / seconds for entry in entries], error)
    by_time.set(xlabel=unit, yscale="log")
    for name in [name for name in entries[0]["terms"] if name not in _NO_ERRORS]:
        values = np.array([entry["terms"].get(name, np.nan) for entry in entries], float)
        terms.plot(epochs, values / max(values[0], 1e-12), label=name)
    terms.set(xlabel="epoch", ylabel="terms, each over its first value", yscale="log")
    terms.legend(fontsize=7)
    for axis in (by_epoch, by_time, terms):
        axis.grid(alpha=0.3)
    return figure

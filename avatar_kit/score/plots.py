"""The plots of a page, by Matplotlib. Imports little beside it: a run's are drawn in a process of their own (`elsewhere`)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from avatar_kit.score.reported import REPORTED

_LEAST = 1e-2  # of its first value, to which a term is drawn: spots end at nothing


def svg(figure: Any) -> str:
    """A Matplotlib figure as a picture that stands in a page."""
    packed = io.StringIO()
    figure.savefig(packed, format="svg", bbox_inches="tight", metadata={"Date": None})
    text = packed.getvalue()
    return text[text.index("<svg") :]


def convergence(curve: Sequence[Mapping[str, float]]) -> str:
    """Terms of a fit's loss against time, each over its first value, as SVG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4))
    axis = figure.subplots()
    seconds = [entry["seconds"] for entry in curve]
    for name in [name for name in curve[0] if name not in ("step", "seconds", "smooth")]:
        first = max(curve[0][name], 1e-12)
        axis.plot(seconds, [entry[name] / first for entry in curve], label=name)
    axis.set(xlabel=f"seconds ({curve[-1]['step'] + 1} steps)", yscale="log")
    axis.set_ylim(bottom=max(axis.get_ylim()[0], _LEAST))
    axis.grid(alpha=0.3)
    axis.legend()
    return svg(figure)


def time_against_error(scored: Sequence[Mapping[str, Any]]) -> str:
    """The face errors of a table against the time they took, and those that papers report, as SVG."""
    from matplotlib.figure import Figure

    units = {"s": 1.0, "min": 60.0, "h": 3600.0}
    figure = Figure(figsize=(8, 4))
    axis = figure.subplots()
    for number, views in enumerate(sorted({result["views"] for result in scored})):
        of_these = [result for result in scored if result["views"] == views]
        seconds = [result["seconds"]["total"] for result in of_these]
        axis.plot(
            seconds,
            [result["scores"]["ours"]["h3ds"]["face_mm"] for result in of_these],
            "o",
            color=f"C{number}",
            label=f"ours, {views} views",
        )
        for row in REPORTED:
            if row.views == views:
                amount, unit = row.time.split(",")[0].split()
                axis.plot(float(amount) * units[unit], row.face_mm, "x", color=f"C{number}")
                axis.annotate(row.method, (float(amount) * units[unit], row.face_mm), fontsize=7, xytext=(3, 3), textcoords="offset points")
    axis.set(xscale="log", xlabel="seconds", ylabel="face, mm (h3ds protocol)")
    axis.grid(alpha=0.3)
    axis.legend()
    return svg(figure)

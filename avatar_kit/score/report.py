"""Scores of a run beside those of the mean head, as JSON and as a table of text."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from avatar_kit.config import MeshConfig
from avatar_kit.mesh.extraction import extract
from avatar_kit.prior.storage import HeadPrior
from avatar_kit.score.paper import paper_score
from avatar_kit.score.protocols import as_json, h3ds_score, metric_score
from avatar_kit.types import Array, Camera, Mesh, Reference

if TYPE_CHECKING:
    from avatar_kit.recon.pipeline import Reconstruction

_COLUMNS = [
    ("h3ds", "face_mm", "face"), ("h3ds", "face_p90_mm", "face 90 %"), ("h3ds", "head_mm", "head"),
    ("metric", "face_mm", "face"), ("metric", "face_reverse_mm", "face back"), ("metric", "head_mm", "head"),
    ("metric", "head_visible_mm", "head seen"), ("metric", "normal_deg", "normals deg"),
    ("paper", "face_mm", "face"), ("paper", "head_mm", "head"),
]  # fmt: skip


def score_mesh(
    mesh: Mesh, reference: Reference, *, cameras: tuple[Camera, ...] = (), mm_per_unit: float = 1.0, device: str = "cpu",
    backend: str | None = None, protocols: Sequence[str] = ("h3ds", "metric"),
) -> dict[str, Any]:  # fmt: skip
    """Scores of a mesh in the reference's frame, JSON-ready.

    Args:
        device, backend: of `score.distances.nearest`.
        protocols: of h3ds, metric and paper.
    """
    scorers: dict[str, Callable[[], Any]] = {
        "h3ds": lambda: h3ds_score(mesh, reference, mm_per_unit=mm_per_unit, device=device, backend=backend),
        "metric": lambda: metric_score(mesh, reference, cameras=cameras, mm_per_unit=mm_per_unit),
        "paper": lambda: paper_score(mesh, reference, mm_per_unit=mm_per_unit, device=device, backend=backend),
    }
    return {name: as_json(scorers[name]()) for name in protocols}


def score_run(result: Reconstruction, prior: HeadPrior, reference: Reference) -> dict[str, Any]:
    """Scores of a reconstruction and, as the score to beat, of the mean head at its starting pose."""
    cameras = tuple(photo.camera for photo in result.scene.photos)
    unit = result.scene.mm_per_world_unit
    mean_head = mean_head_mesh(prior, result.start)
    return {
        "reconstruction": score_mesh(result.mesh, reference, cameras=cameras, mm_per_unit=unit, device=result.device),
        "mean head": score_mesh(mean_head, reference, cameras=cameras, mm_per_unit=unit, device=result.device),
    }


def mean_head_mesh(prior: HeadPrior, head_from_world: Array) -> Mesh:
    """The prior's mean head in the world frame."""
    return _mean_head(prior).transformed(np.linalg.inv(head_from_world))


@functools.lru_cache(maxsize=1)  # seconds, and the same for all subjects of a table
def _mean_head(prior: HeadPrior) -> Mesh:
    latent = prior.mean_latent.to(prior.field.last.bias.device)  # a fit on CUDA moves the field there
    return extract(prior.field, latent, MeshConfig())


def score_table(scores: dict[str, Any]) -> str:
    """Rows of scores as aligned text; h3ds after ICP with scale, paper after rigid ICP, metric without any; millimetres."""
    there = next(iter(scores.values()))
    columns = [column for column in _COLUMNS if column[0] in there]
    width = max(len(name) for name in scores)
    lines = [
        " " * width + "".join(f"{kind:>13}" for kind, _, _ in columns),
        f"{'mm':<{width}}" + "".join(f"{title:>13}" for _, _, title in columns),
    ]
    for name, row in scores.items():
        values = [row[kind][key] for kind, key, _ in columns]
        lines.append(f"{name:<{width}}" + "".join(f"{'-':>13}" if value is None else f"{value:>13.2f}" for value in values))
    return "\n".join(lines)

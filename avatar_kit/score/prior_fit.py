"""How near a prior comes to a mesh: distances of the mean head, of the latent alone and of latent and grids; picture and folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from PIL import Image, ImageDraw

from avatar_kit.config import MeshConfig
from avatar_kit.conventions import CANONICAL_LANDMARKS, MM_PER_UNIT
from avatar_kit.kernels.mesh_queries import MeshQueries
from avatar_kit.mesh.extraction import extract
from avatar_kit.mesh.files import write_mesh
from avatar_kit.prior.fit_mesh import MeshFit
from avatar_kit.prior.storage import HeadPrior
from avatar_kit.render.error_map import BAR_PX, colored_by_distance, scale_bar, shaded_colors
from avatar_kit.render.picture import on_white, picture
from avatar_kit.render.renderer import Renderer
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.score.protocols import FACE_RADIUS_MM
from avatar_kit.types import Array, InputError, Mesh
from avatar_kit.whole_folder import whole_folder

_POINTS = 40_000  # on the true surface, evenly
_WORST_MM = 2.0  # the error that is drawn as the end of the scale
_TILE_PX = 256
_YAWS_DEG = (0, 45, 90)
_TITLE_PX = 20


@dataclass(frozen=True, eq=False)
class FitScores:
    """What a fit came to.

    Attributes:
        surfaces: "mean_head", "latent" and "latent_and_grids" as meshes, head frame.
        scores: per surface and region ("whole", "face"): mean, median and 90 % of the distances, mm.
        mm_per_head_unit: by which they were taken to millimetres.
    """

    surfaces: Mapping[str, Mesh]
    scores: Mapping[str, Mapping[str, Mapping[str, float]]]
    mm_per_head_unit: float


def score_fit(
    prior: HeadPrior, fitted: MeshFit, *, mm_per_head_unit: float = MM_PER_UNIT, resolution: int = 256, seed: int = 0
) -> FitScores:
    """Distances from evenly spread points of the true surface to the surfaces of the fit, in the head frame's box.

    Args:
        mm_per_head_unit: true millimetres, where the mesh was scaled.
        resolution: cells along each side of the box.

    Raises:
        InputError: no part of the mesh lies in the box, or none near its nose tip.
    """
    config = MeshConfig(resolution=resolution)
    surfaces = {
        "mean_head": extract(prior.field, prior.mean_latent, config),
        "latent": extract(prior.field, fitted.latent, config),
        "latent_and_grids": extract(fitted.field, fitted.field_latent, config),
    }
    points = _true_points(fitted, seed)
    on_face = np.linalg.norm(points - _nose(fitted), axis=1) * mm_per_head_unit < FACE_RADIUS_MM
    if not on_face.any():
        raise InputError(f"{fitted.head.name}: none of its surface lies within {FACE_RADIUS_MM:.0f} mm of the nose tip. Check its frame.")
    scores = {}
    for name, surface in surfaces.items():
        if len(surface.faces) == 0:
            raise InputError(f"{fitted.head.name}: {name} has no surface at all. Take more --steps, or look at the mesh.")
        distance = _distance(points, surface) * mm_per_head_unit
        scores[name] = {"whole": _summary(distance), "face": _summary(distance[on_face])}
    return FitScores(surfaces, scores, mm_per_head_unit)


def fit_sheet(fitted: MeshFit, scored: FitScores) -> Image.Image:
    """A row a view: the true mesh, the latent alone, latent and grids, and the true mesh coloured by its distance to either."""
    truth = fitted.head.mesh
    colored = []
    for name in ("latent", "latent_and_grids"):
        distance = _distance(truth.vertices, scored.surfaces[name]) * scored.mm_per_head_unit
        colored.append(Renderer(colored_by_distance(truth, distance, _WORST_MM)))
    shapes = [Renderer(mesh) for mesh in (truth, scored.surfaces["latent"], scored.surfaces["latent_and_grids"])]
    rows = []
    for yaw in _YAWS_DEG:
        camera = orbit_camera(yaw_deg=yaw, pitch_deg=0, distance=5.0, target=np.zeros(3), focal_px=2.4 * _TILE_PX, size=_TILE_PX)
        tiles = [on_white(picture(renderer, camera, "clay")) for renderer in shapes]
        rows.append(np.concatenate([*tiles, *(shaded_colors(renderer, camera) for renderer in colored)], axis=1))
    tiles = np.concatenate(rows)
    sheet = np.concatenate([tiles, scale_bar(len(tiles), _WORST_MM)], axis=1)
    sheet = np.concatenate([np.ones((_TITLE_PX, sheet.shape[1], 3)), sheet])
    image = Image.fromarray(np.round(np.clip(sheet, 0, 1) * 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    faces = [f"{scored.scores[name]['face']['mean_mm']:.2f}" for name in ("latent", "latent_and_grids")]
    titles = ["true mesh", "latent alone", "latent and grids", f"latent alone: face {faces[0]} mm", f"latent and grids: face {faces[1]} mm"]
    for number, title in enumerate(titles):
        draw.text((number * _TILE_PX + 8, 4), title, fill="black")
    assert image.width == len(titles) * _TILE_PX + BAR_PX
    return image


def fit_table(scored: FitScores) -> str:
    """The scores as aligned text."""
    names = ("mean_mm", "median_mm", "p90_mm")
    lines = [f"{'mm':<18}" + "".join(f"{region + ' ' + name.removesuffix('_mm'):>14}" for region in ("face", "whole") for name in names)]
    for surface, regions in scored.scores.items():
        cells = [f"{regions[region][name]:>14.2f}" for region in ("face", "whole") for name in names]
        lines.append(f"{surface.replace('_', ' '):<18}" + "".join(cells))
    return "\n".join(lines)


def write_fit(out: Path, fitted: MeshFit, scored: FitScores, notes: Mapping[str, Any]) -> list[Path]:
    """Write fit.png, latent.ply and grids.ply (mm, head frame) and fit.json (scores and `notes`), whole or not at all."""
    with whole_folder(out) as part:
        fit_sheet(fitted, scored).save(part / "fit.png", optimize=True)
        for file, name in (("latent.ply", "latent"), ("grids.ply", "latent_and_grids")):
            surface = scored.surfaces[name]
            write_mesh(part / file, replace(surface, vertices=surface.vertices * MM_PER_UNIT))
        content = {**notes, "notes": list(fitted.notes), "mm_per_head_unit": round(scored.mm_per_head_unit, 3), "scores": scored.scores}
        (part / "fit.json").write_text(json.dumps(content, indent=1) + "\n")
    return [out / name for name in ("fit.png", "latent.ply", "grids.ply", "fit.json")]


def _true_points(fitted: MeshFit, seed: int) -> Array:
    """Points (N, 3) on the true surface, evenly, those in the box."""
    mesh = fitted.head.mesh
    shape = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    points = np.asarray(trimesh.sample.sample_surface(shape, _POINTS, seed=seed)[0])
    inside = (np.abs(points) < 1.0).all(1)
    if not inside.any():
        raise InputError(f"{fitted.head.name}: none of its surface lies inside the head frame's box. Check frame and unit.")
    return points[inside]


def _nose(fitted: MeshFit) -> Array:
    return fitted.head.landmarks.get("nose_tip", np.array(CANONICAL_LANDMARKS["nose_tip"]))


def _distance(points: Array, surface: Mesh) -> Array:
    return MeshQueries(surface, signs=False).closest(torch.from_numpy(np.ascontiguousarray(points))).distance.numpy()


def _summary(distance_mm: Array) -> dict[str, float]:
    values = (distance_mm.mean(), np.median(distance_mm), np.percentile(distance_mm, 90))
    return {name: round(float(value), 3) for name, value in zip(("mean_mm", "median_mm", "p90_mm"), values, strict=True)}

"""One self-contained HTML page per run or table: pictures, numbers, curves and the head to turn. Nothing is fetched to show it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any

from avatar_kit.elsewhere import elsewhere
from avatar_kit.mesh.files import to_trimesh
from avatar_kit.recon.run_folder import upright_in_metres
from avatar_kit.render.picture import png
from avatar_kit.score.plots import convergence, time_against_error
from avatar_kit.score.reported import SOURCE
from avatar_kit.score.tables import rivals_that_failed, summary_cells
from avatar_kit.types import Mesh

if TYPE_CHECKING:
    from PIL.Image import Image

    from avatar_kit.recon.pipeline import Reconstruction

_GLOW, _LIGHT = 0.6, 1.1  # of a texture by itself; of what faces the light, all together
_CAPTIONS = {
    "photos.png": ("Photos as they were understood", "Mask's edge, predicted normals, and the mean head as the estimated camera sees it."),
    "preview.png": ("Photos and result", "A column a photo: photo, normals that were given or predicted, normals found, shape, colours."),
    "errors.png": (
        "Errors",
        "A column a photo: photo, shape, colours, and the true surface coloured by its distance to the result, in mm.",
    ),
}


@dataclass
class Page:
    """What a page shows, top to bottom.

    Attributes:
        lead: paragraphs.
        viewer: a page of its own, shown in a frame.
        tables: name, headings, rows.
        pictures: name, caption, PNG.
        plots: name, caption, SVG or what will be it.
        details: name and text, folded away.
    """

    title: str
    lead: list[str] = field(default_factory=list)
    viewer: str = ""
    tables: list[tuple[str, Sequence[str], Sequence[Sequence[Any]]]] = field(default_factory=list)
    pictures: list[tuple[str, str, bytes]] = field(default_factory=list)
    plots: list[tuple[str, str, str | Future[str]]] = field(default_factory=list)
    details: list[tuple[str, str]] = field(default_factory=list)

    def show(self, pictures: Mapping[str, bytes]) -> None:
        """Add a run's pictures, PNGs by file name."""
        self.pictures += [(*caption, pictures[name]) for name, caption in _CAPTIONS.items() if name in pictures]

    def html(self) -> str:
        """The page as one file."""
        from jinja2 import Environment

        template = (resources.files("avatar_kit") / "score" / "page.html").read_text()
        pictures = [(name, caption, base64.b64encode(packed).decode()) for name, caption, packed in self.pictures]
        plots = [(name, caption, svg if isinstance(svg, str) else svg.result()) for name, caption, svg in self.plots]
        return Environment(autoescape=True).from_string(template).render(**{**vars(self), "pictures": pictures, "plots": plots})


def run_page(result: Reconstruction, scores: Mapping[str, Any] | None) -> Page:
    """The page of a reconstruction, without pictures.

    Args:
        scores: of `score.report.score_run`, where there is a truth.
    """
    report = result.report()
    seconds = report["seconds"]
    page = Page(f"{report['scene']}: {len(report['views'])} photos")
    if len(result.fitted.curve) > 1:  # first, as it takes longest
        page.plots.append(("Convergence", "Terms of the loss, each over its first value.", elsewhere(convergence, result.fitted.curve)))
    page.viewer = head_viewer(upright_in_metres(result.avatar, result))
    page.lead = [
        f"{seconds['total']:.1f} s on {report['device']}, of which the fit {seconds['fit']:.1f} s; preset {report['preset']}, "
        f"seed {report['seed']}, normals {report['normals']}, peak memory {report['peak_memory_mb']} MB."
    ]
    if scores:
        ours, mean = (scores[name]["h3ds"]["face_mm"] for name in ("reconstruction", "mean head"))
        page.lead.insert(0, f"Face {ours:.2f} mm from the truth by the h3ds protocol; the mean head, the score to beat, {mean:.2f} mm.")
        for protocol in next(iter(scores.values())):
            names = list(scores["reconstruction"][protocol])
            rows = [[name, *(_cell(scores[method][protocol][name]) for method in scores)] for name in names]
            page.tables.append((f"Protocol {protocol}", ["", *scores], rows))
    page.tables.append(("Seconds", list(seconds), [[f"{value:.2f}" for value in seconds.values()]]))
    photos = [[photo.name, f"{photo.mask_iou:.3f}", _cell(photo.normals_deg)] for photo in result.agreement]
    page.tables.append(("Each photo against the result", ["photo", "IoU of its mask", "normals, degrees"], photos))
    page.details = [("Settings", json.dumps(report["config"], indent=1)), ("Versions", json.dumps(report["versions"], indent=1))]
    return page


def table_page(results: Sequence[Mapping[str, Any]], rows: Sequence[dict[str, Any]], *, dataset: str, picture: Image | None = None) -> str:
    """The page of `eval --dataset`: `results` per subject, their summary `rows` (`score.tables.summaries`), a montage."""
    scored = [result for result in results if "error" not in result]
    page = Page(f"{dataset}: {len({result['subject'] for result in scored})} subjects")
    if rows:
        page.tables.append(("Errors in mm over subjects: mean (median, standard deviation)", *summary_cells(rows)))
    subjects = [
        [result["subject"], result["views"], *(f"{result['scores'][method]['h3ds']['face_mm']:.2f}" for method in ("ours", "mean head")),
         f"{result['seconds']['total']:.1f}"] for result in scored if result["scores"]
    ]  # fmt: skip
    if picture is not None:
        page.pictures.append(
            ("Heads", "Photo, normals, shape and colours through its camera; shape from 0, 40 and 90 degrees.", png(picture))
        )
    page.tables.append(("Subjects: face by the h3ds protocol, mm", ["subject", "views", "ours", "mean head", "seconds"], subjects))
    failed = [[result["subject"], result["views"], result["error"]] for result in results if "error" in result]
    if failed:
        page.tables.append(("Not reconstructed", ["subject", "views", "why"], failed))
    without = rivals_that_failed(results)
    if without:
        page.tables.append(("Rivals' meshes without a score", ["subject", "views", "why"], without))
    if subjects:
        where = "the same data" if dataset == "h3ds" else "other data"
        page.plots.append(("Error against time", f"Crosses: reported on H3DS, {where} ({SOURCE}).", time_against_error(scored)))
    return page.html()


def head_viewer(mesh: Mesh) -> str:
    """A page that shows a mesh in 3D, with three.js (MIT) and the mesh inside it."""
    import trimesh
    from trimesh.viewer.notebook import scene_to_html

    shape, light = to_trimesh(mesh), _LIGHT
    if mesh.texture is not None:  # which shows light and shade already: half of it shines by itself
        material: Any = shape.visual.material  # type: ignore[union-attr]
        material.emissiveTexture, material.emissiveFactor = material.baseColorTexture, [_GLOW] * 3
        light -= _GLOW
    page = scene_to_html(trimesh.Scene(shape))
    # trimesh's page shows linear colours as if they were sRGB, in light that makes up for it: too much contrast
    page = page.replace("renderer.setPixelRatio(", "renderer.outputEncoding=THREE.sRGBEncoding;renderer.setPixelRatio(", 1)
    return page.replace("THREE.DirectionalLight(0xffffff,1.75)", f"THREE.DirectionalLight(0xffffff,{light:g})", 1)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)

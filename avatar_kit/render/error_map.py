"""Distances in colours: a mesh coloured by how far off each vertex is, and the scale to read it by."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw

from avatar_kit.render.picture import clay
from avatar_kit.render.renderer import Renderer
from avatar_kit.types import Array, Camera, Mesh

_COLORS = "turbo"
BAR_PX = 64
"""Width of `scale_bar`."""


def colored_by_distance(mesh: Mesh, distance_mm: Array, worst_mm: float) -> Mesh:
    """The mesh with the colour of `distance_mm` (V,) at each vertex; `worst_mm` and more have the last colour."""
    return Mesh(mesh.vertices, mesh.faces, colormaps[_COLORS](np.clip(distance_mm / worst_mm, 0, 1))[:, :3])


def shaded_colors(renderer: Renderer, camera: Camera) -> Array:
    """The mesh's colours under a soft light, (H, W, 3); white where there is nothing."""
    seen = renderer.render(camera)
    assert seen.colors is not None
    return np.where(seen.mask[..., None], seen.colors * (0.45 + 0.55 * clay(seen)), 1.0)


def scale_bar(height: int, worst_mm: float) -> Array:
    """The colours from 0 to `worst_mm` with their millimetres, (height, `BAR_PX`, 3)."""
    bar = np.ones((height, BAR_PX, 3))
    ramp = colormaps[_COLORS](np.linspace(1, 0, max(height - 40, 2)))[:, :3]
    bar[20 : 20 + len(ramp), 8:24] = ramp[: height - 20, None]
    picture = Image.fromarray(np.round(bar * 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for share in (0.0, 0.5, 1.0):
        draw.text((26, 15 + (1 - share) * len(ramp)), f"{share * worst_mm:.1f}", fill="black")
    draw.text((22, len(ramp) + 28), "mm", fill="black")
    return np.asarray(picture) / 255.0

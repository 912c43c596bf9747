"""Contact sheets of heads: each from the front, half left, the side and behind, or from where is asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from avatar_kit.render.renderer import Renderer
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.types import Mesh

_YAWS_DEG = (0, 45, 90, 180)


def contact_sheet(meshes: Sequence[Mesh], *, tile: int = 160, per_row: int = 3, yaws_deg: Sequence[float] = _YAWS_DEG) -> Image.Image:
    """Normals of meshes in the head frame, `per_row` heads a row, from `yaws_deg` each, `tile` pixels a view."""
    strips = []
    for mesh in meshes:
        renderer = Renderer(mesh)
        views = []
        for yaw in yaws_deg:
            camera = orbit_camera(yaw_deg=yaw, pitch_deg=0, distance=5.0, target=np.zeros(3), focal_px=2.4 * tile, size=tile)
            seen = renderer.render(camera, smooth=False)
            views.append(np.where(seen.mask[..., None], (seen.normals * (1, -1, -1) + 1) / 2, 1.0))
        strips.append(np.concatenate(views, axis=1))
    while len(strips) % per_row:
        strips.append(np.ones_like(strips[0]))
    rows = [np.concatenate(strips[i : i + per_row], axis=1) for i in range(0, len(strips), per_row)]
    return Image.fromarray(np.round(np.concatenate(rows, axis=0) * 255).astype(np.uint8))

"""The contact sheet of a run: photos, their normals, and the result seen through the same cameras."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from avatar_kit.recon.rays import shrink
from avatar_kit.render.picture import in_square, normal_picture, on_white, picture, pictures
from avatar_kit.render.renderer import Renderer

if TYPE_CHECKING:
    from avatar_kit.recon.pipeline import Reconstruction

_TILE_PX = 256


def preview_sheet(result: Reconstruction, *, most: int = 6) -> Image.Image:
    """One column a photo: the photo, its normals (where any has some), the result's shape, normals and colours."""
    avatar = Renderer(result.avatar, device=result.device)
    shown = [shrink(photo, _TILE_PX) for photo in result.scene.photos[:most]]
    any_normals = any(small.normals is not None for small in shown)
    columns = []
    for small in shown:
        tiles = [small.image]
        if any_normals:
            tiles.append(np.ones((1, 1, 3)) if small.normals is None else normal_picture(small.normals))
        tiles += [on_white(tile) for tile in pictures(result.renderer, small.camera, ("normals", "clay"))]
        tiles.append(on_white(picture(avatar, small.camera, "colors")))
        columns.append(np.concatenate([in_square(tile, _TILE_PX) for tile in tiles], axis=0))
    sheet = np.concatenate(columns, axis=1)
    return Image.fromarray(np.round(np.clip(sheet, 0, 1) * 255).astype(np.uint8))

"""The contact sheet of a run: photos, their normals, and the result seen through the same cameras."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from avatar_kit.recon.rays import shrink
from avatar_kit.render.picture import normal_picture, on_white, picture, pictures
from avatar_kit.render.renderer import Renderer
from avatar_kit.types import Array

if TYPE_CHECKING:
    from avatar_kit.recon.pipeline import Reconstruction

_TILE_PX = 256


def preview_sheet(result: Reconstruction, *, most: int = 6) -> Image.Image:
    """One column a photo: the photo, the given normals (where there are any), the result's shape, normals and colours."""
    fine, avatar = (Renderer(mesh, device=result.device) for mesh in (result.mesh, result.avatar))
    columns = []
    for photo in result.scene.photos[:most]:
        small = shrink(photo, _TILE_PX)
        tiles = [small.image]
        if small.normals is not None:
            tiles.append(normal_picture(small.normals))
        tiles += [on_white(tile) for tile in pictures(fine, small.camera, ("normals", "clay"))]
        tiles.append(on_white(picture(avatar, small.camera, "colors")))
        columns.append(np.concatenate([_square(tile) for tile in tiles], axis=0))
    sheet = np.concatenate(columns, axis=1)
    return Image.fromarray(np.round(np.clip(sheet, 0, 1) * 255).astype(np.uint8))


def _square(tile: Array) -> Array:
    out = np.ones((_TILE_PX, _TILE_PX, 3))
    height, width = tile.shape[:2]
    top, left = (_TILE_PX - height) // 2, (_TILE_PX - width) // 2
    out[top : top + height, left : left + width] = tile
    return out

"""The contact sheet of a run: photos, their normals, and the result seen through the same cameras."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from avatar_kit.recon.rays import shrink
from avatar_kit.render.renderer import Renderer, Rendering
from avatar_kit.types import Array

if TYPE_CHECKING:
    from avatar_kit.recon.pipeline import Reconstruction

_TILE_PX = 256
_LIGHT_CAM = np.array([-0.35, -0.45, -0.82])  # from behind the camera's left shoulder


def preview_sheet(result: Reconstruction, *, most: int = 6) -> Image.Image:
    """One column a photo: the photo, the given normals (where there are any), the result's shape, normals and colours."""
    renderer = Renderer(result.mesh, device=result.device)
    columns = []
    for photo in result.scene.photos[:most]:
        small = shrink(photo, _TILE_PX)
        seen = renderer.render(small.camera)
        tiles = [small.image]
        if small.normals is not None:
            tiles.append(normal_picture(small.normals))
        tiles += [normal_picture(seen.normals), clay(seen)]
        if seen.colors is not None:
            tiles.append(np.where(seen.mask[..., None], seen.colors, 1.0))
        columns.append(np.concatenate([_square(tile) for tile in tiles], axis=0))
    sheet = np.concatenate(columns, axis=1)
    return Image.fromarray(np.round(np.clip(sheet, 0, 1) * 255).astype(np.uint8))


def normal_picture(normals: Array) -> Array:
    """Camera-frame normals (H, W, 3) as the usual colours: right red, up green, towards the camera blue; white for none."""
    known = np.linalg.norm(normals, axis=-1, keepdims=True) > 0.5
    return np.where(known, (normals * (1, -1, -1) + 1) / 2, 1.0)


def clay(seen: Rendering) -> Array:
    """The shape in one grey under one light, (H, W, 3); white where there is nothing."""
    light = np.clip(seen.normals @ (_LIGHT_CAM / np.linalg.norm(_LIGHT_CAM)), 0, None)
    grey = 0.25 + 0.65 * light
    return np.where(seen.mask, grey, 1.0)[..., None].repeat(3, axis=-1)


def _square(tile: Array) -> Array:
    out = np.ones((_TILE_PX, _TILE_PX, 3))
    height, width = tile.shape[:2]
    top, left = (_TILE_PX - height) // 2, (_TILE_PX - width) // 2
    out[top : top + height, left : left + width] = tile
    return out

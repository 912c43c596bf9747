"""The picture of a scored run: photos, the mesh, and where on the truth it is how far off."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from avatar_kit.kernels.mesh_queries import MeshQueries
from avatar_kit.recon.pipeline import Reconstruction
from avatar_kit.recon.rays import shrink
from avatar_kit.render.error_map import BAR_PX, colored_by_distance, scale_bar, shaded_colors
from avatar_kit.render.picture import clay, color_picture, in_square
from avatar_kit.render.renderer import Renderer
from avatar_kit.types import Reference

_TILE_PX = 256
_WORST_MM = 3.0  # the error that is drawn as the end of the scale


def error_sheet(result: Reconstruction, reference: Reference, *, most: int = 3) -> Image.Image:
    """A column a photo: the photo, the mesh in clay, the avatar in its colours, the true surface coloured by its distance to the mesh."""
    unit = result.scene.mm_per_world_unit
    truth = reference.mesh
    distance = MeshQueries(result.mesh, signs=False).closest(torch.from_numpy(np.ascontiguousarray(truth.vertices))).distance.numpy() * unit
    colored = colored_by_distance(truth, distance, _WORST_MM)
    avatar, true = (Renderer(mesh, device=result.device) for mesh in (result.avatar, colored))
    columns = []
    for photo in result.scene.photos[:most]:
        small = shrink(photo, _TILE_PX)
        shape, colors = clay(result.renderer.render(small.camera)), color_picture(avatar.render(small.camera))
        tiles = [small.image, shape, colors, shaded_colors(true, small.camera)]
        columns.append(np.concatenate([in_square(tile, _TILE_PX) for tile in tiles]))
    height = columns[0].shape[0]
    bar = np.ones((height, BAR_PX, 3))
    bar[3 * height // 4 :] = scale_bar(height - 3 * height // 4, _WORST_MM)
    return Image.fromarray(np.round(np.clip(np.concatenate([*columns, bar], axis=1), 0, 1) * 255).astype(np.uint8))

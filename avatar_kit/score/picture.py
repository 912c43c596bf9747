"""The picture of a scored run: photos, the mesh, and where on the truth it is how far off."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image, ImageDraw

from avatar_kit.kernels.mesh_queries import MeshQueries
from avatar_kit.recon.pipeline import Reconstruction
from avatar_kit.recon.rays import shrink
from avatar_kit.render.picture import clay
from avatar_kit.render.renderer import Renderer
from avatar_kit.types import Mesh, Reference

_TILE_PX = 256
_WORST_MM = 3.0  # the error that is drawn as the end of the scale


def error_sheet(result: Reconstruction, reference: Reference, *, most: int = 3) -> Image.Image:
    """A row a photo: the photo, the mesh in clay and in its colours, the true surface coloured by its distance to it."""
    unit = result.scene.mm_per_world_unit
    truth = reference.mesh
    distance = MeshQueries(result.mesh).closest(torch.from_numpy(np.ascontiguousarray(truth.vertices))).distance.numpy() * unit
    scale = colormaps["turbo"]
    colored = Mesh(truth.vertices, truth.faces, scale(np.clip(distance / _WORST_MM, 0, 1))[:, :3])
    made, true = Renderer(result.mesh, device=result.device), Renderer(colored, device=result.device)
    columns = []
    for photo in result.scene.photos[:most]:
        small = shrink(photo, _TILE_PX)
        seen, error = made.render(small.camera), true.render(small.camera)
        assert seen.colors is not None
        assert error.colors is not None
        shading = 0.45 + 0.55 * clay(error)
        tiles = [small.image, clay(seen), np.where(seen.mask[..., None], seen.colors, 1.0)]
        tiles.append(np.where(error.mask[..., None], error.colors * shading, 1.0))
        columns.append(np.concatenate(tiles, axis=0))
    bar = np.ones((columns[0].shape[0], 64, 3))
    ramp = scale(np.linspace(1, 0, _TILE_PX - 40))[:, :3]
    top = 3 * columns[0].shape[0] // 4 + 20
    bar[top : top + len(ramp), 8:24] = ramp[:, None]
    sheet = Image.fromarray(np.round(np.clip(np.concatenate([*columns, bar], axis=1), 0, 1) * 255).astype(np.uint8))
    draw = ImageDraw.Draw(sheet)
    x = sheet.width - 38
    for share in (0.0, 0.5, 1.0):
        draw.text((x, top - 5 + (1 - share) * len(ramp)), f"{share * _WORST_MM:.1f}", fill="black")
    draw.text((x - 4, top + len(ramp) + 8), "mm", fill="black")
    return sheet

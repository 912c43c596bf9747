"""Colours of the result: of the mesh's vertices from the radiance field, of the avatar's texture from the photos."""

from __future__ import annotations

import numpy as np
import torch

from avatar_kit.config import TextureConfig
from avatar_kit.mesh.bake import bake
from avatar_kit.mesh.unwrap import simplify, unwrap
from avatar_kit.recon.fit import FittedHead
from avatar_kit.render.renderer import Renderer, vertex_normals
from avatar_kit.types import Array, Mesh, Scene


@torch.no_grad()
def vertex_colors(mesh: Mesh, fitted: FittedHead, *, chunk: int = 8192) -> Array:
    """sRGB (V, 3) of a mesh in the head frame, each vertex seen head on: a direction that changes smoothly leaves no
    seams where one camera's view would take over from another's."""
    device = fitted.latent.device
    points = np.ascontiguousarray(mesh.vertices, np.float32)
    normals = vertex_normals(mesh).astype(np.float32)
    parts = [torch.from_numpy(x).to(device).split(chunk) for x in (points, normals)]
    return torch.cat([fitted.radiance(x, n, -n) for x, n in zip(*parts, strict=True)]).cpu().numpy()


def textured_avatar(mesh: Mesh, scene: Scene, config: TextureConfig, device: str) -> Mesh:
    """A lighter mesh in the same frame (the scene's world) with a texture, from one with colours."""
    light = unwrap(simplify(mesh, config.faces), config.size)
    return bake(light, scene.photos, config.size, surface=Renderer(mesh, device=device))

"""Colours of the mesh's vertices, from the radiance field."""

from __future__ import annotations

import numpy as np
import torch

from avatar_kit.conventions import transform_points
from avatar_kit.recon.fit import FittedHead
from avatar_kit.types import Array, Mesh, Scene


@torch.no_grad()
def vertex_colors(mesh: Mesh, fitted: FittedHead, scene: Scene, *, chunk: int = 65536) -> Array:
    """sRGB (V, 3) of a mesh in the head frame: what the camera that looks at each vertex most directly would see."""
    device = fitted.latent.device
    centres = np.array([transform_points(fitted.head_from_world, photo.camera.centre) for photo in scene.photos])
    condition = fitted.field.condition(fitted.latent[None])
    colors = []
    eyes = torch.tensor(centres, dtype=torch.float32, device=device)
    for points in torch.from_numpy(np.ascontiguousarray(mesh.vertices, np.float32)).to(device).split(chunk):
        normals = torch.nn.functional.normalize(fitted.field.with_gradient(points, condition).gradient, dim=-1)
        views = torch.nn.functional.normalize(points[None] - eyes[:, None], dim=-1)
        best = (views * normals).sum(-1).argmin(0)
        direction = views[best, torch.arange(len(points), device=device)]
        colors.append(fitted.radiance(points, normals, direction))
    return torch.cat(colors).cpu().numpy()

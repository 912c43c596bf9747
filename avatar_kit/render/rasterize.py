"""What cameras see of a mesh, by nvdiffrast's CUDA rasteriser. Optional (`backends.TABLE`); its licence is non-commercial."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from avatar_kit.kernels.mesh_queries import NO_HIT, Hits
from avatar_kit.types import Array, Camera, Mesh

_TILE = 2048  # px: nvdiffrast rasterises no larger pictures


class Rasterizer:
    """A mesh on a CUDA device, prepared for nvdiffrast."""

    def __init__(self, mesh: Mesh, device: str = "cuda") -> None:
        import nvdiffrast.torch as dr  # pyright: ignore[reportMissingImports]

        self._rasterize = dr.rasterize
        self._context = dr.RasterizeCudaContext(device=device)
        self._vertices = torch.as_tensor(mesh.vertices, dtype=torch.float32, device=device)
        self._faces = torch.as_tensor(np.ascontiguousarray(mesh.faces, np.int32), device=device)

    def hits(self, camera: Camera) -> Hits:
        """The nearest faces at the middles of all pixels, row by row; both sides of a face count."""
        rows = [
            torch.cat([self._tile(camera, left, top) for left in range(0, camera.width, _TILE)], dim=1)
            for top in range(0, camera.height, _TILE)
        ]
        found = torch.cat(rows).reshape(-1, 4)
        face = found[:, 3].round().int() - 1  # nvdiffrast counts from 1; 0 is none
        u, v = found[:, 0], found[:, 1]
        weights = torch.stack([u, v, 1 - u - v], dim=1) * (face != NO_HIT)[:, None]
        corners = self._vertices[self._faces[face.clamp(min=0).long()].long()]
        centre = torch.as_tensor(camera.centre, dtype=torch.float32, device=weights.device)
        distance = ((weights[..., None] * corners).sum(1) - centre).norm(dim=1)
        return Hits(torch.where(face != NO_HIT, distance, torch.inf), face, weights)

    def _tile(self, camera: Camera, left: int, top: int) -> Tensor:
        """nvdiffrast's (u, v, z / w, face) of a part of the picture, (h, w, 4)."""
        width, height = min(_TILE, camera.width - left), min(_TILE, camera.height - top)
        intrinsics = np.array([[1.0, 0, -left], [0, 1, -top], [0, 0, 1]]) @ camera.intrinsics
        clip = clip_coordinates(self._vertices, Camera(intrinsics, camera.world_from_camera, width, height))
        found, _ = self._rasterize(self._context, clip[None].contiguous(), self._faces, (height, width), grad_db=False)
        return found[0]


def clip_coordinates(vertices: Tensor, camera: Camera) -> Tensor:
    """Homogeneous clip coordinates (V, 4) of `vertices` (V, 3): x and y in [-1, 1] from the left and the top of the picture.

    nvdiffrast's first row is y = -1 (OpenGL's lowest), so the picture's top goes there and nothing needs to be flipped.
    Depth runs from -1 at the near to 1 at the far plane, which hold all of the mesh that lies before the camera.
    """
    into: Array = camera.camera_from_world
    rotation, shift = (torch.as_tensor(part, dtype=torch.float32, device=vertices.device) for part in (into[:3, :3], into[:3, 3]))
    at = vertices @ rotation.T + shift
    depth = at[:, 2]
    to_pixels = torch.as_tensor(camera.intrinsics, dtype=torch.float32, device=vertices.device)
    x, y, _ = (at @ to_pixels.T).unbind(1)  # pixels, times the depth
    before = depth[depth > 0]
    near, far = (float(before.min()) * 0.99, float(before.max()) * 1.01) if len(before) else (1.0, 2.0)
    near = max(near, far * 1e-4)
    z = (far + near) / (far - near) * depth - 2 * far * near / (far - near)
    return torch.stack([2 * x / camera.width - depth, 2 * y / camera.height - depth, z, depth], dim=1)

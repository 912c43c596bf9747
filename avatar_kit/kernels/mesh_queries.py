"""Questions about a triangle mesh, answered in parallel by Warp: signed distance, closest point, first hit of a ray.

The sign comes from the generalised winding number (Jacobson et al. 2013; the fast evaluation of Barill et al. 2018),
so small holes do no harm. Twins: `tests/reference/mesh_twins.py`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import warp as wp

from avatar_kit.kernels import runtime
from avatar_kit.types import Mesh

NO_HIT = -1
_FAR = wp.constant(1.0e6)


class Closest(NamedTuple):
    """Closest surface point per query: `distance` (N,), `point` (N, 3), `face` (N,) int32."""

    distance: torch.Tensor
    point: torch.Tensor
    face: torch.Tensor


class Hits(NamedTuple):
    """First hit per ray: `depth` (N,) along the ray (inf for none), `face` (N,) int32 (`NO_HIT`), `barycentric` (N, 3)."""

    depth: torch.Tensor
    face: torch.Tensor
    barycentric: torch.Tensor


@wp.kernel
def _closest_kernel(
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    with_sign: bool,
    distance: wp.array(dtype=float),
    closest: wp.array(dtype=wp.vec3),
    face: wp.array(dtype=int),
):
    i = wp.tid()
    sign = float(1.0)
    if with_sign:
        query = wp.mesh_query_point_sign_winding_number(mesh, points[i], _FAR, 2.0, 0.5)
        sign = query.sign
    else:
        query = wp.mesh_query_point_no_sign(mesh, points[i], _FAR)
    closest[i] = wp.mesh_eval_position(mesh, query.face, query.u, query.v)
    distance[i] = sign * wp.length(closest[i] - points[i])
    face[i] = query.face


@wp.kernel
def _ray_kernel(
    mesh: wp.uint64,
    origins: wp.array(dtype=wp.vec3),
    directions: wp.array(dtype=wp.vec3),
    depth: wp.array(dtype=float),
    face: wp.array(dtype=int),
    barycentric: wp.array(dtype=wp.vec3),
):
    i = wp.tid()
    query = wp.mesh_query_ray(mesh, origins[i], directions[i], _FAR)
    if query.result:
        depth[i] = query.t
        face[i] = query.face
        barycentric[i] = wp.vec3(query.u, query.v, 1.0 - query.u - query.v)
    else:
        depth[i] = wp.inf
        face[i] = NO_HIT


class MeshQueries:
    """A mesh prepared for queries on one device. Lengths are in the mesh's own unit; float32 throughout.

    Args:
        signs: prepare for signed distances too.
    """

    def __init__(self, mesh: Mesh, device: str | torch.device = "cpu", *, signs: bool = True) -> None:
        self.mesh, self._signs = mesh, signs
        self.device = torch.device(device)
        self._faces = torch.as_tensor(np.ascontiguousarray(mesh.faces, np.int32), device=self.device)
        vertices = torch.as_tensor(np.ascontiguousarray(mesh.vertices, np.float32), device=self.device)
        self._warp_mesh = wp.Mesh(
            points=runtime.points_array(vertices),
            indices=wp.from_torch(self._faces.flatten(), dtype=wp.int32),
            support_winding_number=signs,
        )

    def closest(self, points: torch.Tensor, *, signed: bool = False) -> Closest:
        """Closest surface points to `points` (N, 3); distances negative inside when `signed`."""
        if signed and not self._signs:
            raise ValueError("signed distances were asked of a mesh that was prepared without signs")
        n, points = len(points), points.to(self.device)
        out = Closest(
            torch.empty(n, device=self.device),
            torch.empty(n, 3, device=self.device),
            torch.empty(n, dtype=torch.int32, device=self.device),
        )

        def part(rows: slice) -> None:
            arguments: list[Any] = [self._warp_mesh.id, runtime.points_array(points[rows]), signed]
            outputs = [wp.from_torch(out.distance[rows]), runtime.points_array(out.point[rows]), wp.from_torch(out.face[rows])]
            runtime.launch(_closest_kernel, rows.stop - rows.start, arguments, outputs, like=out.point)

        wp.load_module(_closest_kernel.module, device=runtime.device_of(out.point))
        runtime.in_parts(part, n, self.device)
        return out

    def signed_distance(self, points: torch.Tensor) -> torch.Tensor:
        """Signed distance (N,) at `points` (N, 3), negative inside."""
        return self.closest(points, signed=True).distance

    def cast_rays(self, origins: torch.Tensor, directions: torch.Tensor) -> Hits:
        """First hits of rays with `origins` and unit `directions`, each (N, 3); both sides of a face count."""
        n, origins, directions = len(origins), origins.to(self.device), directions.to(self.device)
        out = Hits(
            torch.empty(n, device=self.device),
            torch.empty(n, dtype=torch.int32, device=self.device),
            torch.zeros(n, 3, device=self.device),
        )

        def part(rows: slice) -> None:
            arguments = [self._warp_mesh.id] + [runtime.points_array(x[rows]) for x in (origins, directions)]
            outputs = [wp.from_torch(out.depth[rows]), wp.from_torch(out.face[rows]), runtime.points_array(out.barycentric[rows])]
            runtime.launch(_ray_kernel, rows.stop - rows.start, arguments, outputs, like=out.depth)

        wp.load_module(_ray_kernel.module, device=runtime.device_of(out.depth))
        runtime.in_parts(part, n, self.device)
        return out


class UnionQueries:
    """Signed distance to a union of closed parts: the least of the parts' signed distances.

    Exact outside and on the surface; a lower bound of the depth inside where parts overlap.
    """

    def __init__(self, parts: list[Mesh], device: str | torch.device = "cpu") -> None:
        self.parts = [MeshQueries(mesh, device) for mesh in parts]

    def signed_distance(self, points: torch.Tensor) -> torch.Tensor:
        """Signed distance (N,) at `points` (N, 3), negative inside any part."""
        return torch.stack([part.signed_distance(points) for part in self.parts]).amin(0)

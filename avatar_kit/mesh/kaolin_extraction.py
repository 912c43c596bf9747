"""Level sets of a grid of values with NVIDIA Kaolin: FlexiCubes with gradients (dual, sharp), marching tetrahedra.

Both get only the cells that the surface crosses, so that memory grows with the surface: 256^3 cells take megabytes, not
gigabytes. Kaolin is optional (`backends.TABLE`): it is imported here, inside the functions, and nowhere else for this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avatar_kit.conventions import BOX_MAX, BOX_MIN
from avatar_kit.kernels.marching_cubes import closed_at_box
from avatar_kit.types import Mesh

# corners of a cell, x fastest, as Kaolin counts them
_CORNERS = torch.tensor([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)])
# six tetrahedra around the diagonal from corner 0 to corner 7, alike in every cell, so that neighbours fit (Kuhn 1960);
# all of one orientation
_TETRAHEDRA = torch.tensor([[0, 1, 3, 7], [0, 3, 2, 7], [0, 2, 6, 7], [0, 6, 4, 7], [0, 4, 5, 7], [0, 5, 1, 7]])

_TOWARDS_MEAN = 0.1  # pull of a vertex to its edges' crossings: with Kaolin's 1e-3 it slides along flat surfaces, out of its cell


@dataclass(frozen=True, eq=False)
class SurfaceCells:
    """The cells that the zero level crosses.

    Attributes:
        positions: of their corners, each once, (V, 3).
        values: there, (V,).
        cells: their corners' indices, (C, 8) int64.
        places: their places in the grid, (C, 3) int64, in the order of memory.
    """

    positions: Tensor
    values: Tensor
    cells: Tensor
    places: Tensor


def surface_cells(values: Tensor, *, low: float = BOX_MIN, high: float = BOX_MAX) -> SurfaceCells:
    """Of `values` (n, n, n), indexed [x, y, z] at nodes from `low` to `high`; what reaches the box is closed there."""
    n = values.shape[0]
    closed = closed_at_box(values, low=low, high=high)
    closed[closed == 0] = (high - low) / (n - 1) * 1e-6  # Kaolin's two ways count a zero on different sides
    inside = closed < 0
    count = torch.zeros((n - 1,) * 3, dtype=torch.uint8, device=values.device)
    for x, y, z in _CORNERS.tolist():
        count += inside[x : x + n - 1, y : y + n - 1, z : z + n - 1]
    places = ((count > 0) & (count < 8)).nonzero()
    nodes = (places[:, None] + _CORNERS.to(places)).reshape(-1, 3)
    used, cells = torch.unique((nodes[:, 0] * n + nodes[:, 1]) * n + nodes[:, 2], return_inverse=True)
    place = torch.stack([used // (n * n), used // n % n, used % n], dim=1)
    return SurfaceCells(low + place * ((high - low) / (n - 1)), closed.flatten()[used], cells.reshape(-1, 8), places)


def flexicubes(values: Tensor, gradient: Callable[[Tensor], Tensor] | None = None, *, low: float = BOX_MIN, high: float = BOX_MAX) -> Mesh:
    """Zero level of `values` (n, n, n), negative inside, by FlexiCubes (Shen et al., SIGGRAPH 2023).

    Args:
        gradient: of the field at points (P, 3), (P, 3); its vertices then minimise the distance to the tangent planes
            (manifold dual contouring). Without, they are means of the edges' crossings, inside of curved surfaces.
    """
    from kaolin.ops.conversions import FlexiCubes  # pyright: ignore[reportMissingImports]

    class OnSurfaceCells(FlexiCubes):
        """Its resolution of ambiguous cases, which asks for a cell's neighbour, for cells in a list instead of a full grid."""

        def _get_case_id(self, occ_fx8, surf_cubes, res):
            case_ids = (occ_fx8 * self.cube_corners_idx.to(self.device)).sum(-1)
            config = self.check_table[case_ids]
            ambiguous = (config[:, 0] == 1).nonzero()[:, 0]
            if len(ambiguous) == 0:
                return case_ids
            place, towards = found.places[ambiguous], found.places[ambiguous] + config[ambiguous, 1:4]
            key, wanted = (((p[:, 0] + 1) * (res + 2) + p[:, 1] + 1) * (res + 2) + p[:, 2] + 1 for p in (place, towards))
            at = torch.searchsorted(key, wanted).clamp(max=len(key) - 1)
            both = ambiguous[key[at] == wanted]
            case_ids[both] = config[both, -1]
            return case_ids

    def gradient_in_box(points: Tensor) -> Tensor:
        at_side = 0.02 * (high - low) / (values.shape[0] - 1)  # where the surface is the box, it faces outwards
        outward = (points > high - at_side).to(points) - (points < low + at_side).to(points)
        assert gradient is not None
        return torch.where(outward.any(dim=1, keepdim=True), outward, gradient(points))

    found = surface_cells(values, low=low, high=high)
    if len(found.cells) == 0:
        return _empty()
    extractor = OnSurfaceCells(device=str(values.device))
    vertices, faces, _ = extractor(
        found.positions,
        found.values,
        found.cells,
        values.shape[0] - 1,
        qef_reg_scale=_TOWARDS_MEAN,
        grad_func=None if gradient is None else gradient_in_box,
    )
    return _mesh(vertices, faces)


def marching_tetrahedra(values: Tensor, *, low: float = BOX_MIN, high: float = BOX_MAX) -> Mesh:
    """Zero level of `values` (n, n, n), negative inside, by marching tetrahedra, six to a cell. Never ambiguous."""
    from kaolin.ops.conversions import marching_tetrahedra as march  # pyright: ignore[reportMissingImports]

    found = surface_cells(values, low=low, high=high)
    if len(found.cells) == 0:
        return _empty()
    tetrahedra = found.cells[:, _TETRAHEDRA.to(found.cells.device)].reshape(-1, 4)
    vertices, faces = march(found.positions[None], tetrahedra, found.values[None])
    return _mesh(vertices[0], faces[0])


def _empty() -> Mesh:
    return Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))


def _mesh(vertices: Tensor, faces: Tensor) -> Mesh:
    return Mesh(vertices.detach().float().cpu().numpy(), faces.cpu().numpy().astype(np.int32))

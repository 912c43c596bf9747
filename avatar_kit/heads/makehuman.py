"""MakeHuman's polygon hair (CC0) as closed volumes on Anny heads.

The files hold open strips fitted to MakeHuman's neutral base mesh. A style is carried to another head by the motion of
the nearest skin vertices, thickened to the strips' thickness, and what it encloses is filled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial import KDTree

from avatar_kit.conventions import BOX_MAX, BOX_MIN
from avatar_kit.heads.hair import HeadGrid
from avatar_kit.kernels.marching_cubes import marching_cubes
from avatar_kit.kernels.mesh_queries import MeshQueries
from avatar_kit.types import Array, InputError, Mesh

_STRIP_HALF_THICKNESS = 0.022  # units: 4.4 mm, a little over half a grid step, so that strips close
_BALL = 0.06  # units: 12 mm, half the widest gap between strips, or between strips and skin, that is filled
_UNDERLAY = 0.006  # units: hair begins below the skin, whose distance on the grid is no better than this
_NEIGHBOURS = 24


class MakeHumanHair:
    """All styles (*.obj) below a folder; vertices in the frame of MakeHuman's base mesh, decimetres."""

    def __init__(self, folder: Path) -> None:
        files = sorted(folder.expanduser().rglob("*.obj"))
        if not files:
            raise InputError(f"{folder}: no .obj files below it. Give --hair a folder of MakeHuman hair styles.")
        import trimesh

        self._styles = {file.stem: trimesh.load_mesh(file, process=False) for file in files}

    def fit(self, template: tuple[Array, Array], vertices: Array, grid: HeadGrid, rng: np.random.Generator) -> tuple[str, Mesh | None]:
        """A random style on the head whose skin has `vertices`.

        Args:
            template: base mesh (B, 3) in the styles' frame, and the rows of it (V,) that `vertices` correspond to.
            vertices: (V, 3) in the head frame.
            grid: the bare head.

        Returns:
            the style's name and its closed volume in the head frame.
        """
        name = str(rng.choice(sorted(self._styles)))
        style = self._styles[name]
        base = template[0][template[1]]
        moved = carry(np.asarray(style.vertices), base, vertices)
        return name, closed_volume(Mesh(moved, np.asarray(style.faces, np.int32)), grid)


def carry(points: Array, source: Array, target: Array) -> Array:
    """Move `points` (N, 3) as the corresponding vertices `source` -> `target` (V, 3) around them move.

    A similarity takes the whole, then each point follows the mean displacement left at its nearest vertices.
    """
    from avatar_kit.conventions import procrustes, transform_points

    distance, nearest = KDTree(source).query(points, k=_NEIGHBOURS)
    near = np.unique(nearest)
    target_from_source = procrustes(source[near], target[near], with_scale=True)
    left = target - transform_points(target_from_source, source)
    weight = 1.0 / (distance + 1e-3 * np.ptp(source[:, 1]))
    displacement = (weight[..., None] * left[nearest]).sum(1) / weight.sum(1, keepdims=True)
    return transform_points(target_from_source, points) + displacement


def closed_volume(strips: Mesh, grid: HeadGrid) -> Mesh | None:
    """Open `strips` (head frame) as one closed volume over the head of `grid`, or None if nothing of it lies in the box.

    They are thickened, then closed together with the head: what a ball of `_BALL` cannot enter is hair. Locks that float are dropped.
    """
    n, step = grid.x.shape[0], (BOX_MAX - BOX_MIN) / (grid.x.shape[0] - 1)
    nodes = torch.from_numpy(np.stack([grid.x, grid.y, grid.z], -1).reshape(-1, 3))
    distance = MeshQueries(strips).closest(nodes).distance.numpy().reshape(n, n, n)
    values = distance - _STRIP_HALF_THICKNESS
    near = distance < _STRIP_HALF_THICKNESS + 2 * _BALL
    wide = marching_cubes(torch.from_numpy((np.minimum(values, grid.body) - _BALL).astype(np.float32)))
    if len(wide.faces):
        values[near] = np.minimum(values[near], MeshQueries(wide).signed_distance(nodes[torch.from_numpy(near.ravel())]).numpy() + _BALL)
    at_hair = values < step
    values[at_hair] = np.minimum(values[at_hair], grid.body[at_hair] - _UNDERLAY)
    solid = (values < 0) | (grid.body < 0)
    pieces, _ = ndimage.label(solid)  # type: ignore[misc]
    values = np.where(solid & (pieces != np.bincount(pieces[grid.body < 0]).argmax()), 0.5 * step, values)  # locks that float
    enclosed = np.asarray(ndimage.binary_fill_holes(solid)) & ~solid
    values = np.where(enclosed, -0.5 * step, values)
    values = ndimage.gaussian_filter(values, 0.5)
    mesh = marching_cubes(torch.from_numpy(values.astype(np.float32)))
    return mesh if len(mesh.faces) else None

"""Charts of a mesh, laid out on a texture by xatlas. Imports little: it is done in a process of its own (`elsewhere`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_MOST_STRETCHED = 0.3  # cost to which charts grow, a seventh of xatlas' own: as many, less stretched, in less than half the time
_BLOCK = 4  # texels: charts are packed on a grid this coarse, a sixteenth of the work, and so far apart that none bleeds into another


class Charts(NamedTuple):
    """A mesh cut open and laid flat.

    Attributes:
        before: of each vertex, which it was; vertices are double where charts end, (V,).
        faces: (F, 3) of those vertices.
        uv: in [0, 1], (V, 2).
    """

    before: NDArray[np.integer]
    faces: NDArray[np.integer]
    uv: NDArray[np.floating]


def charts(vertices: NDArray[np.floating], faces: NDArray[np.integer], size: int) -> Charts:
    """Charts of `vertices` (V, 3), in any frame and unit, and `faces` (F, 3) for a texture of `size` x `size` texels."""
    import xatlas

    atlas = xatlas.Atlas()
    atlas.add_mesh(vertices.astype(np.float32), faces.astype(np.uint32))
    growing, packing = xatlas.ChartOptions(), xatlas.PackOptions()
    growing.max_cost = _MOST_STRETCHED
    packing.resolution, packing.padding = max(1, size // _BLOCK), 1
    atlas.generate(growing, packing)
    before, faces, uv = atlas[0]
    return Charts(before, faces.astype(np.int32), np.clip(uv.astype(np.float64), 0.0, 1.0))

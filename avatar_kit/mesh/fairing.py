"""Fair surfaces where photos show that the fitted one is wrong, and its details with it.

Hair of the prior's heads ends in steps, which the fit's grids are too coarse to take away: where a person's hair ends elsewhere, or
softly, a jagged crack stays in the forehead. The relief moves vertices along their normals and cannot close it; so what the
photos' normals contradict is replaced by the smoothest surface that continues what is around it, to which the relief then adds
what the photos show.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from avatar_kit.mesh.relief import ShownNormals
from avatar_kit.mesh.topology import neighbours
from avatar_kit.types import Array, Mesh

_RIGHT, _WRONG = 0.4, 0.8  # length of the difference between the normals of photo and mesh: 23 and 47 degrees
_UNSURE_RINGS = 6  # of edges around what is wrong, over what no photo shows to be right: the sides of a crack


def contradicted(mesh: Mesh, own: Array, photos: ShownNormals, *, rings: int) -> Array:
    """Where the normals that photos show have nothing to do with the mesh's: vertices, (V,) bool.

    Args:
        own: the mesh's unit normals at its vertices, (V, 3).
        photos: of `photo_normals`, at the vertices.
        rings: edges from such vertices within which others are taken along; those that no photo shows to be right, a little further.
    """
    shown = photos.certainty > 0
    off = np.linalg.norm(photos.normals - own, axis=1)
    right, chosen = shown & (off < _RIGHT), shown & (off > _WRONG)
    beside = neighbours(mesh)
    for _ in range(rings):
        chosen |= beside @ chosen > 0
    for _ in range(_UNSURE_RINGS):
        chosen |= (beside @ chosen > 0) & ~right
    return chosen


def fair(mesh: Mesh, chosen: Array) -> Mesh:
    """The mesh with its `chosen` vertices, (V,) bool, on the fair surface through the others: it has the least squares of the umbrella
    operator, which leaves no edge where the two meet.

    Source: Kobbelt et al., "Interactive multi-resolution modeling on arbitrary meshes", SIGGRAPH 1998.
    """
    if not chosen.any() or chosen.all():
        return mesh
    beside = neighbours(mesh)
    umbrella = sparse.identity(len(chosen)) - sparse.diags(1.0 / np.maximum(np.diff(beside.indptr), 1)) @ beside
    bending = sparse.csr_matrix(umbrella.T @ umbrella)[chosen]
    vertices = mesh.vertices.astype(np.float64)
    vertices[chosen] = splu(bending[:, chosen].tocsc()).solve(-(bending[:, ~chosen] @ vertices[~chosen]))
    return replace(mesh, vertices=vertices.astype(mesh.vertices.dtype))

"""Texture coordinates of Anny heads: those of MakeHuman's base mesh, which its vertices and skins come from."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from avatar_kit.heads.anny import AnnyHeads
from avatar_kit.heads.sampler import HeadSource
from avatar_kit.kernels.mesh_queries import MeshQueries
from avatar_kit.types import Array, Head, Mesh


class RememberedSource:
    """A head source that remembers the last bare head it gave out, whose faces are still the model's own."""

    def __init__(self, source: HeadSource) -> None:
        self.source = source
        self.name = source.name
        self.last: Head | None = None
        self._corner_uv: Array | None = None

    def sample(self, rng: np.random.Generator) -> Head:
        """One head, kept in `last`."""
        self.last = self.source.sample(rng)
        return self.last

    @property
    def template(self) -> tuple[Array, Array]:
        """What MakeHuman hair is fitted by; Anny has it."""
        source: Any = self.source
        return source.template

    def corner_uv(self) -> Array | None:
        """Texture coordinates (F, 3, 2) of the corners of the bare body's faces, NaN on caps; None unless it is Anny."""
        if self._corner_uv is None and isinstance(self.source, AnnyHeads):
            model: Any = self.source._model
            uv = model.texture_coordinates.numpy()[model.face_texture_coordinate_indices.numpy()].astype(np.float32)
            of_face = {tuple(corners): i for i, corners in enumerate(model.faces.numpy().tolist())}
            rows = [of_face.get(tuple(corners), -1) for corners in self.source._topology["body"][0].tolist()]
            self._corner_uv = np.where(np.array(rows)[:, None, None] >= 0, uv[rows], np.nan).astype(np.float32)
        return self._corner_uv


def anny_texture(remembered: RememberedSource, head: Head) -> Array | None:
    """Texture coordinates (F, 3, 2) per corner of the faces of `head`'s body, made from the remembered bare head.

    Each face takes the plane of the bare face under its middle, so bodies that were cut need no book-keeping.
    """
    bare_uv = remembered.corner_uv()
    if bare_uv is None or remembered.last is None:
        return None
    bare, body = remembered.last.parts["body"], head.parts["body"]
    corners = body.vertices[body.faces]
    under = MeshQueries(bare).closest(torch.from_numpy(corners.mean(1).astype(np.float32)))
    face = under.face.numpy()
    weights = _barycentric(corners, bare, face)
    uv = np.einsum("fck,fkd->fcd", weights, bare_uv[face])
    uv[under.distance.numpy() > 1e-3] = np.nan  # the cut's own faces lie inside
    return uv.astype(np.float32)


def _barycentric(points: Array, mesh: Mesh, face: Array) -> Array:
    """Weights (F, 3, 3) of `points` (F, 3, 3), three a face, in the planes of the mesh's faces `face` (F,)."""
    a, b, c = (mesh.vertices[mesh.faces[face, k]] for k in range(3))
    e1, e2 = b - a, c - a
    d11, d12, d22 = (e1 * e1).sum(1), (e1 * e2).sum(1), (e2 * e2).sum(1)
    determinant = np.maximum(d11 * d22 - d12 * d12, 1e-20)
    offset = points - a[:, None]
    p1, p2 = np.einsum("fkd,fd->fk", offset, e1), np.einsum("fkd,fd->fk", offset, e2)
    v = (d22[:, None] * p1 - d12[:, None] * p2) / determinant[:, None]
    w = (d11[:, None] * p2 - d12[:, None] * p1) / determinant[:, None]
    return np.stack([1 - v - w, v, w], axis=-1)

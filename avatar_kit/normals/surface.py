"""What light meets at each hit: colour, gloss and fine relief. The vocabulary of skin, hair, cloth and statues."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatar_kit.normals.noise import unit
from avatar_kit.types import Array


@dataclass(frozen=True, eq=False)
class Surface:
    """Material of N hits.

    Attributes:
        albedo: (N, 3) linear, in [0, 1].
        roughness: (N,) 0.05 (wet) to 1 (matte).
        gloss: (N,) reflectance seen straight on, 0.04 for skin.
        bump: (N, 3) slope of the fine relief that shading feels and labels do not, head frame.
        relief: (N, 3) slope of the coarser relief, locks and creases, that labels show as well.
        strand: (N, 3) unit direction of hair strands, zero elsewhere.
        bleeding: (N,) how much light goes round under the surface, as in skin and wax.
        metal: share of the light that is mirrored in the surface's own colour.
    """

    albedo: Array
    roughness: Array
    gloss: Array
    bump: Array
    relief: Array
    strand: Array
    bleeding: Array
    metal: float = 0.0

    @staticmethod
    def blank(count: int) -> Surface:
        """Mid grey, matte, smooth."""
        flat = np.zeros((count, 3), np.float32)
        return Surface(
            albedo=np.full((count, 3), 0.4, np.float32), roughness=np.full(count, 0.6, np.float32), gloss=np.full(count, 0.04, np.float32),
            bump=flat, relief=flat.copy(), strand=flat.copy(), bleeding=np.zeros(count, np.float32),
        )  # fmt: skip


def bumped(normals: Array, slope: Array) -> Array:
    """`normals` (N, 3) of a surface to which a relief with gradient `slope` (N, 3) is added along the normal."""
    along = np.einsum("ni,ni->n", slope, normals)[:, None]
    return unit(normals - (slope - along * normals)).astype(np.float32)


def linear(srgb: Array) -> Array:
    """sRGB in [0, 1] to linear light, by the plain power that photographs are near to."""
    return np.clip(np.asarray(srgb, np.float32), 0, 1) ** np.float32(2.2)

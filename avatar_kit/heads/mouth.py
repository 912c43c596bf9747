"""What fills the mouth of a modelled head, behind the lips.

Models have a pocket between lips and teeth, centimetres deep. A field that has learnt it is hardly negative there, and a fit that moves
it by a millimetre opens a hole through the lips.
"""

from __future__ import annotations

import numpy as np

from avatar_kit.types import Array, Head, Mesh

_MODELS = ("anny", "ict")  # scans are closed where they should be
_HEIGHT = -0.172  # y of the mouth, head frame
_RADII = np.array([0.11, 0.055, 0.09])  # units: 22 mm to each side, 11 up and down, 18 in depth
_BEHIND = 0.03  # units: 6 mm from the most forward of the lips to the filling


def mouth_filling(head: Head) -> Mesh | None:
    """A closed ellipsoid inside `head`, whole behind its lips (head frame); None for scans and where no lips are found."""
    if head.attributes.get("source") not in _MODELS or "body" not in head.parts:
        return None
    front = _lips_front(head.parts["body"])
    if front is None:
        return None
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=3)
    centre = np.array([0.0, _HEIGHT, front - _BEHIND - _RADII[2]])
    return Mesh(np.asarray(ball.vertices) * _RADII + centre, np.asarray(ball.faces, np.int32))


def _lips_front(body: Mesh) -> float | None:
    """z of the lips, where nine tenths of what looks forward lie further back."""
    corners: Array = body.vertices[body.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    centre = corners.mean(1)
    lips = (np.abs(centre[:, 0]) < 0.06) & (np.abs(centre[:, 1] - _HEIGHT) < 0.05) & (centre[:, 2] > 0.4)
    lips &= cross[:, 2] > 0.5 * np.linalg.norm(cross, axis=1)
    return float(np.quantile(centre[lips, 2], 0.9)) if lips.sum() >= 10 else None

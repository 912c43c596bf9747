"""Whether two surfaces can be compared at all: empty ones, broken ones and units that differ would give numbers that say nothing."""

from __future__ import annotations

import numpy as np

from avatar_kit.types import Array, InputError, Mesh, Reference

_SMALLEST_MM, _LARGEST_MM = 40.0, 800.0  # radius of a truth: a face alone has some 60, a bust with its pedestal 300
_RATIO = 4.0  # of radii; units differ by 10 at least


def check_truth(reference: Reference, mm_per_unit: float, name: str) -> None:
    """See that a true surface has a head's size.

    Args:
        name: how messages call it, e.g. the file.

    Raises:
        InputError: no triangles, vertices that are no numbers, or another unit than was stated.
    """
    _check_surface(reference.mesh, name)
    radius = _radius(reference.mesh.vertices) * mm_per_unit
    if not _SMALLEST_MM <= radius <= _LARGEST_MM:
        raise InputError(
            f"{name}: its vertices lie {radius:.3g} mm around their middle, a head's some 100. Is it in metres? State the unit in the "
            'scene\'s views.json, e.g. "units": "m", or write the mesh in millimetres.'
        )


def check_prediction(mesh: Mesh, reference: Reference, name: str) -> None:
    """See that a mesh is one, and of about the truth's size.

    Raises:
        InputError: no triangles, vertices that are no numbers, or another unit than the truth's.
    """
    _check_surface(mesh, name)
    ratio = _radius(mesh.vertices) / _radius(reference.mesh.vertices)
    if not 1 / _RATIO <= ratio <= _RATIO:
        raise InputError(
            f"{name}: is {ratio:.3g} times as large as the truth. Write it in the unit and frame of the scene's cameras, as mesh.ply of "
            "a run is; a .glb is in metres."
        )


def _check_surface(mesh: Mesh, name: str) -> None:
    if len(mesh.faces) == 0:
        raise InputError(f"{name}: holds no triangles. A mesh with faces is needed.")
    bad = int((~np.isfinite(mesh.vertices)).any(1).sum())
    if bad:
        raise InputError(f"{name}: {bad} of its {len(mesh.vertices)} vertices are no finite numbers. Export it again.")


def _radius(vertices: Array) -> float:
    """Median distance from the middle: a few floaters do not change it."""
    return float(np.median(np.linalg.norm(vertices - np.median(vertices, axis=0), axis=1)))

"""Whether a scan can be a training head: finite, a surface, of a head's size, upright. What is wrong is said in words."""

from __future__ import annotations

import functools

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from avatar_kit.checkpoint import load_checkpoint, shipped
from avatar_kit.conventions import BOX_MAX, MM_PER_UNIT
from avatar_kit.types import Array, Mesh

_LEAST_MM = 100.0  # across: a newborn's head is larger
_UNITS = {"centimetres": 10.0, "metres": 1000.0}
_LIKELY_MM = (150.0, 3000.0)  # across, of a scan whose unit is guessed: a head, or a whole person
_TRIANGLES = 4000  # that say how a scan is turned
_FAR = 0.3  # units: what is further from the mean head's surface says no more
_BETTER, _CLOSE = 0.7, 0.07  # of the distance as it stands, and units: a head that fits so well once turned was turned


def surface_defect(mesh: Mesh) -> str | None:
    """Why the mesh, in any frame, is no surface; None if it is one."""
    used = np.unique(mesh.faces)
    bad = used[~np.isfinite(mesh.vertices[used]).all(1)]
    if len(bad):
        return f"{len(bad)} of its {len(used)} vertices are not finite numbers (the first is number {bad[0]}). Export it again"
    corners = mesh.vertices[mesh.faces]
    if not np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).any():
        return "its triangles have no area. A scan must be a surface"
    return None


def size_defect(mesh: Mesh) -> str | None:
    """Why the mesh, in the head frame, is too small for a head, and in which unit it would not be; None if it is not."""
    corners = mesh.vertices[mesh.faces].reshape(-1, 3)
    across = float(np.ptp(corners, axis=0).max()) * MM_PER_UNIT
    if across >= _LEAST_MM:
        return None
    for name, mm in _UNITS.items():
        if _LIKELY_MM[0] <= across * mm <= _LIKELY_MM[1]:
            return f"it is {across:.3g} across, so it seems to be in {name}, not millimetres: one unit is {mm:g} mm"
    return f"it is {across:.3g} mm across, which is no head's size in millimetres, centimetres or metres"


def pose_defect(mesh: Mesh) -> str | None:
    """How the mesh, in the head frame, seems to be turned; None if its top is up, or if it is like no head however it is turned.

    Of 20 heads, in four ways upside down or lying, 73 of 80 were found so; of the upright ones, moved by 40 mm or tilted by 20
    degrees, 0 of 200.
    """
    corners = mesh.vertices[mesh.faces[:: max(1, len(mesh.faces) // _TRIANGLES)]]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    points = corners.mean(1)
    inside = (np.abs(points) < BOX_MAX).all(1) & (area > 0)
    if not inside.any():
        return None
    points, area = points[inside], area[inside]
    turns = [turn for turn in Rotation.create_group("O") if turn.as_matrix()[1, 1] < 0.5]  # of these, up is not up
    turned = [_distance_to_mean_head(turn.apply(points), area) for turn in turns]
    upright, best = _distance_to_mean_head(points, area), int(np.argmin(turned))
    if turned[best] > min(_BETTER * upright, _CLOSE):
        return None
    how = "to be upside down" if turns[best].as_matrix()[1, 1] < -0.5 else "to lie on its side"
    axis = turns[best].as_rotvec() / turns[best].magnitude()
    return (
        f"it seems {how}: turned by {np.rad2deg(turns[best].magnitude()):.0f} degrees about ({', '.join(f'{x:.2g}' for x in axis)}) "
        f"it would be {turned[best] * MM_PER_UNIT:.0f} instead of {upright * MM_PER_UNIT:.0f} mm from an average head"
    )


def _distance_to_mean_head(points: Array, weights: Array) -> float:
    """Weighted mean distance from `points` (N, 3) in the box to the surface of the shipped prior's mean head, units."""
    sdf = _mean_head()
    at = (points + BOX_MAX) * ((len(sdf) - 1) / (2 * BOX_MAX))
    distance = np.abs(map_coordinates(sdf, at.T, order=1, mode="nearest"))
    return float(np.average(np.minimum(distance, _FAR), weights=weights))


@functools.cache
def _mean_head() -> Array:
    return load_checkpoint(shipped("prior.safetensors"), kind="prior").tensors["mean_sdf"].numpy()

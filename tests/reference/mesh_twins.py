"""Brute force over all triangles, float64: distance, winding number, ray hits."""

from __future__ import annotations

import numpy as np

from avatar_kit.types import Array, Mesh


def closest_distance(mesh: Mesh, points: Array) -> Array:
    """Unsigned distance (N,) to the nearest triangle (trimesh's own closed form per triangle)."""
    from trimesh.triangles import closest_point

    triangles = mesh.vertices[mesh.faces].astype(np.float64)
    return np.array([np.linalg.norm(closest_point(triangles, np.tile(p, (len(triangles), 1))) - p, axis=1).min() for p in points])


def winding_number(mesh: Mesh, points: Array) -> Array:
    """Sum of the signed solid angles of all triangles over 4 pi (van Oosterom & Strackee 1983)."""
    out = []
    for p in points:
        a, b, c = np.moveaxis(mesh.vertices[mesh.faces] - p, 1, 0)
        la, lb, lc = (np.linalg.norm(x, axis=1) for x in (a, b, c))
        numerator = np.einsum("ij,ij->i", a, np.cross(b, c))
        dot = lambda x, y: np.einsum("ij,ij->i", x, y)  # noqa: E731
        denominator = la * lb * lc + dot(a, b) * lc + dot(b, c) * la + dot(c, a) * lb
        out.append(2 * np.arctan2(numerator, denominator).sum() / (4 * np.pi))
    return np.array(out)


def first_hit(mesh: Mesh, origin: Array, direction: Array) -> float:
    """Depth of the nearest triangle along a ray (Moeller & Trumbore), inf for none."""
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces].astype(np.float64), 1, 0)
    e1, e2 = b - a, c - a
    h = np.cross(direction, e2)
    det = np.einsum("ij,ij->i", e1, h)
    s = origin - a
    with np.errstate(divide="ignore", invalid="ignore"):
        u = np.einsum("ij,ij->i", s, h) / det
        q = np.cross(s, e1)
        v = (q @ direction) / det
        t = np.einsum("ij,ij->i", e2, q) / det
    hit = (np.abs(det) > 1e-12) & (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0)
    return float(t[hit].min()) if hit.any() else float("inf")

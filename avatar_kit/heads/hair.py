"""Hair and clothes as closed volumes over a bare head, made by offsetting its distance on a grid.

Vocabulary: `body` is the signed distance to the bare head on a grid of the field's box, in units; `thickness` is how
far the hair's surface stands above the skin, negative where there is no hair; azimuth is 0 at the face and 180 degrees
at the nape, alike on both sides.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from avatar_kit.conventions import BOX_MAX, BOX_MIN
from avatar_kit.kernels.marching_cubes import marching_cubes
from avatar_kit.kernels.mesh_queries import MeshQueries
from avatar_kit.types import Array, Mesh

STYLES = ("none", "cropped", "short", "long", "tied", "receding")
_COARSE, _FINE = 49, 97  # nodes per axis: distances are measured every 8 mm, surfaces made every 4 mm
HAIRLINE_AZIMUTH_DEG = np.array([0.0, 35, 60, 78, 92, 112, 124, 150, 180])
HAIRLINE_HEIGHT = np.array([0.56, 0.52, 0.36, 0.20, 0.24, 0.22, -0.02, -0.24, -0.30])
AVERAGE_CROWN = 0.777  # y of the top of a head that has this hairline, units


@dataclass(frozen=True, eq=False)
class HeadGrid:
    """A bare head on the grid: node coordinates x, y, z and distance `body`, each (97, 97, 97)."""

    x: Array
    y: Array
    z: Array
    body: Array
    crown: float
    back: float

    @property
    def azimuth_deg(self) -> Array:
        """Angle from the face around the head's vertical axis, 0 to 180."""
        return np.degrees(np.arctan2(np.abs(self.x), self.z - 0.02))


def head_grid(body: Mesh) -> HeadGrid:
    """Measure the distance to `body` (head frame) on the coarse grid and interpolate it to the fine one."""
    axis = torch.linspace(BOX_MIN, BOX_MAX, _COARSE)
    nodes = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    distance = MeshQueries(body).signed_distance(nodes).reshape(_COARSE, _COARSE, _COARSE).numpy()
    for _ in range(3):  # an axis at a time, which comes last then
        distance = np.tensordot(distance, _refinement(), axes=(0, 1))
    fine = np.linspace(BOX_MIN, BOX_MAX, _FINE, dtype=np.float32)
    x, y, z = np.meshgrid(fine, fine, fine, indexing="ij")
    upper = body.vertices[(body.vertices[:, 1] > 0.1) & (np.abs(body.vertices[:, 0]) < 0.5)]
    return HeadGrid(x, y, z, distance, float(upper[:, 1].max()), float(upper[:, 2].min()))


@functools.lru_cache(maxsize=1)
def _refinement() -> Array:
    """The matrix (97, 49) of cubic spline interpolation from the coarse nodes of an axis to the fine ones."""
    return np.asarray(ndimage.zoom(np.eye(_COARSE, dtype=np.float32), (_FINE / _COARSE, 1), order=3, grid_mode=False))


def smooth_step(x: Array, low: float = 0.0, high: float = 1.0) -> Array:
    """0 below `low`, 1 above `high`, smooth between; `low` > `high` turns it round."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _smooth_min(a: Array, b: Array, radius: float) -> Array:
    h = np.clip(0.5 + 0.5 * (b - a) / radius, 0.0, 1.0)
    return b + (a - b) * h - radius * h * (1.0 - h)


def _locks(grid: HeadGrid, rng: np.random.Generator, amplitude: float) -> Array:
    """Waves of 16 to 90 mm, longer along the hair (down) than across it: the relief of locks and curls."""
    relief = np.zeros_like(grid.x)
    stretch = rng.uniform(0.05, 0.6)
    bend = 0.15 * np.sin(rng.uniform(4, 9) * grid.y + rng.uniform(0, 6)) * float(rng.choice([-1.0, 1.0]))
    for _ in range(9):
        direction = rng.normal(size=3) * (1.0, stretch, 1.0)
        direction *= 2 * np.pi / (rng.uniform(0.08, 0.45) * np.linalg.norm(direction))
        along_x, along_y, along_z = direction.tolist()  # plain numbers leave the grid in float32
        relief += np.sin(along_x * (grid.x + bend) + along_y * grid.y + along_z * grid.z + rng.uniform(0, 2 * np.pi))
    return float(amplitude) / 3.0 * relief


def _cap(grid: HeadGrid, rng: np.random.Generator, style: str) -> Array:
    """Hair that follows the skull inside the hairline."""
    height = HAIRLINE_HEIGHT + rng.normal(0, 0.02, HAIRLINE_HEIGHT.size) + (grid.crown - AVERAGE_CROWN) * 0.6
    height[0] += rng.uniform(-0.12, 0.05)
    if style == "receding":
        height[:3] = grid.crown - rng.uniform(0.0, 0.12) + np.array([rng.uniform(-0.15, 0.03), 0.06, -0.1])
    if style in ("long", "tied") or rng.random() < 0.3:
        height[3:5] -= rng.uniform(0.0, 0.2)
    inside = grid.y - np.interp(grid.azimuth_deg, HAIRLINE_AZIMUTH_DEG, height)
    top = {"cropped": (0.015, 0.04), "short": (0.05, 0.2), "long": (0.04, 0.14), "tied": (0.02, 0.06), "receding": (0.01, 0.07)}
    side = {"cropped": (0.01, 0.03), "short": (0.02, 0.12), "long": (0.05, 0.14), "tied": (0.02, 0.05), "receding": (0.01, 0.07)}
    blend = smooth_step(grid.y, 0.25, 0.65)
    full = rng.uniform(*top[style]) * blend + rng.uniform(*side[style]) * (1.0 - blend)
    if style == "short" and rng.random() < 0.5:  # a quiff: more at the front
        full = full * (1.0 + rng.uniform(0.2, 0.9) * smooth_step(grid.z, -0.1, 0.5) * blend)
    smooth_body = ndimage.gaussian_filter(grid.body, rng.uniform(0.7, 2.0))
    relief = _locks(grid, rng, 0.22 * full.mean() + 0.004)
    taper = smooth_step(inside / rng.uniform(0.06, 0.16))
    return smooth_body - ((full + relief) * taper - 0.05 * (1.0 - taper))


def _curtain(grid: HeadGrid, rng: np.random.Generator) -> Array:
    """Long hair that hangs from the sides and back of the head to between the jaw and below the shoulders."""
    from_face = rng.uniform(58, 92)
    width, depth = rng.uniform(0.42, 0.54), -grid.back + rng.uniform(0.0, 0.08)
    flare = 1.0 + rng.uniform(-0.05, 0.3) * np.clip((0.3 - grid.y) / 0.8, 0, 1.2)
    radius = np.sqrt((grid.x / (width * flare)) ** 2 + (grid.z / (depth * flare)) ** 2)
    outer = (radius - 1.0) * min(width, depth)
    end = rng.uniform(-1.2, -0.25) + _locks(grid, rng, 0.05)
    open_face = np.radians(from_face - grid.azimuth_deg) * np.maximum(np.hypot(grid.x, grid.z), 0.05)
    behind = np.minimum(grid.body + 0.03, 0.12)  # no solid hair in front of the neck
    curtain = np.maximum.reduce([outer, end - grid.y, grid.y - 0.35, open_face, -behind])
    return curtain + _locks(grid, rng, 0.018)


def _bun_or_tail(grid: HeadGrid, rng: np.random.Generator) -> Array:
    """A bun, or a tail that hangs behind the neck."""
    height = rng.uniform(0.0, grid.crown - 0.1)
    middle = grid.x.shape[0] // 2
    row = int(np.argmin(np.abs(grid.y[middle, :, 0] - height)))
    inside = grid.z[middle, row][grid.body[middle, row] < 0]
    centre_z = (float(inside.min()) if inside.size else grid.back) - rng.uniform(-0.02, 0.06)
    size = rng.uniform(0.12, 0.22)
    if rng.random() < 0.5:
        return np.sqrt(grid.x**2 + (grid.y - height) ** 2 + (grid.z - centre_z) ** 2) - size
    length, slant = rng.uniform(0.4, 0.9), rng.uniform(-0.15, 0.1)
    along = np.clip((height - grid.y) / length, 0.0, 1.0)
    radius = size * 0.8 * (1.0 - 0.6 * along)
    axis_z = centre_z - 0.04 * np.minimum(along * 6, 1) + slant * along
    return np.sqrt(grid.x**2 + (grid.y - (height - along * length)) ** 2 + (grid.z - axis_z) ** 2) - radius


def hair_volume(grid: HeadGrid, style: str, rng: np.random.Generator) -> Mesh | None:
    """A closed hair volume of one of `STYLES` in the head frame, or None for "none"."""
    if style == "none":
        return None
    values = _cap(grid, rng, style)
    if style == "long":
        values = _smooth_min(values, _curtain(grid, rng), 0.08)
    if style == "tied":
        values = _smooth_min(values, _bun_or_tail(grid, rng), 0.04)
    return _surface(values)


def clothes_volume(grid: HeadGrid, kind: str, rng: np.random.Generator) -> Mesh | None:
    """A closed collar, a neckline or a hood worn over the body, in the head frame; None for "none"."""
    if kind == "none":
        return None
    smooth_body = ndimage.gaussian_filter(grid.body, 1.5)
    folds = _locks(grid, rng, 0.012)
    if kind == "hood":
        opening = np.hypot(grid.x / rng.uniform(0.38, 0.48), (grid.y - 0.1) / rng.uniform(0.52, 0.66)) - 1.0
        face_hole = np.minimum(-0.4 * opening, grid.z - rng.uniform(0.0, 0.2))  # positive inside the opening
        shell = smooth_body - rng.uniform(0.05, 0.2) + folds
        return _surface(np.maximum(shell, face_hole))
    top = rng.uniform(-0.95, -0.72) if kind == "neckline" else rng.uniform(-0.75, -0.5)
    slope = rng.uniform(0.1, 0.6)  # higher at the back
    shell = smooth_body - rng.uniform(0.02, 0.06 if kind == "neckline" else 0.12) + folds
    return _surface(np.maximum(shell, grid.y - top + slope * (grid.z + 0.1)))


def _surface(values: Array) -> Mesh | None:
    mesh = marching_cubes(torch.from_numpy(np.ascontiguousarray(values, np.float32)))
    return mesh if len(mesh.faces) else None

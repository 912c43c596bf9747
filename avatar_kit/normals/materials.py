"""From hits to materials: skin, eyes, hair and clothes, or one stone for all as on a bust."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from avatar_kit.heads.hair import smooth_step
from avatar_kit.normals import skin
from avatar_kit.normals.noise import Noise, unit
from avatar_kit.normals.subject import BODY, CLOTHES, EYES, HAIR, Seen, Subject
from avatar_kit.normals.surface import Surface, linear
from avatar_kit.types import Array, InputError

_HAIRS = np.array(
    [[0.07, 0.06, 0.06], [0.13, 0.10, 0.09], [0.22, 0.15, 0.11], [0.33, 0.22, 0.14], [0.47, 0.33, 0.20], [0.66, 0.52, 0.34],
     [0.80, 0.70, 0.52], [0.50, 0.24, 0.12], [0.60, 0.36, 0.20], [0.55, 0.54, 0.53], [0.85, 0.84, 0.82]]
)  # fmt: skip
_STONES = ("marble", "plaster", "clay", "bronze", "wood", "terracotta")
# the MakeHuman head crops hold this part of the base mesh's texture square; v runs up
_CROP_U, _CROP_V = (0.63, 1.0), (0.14, 0.83)


class SkinImages:
    """Texture crops of a folder, read when first asked for and kept small."""

    def __init__(self, folder: Path) -> None:
        self._files = sorted(folder.expanduser().glob("*.jpg"))
        self._images: dict[Path, Array] = {}

    def draw(self, rng: np.random.Generator) -> Array | None:
        """One crop (H, W, 3), sRGB in [0, 1], float32; None from an empty folder."""
        if not self._files:
            return None
        file = self._files[int(rng.integers(len(self._files)))]
        if file not in self._images:
            image = cv2.imread(str(file))
            if image is None:
                raise InputError(f"{file}: cannot be read as an image. The skins folder holds .jpg crops of MakeHuman textures.")
            image = cv2.resize(image[..., ::-1], None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
            self._images[file] = image.astype(np.float32) / 255.0
        return self._images[file]


def _from_image(image: Array, uv: Array) -> tuple[Array, Array]:
    """Linear colours (N, 3) at `uv` (N, 2) and where (N,) there are any."""
    height, width = image.shape[:2]
    x = (uv[:, 0] - _CROP_U[0]) / (_CROP_U[1] - _CROP_U[0])
    y = 1.0 - (uv[:, 1] - _CROP_V[0]) / (_CROP_V[1] - _CROP_V[0])
    known = (x > 0) & (x < 1) & (y > 0) & (y < 1)
    at = np.stack([np.where(known, x, 0) * (width - 1), np.where(known, y, 0) * (height - 1)], 1).astype(np.float32)
    rows = -(-len(at) // 1024)  # cv2.remap wants a picture, no side over 32767
    padded = np.zeros((rows * 1024, 2), np.float32)
    padded[: len(at)] = at
    colors = cv2.remap(image, padded.reshape(rows, 1024, 2), None, cv2.INTER_LINEAR).reshape(-1, 3)[: len(at)]  # pyright: ignore
    return linear(colors), known


def draw_hair_color(rng: np.random.Generator) -> Array:
    """sRGB (3,): natural, rarely dyed."""
    if rng.random() < 0.05:
        return rng.uniform(0.05, 0.9, 3)
    return np.clip(_HAIRS[rng.integers(len(_HAIRS))] * rng.uniform(0.75, 1.25) * (1 + rng.normal(0, 0.04, 3)), 0.03, 0.95)


class Wardrobe:
    """What one pair's subject looks like; draws everything once, then answers for any hits.

    Args:
        subject: whose parts are coloured.
        rng: all choices come from it.
        image: sRGB skin texture (H, W, 3), or None.
        textured: False gives every part one flat colour.
    """

    def __init__(self, subject: Subject, rng: np.random.Generator, *, image: Array | None, textured: bool) -> None:
        self._subject, self._rng, self._textured = subject, rng, textured
        self._image = image if rng.random() < 0.65 else None
        self.stone = str(rng.choice(_STONES)) if rng.random() < 0.13 else ""
        self._look: dict[str, Any] = skin.draw_look(rng)
        self._gain = self._match_image(rng)
        self.hair_color = draw_hair_color(rng)
        self._look["hair"] = self.hair_color if rng.random() < 0.7 else self.hair_color * 0.6
        self.noise = Noise(rng)
        # a shirt painted on where no modelled clothes are: the neckline's height at the front
        dressed = "clothes" in subject.parts or rng.random() < 0.6
        self._neckline = float(rng.uniform(-0.85, -0.55)) if dressed else -10.0

    def _match_image(self, rng: np.random.Generator) -> Array:
        """Gain (3,) on the image's linear colours, part of the way to the drawn tone, which becomes what comes out."""
        if self._image is None:
            return np.ones(3, np.float32)
        inner = self._image[::8, ::8].reshape(-1, 3)
        typical = linear(np.median(inner[inner.sum(1) > 0.3], axis=0))  # black lies outside the skin in some
        gain = np.clip((linear(self._look["tone"]) / typical) ** rng.uniform(0, 0.7), 0.1, 4.0)
        self._look["tone"] = (typical * gain) ** (1 / 2.2)
        return gain.astype(np.float32)

    @property
    def tone(self) -> Array:
        """sRGB skin colour (3,), before any image."""
        return self._look["tone"]

    def shirt(self, points: Array) -> Array:
        """True (N,) where painted clothes cover the body."""
        rim = self._neckline + 0.25 * np.abs(points[:, 0]) - 0.25 * (points[:, 2] - 0.1)
        return points[:, 1] < np.minimum(rim, -0.42)

    def surface(self, seen: Seen) -> Surface:
        """Materials of the hits."""
        out = Surface.blank(len(seen.pixel))
        if self.stone:
            return self._stone(out, seen)
        shirt = (seen.part == BODY) & self.shirt(seen.points)
        for chosen, paint in (
            ((seen.part == BODY) & ~shirt, self._skin),
            (seen.part == EYES, self._eyes),
            (seen.part == HAIR, self._hair),
            ((seen.part == CLOTHES) | shirt, self._cloth),
        ):
            rows = np.flatnonzero(chosen)
            if len(rows):
                paint(out, rows, seen)
        return out

    def _skin(self, out: Surface, rows: Array, seen: Seen) -> None:
        p, look = seen.points[rows], self._look
        out.bleeding[rows], out.roughness[rows], out.gloss[rows] = 1.0, look["roughness"], look["gloss"]
        if not self._textured:
            out.albedo[rows] = linear(look["tone"])
            return
        base = None
        if self._image is not None and seen.uv is not None:
            base = np.tile(linear(look["tone"]), (len(rows), 1))
            colors, known = _from_image(self._image, np.nan_to_num(seen.uv[rows], nan=-1.0))
            base[known] = colors[known] * self._gain
        face = skin.Face(self._subject.landmarks)
        crown = float(self._subject.parts["body"].vertices[:, 1].max())
        color, hairs = skin.skin_color(p, face, look, self.noise, hair=look["hair"], crown=crown, base=base)
        if "eyes" in self._subject.parts:
            color *= 1 - look["lashes"] * self._lash_line(p)[:, None]
        out.albedo[rows] = color
        out.bump[rows] = self.noise.slopes(p, 45.0) * (look["bump"] * (1 + 1.5 * hairs[:, None]))
        out.relief[rows] = look["creases"] * self.noise.slopes(p, 11.0)
        wet = np.exp(-(((p - skin.Face(self._subject.landmarks).mouth()[0]) / (0.1, 0.045, 0.12)) ** 2).sum(1))
        out.roughness[rows] = np.clip(look["roughness"] * (1 + 0.15 * self.noise.values(p, 12.0)[:, 0]) - 0.15 * wet + 0.2 * hairs, 0.15, 1)

    def _lash_line(self, p: Array) -> Array:
        """Darkening (N,) of the lids' rims, where they touch the eyeballs."""
        eyes = self._subject.parts["eyes"].vertices
        near = np.zeros(len(p), np.float32)
        for sign in (1.0, -1.0):
            ball = eyes[sign * eyes[:, 0] > 0]
            if len(ball):
                centre, radius = (ball.min(0) + ball.max(0)) / 2, np.ptp(ball, axis=0).max() / 2
                off = np.linalg.norm(p - centre, axis=1) - radius
                near = np.maximum(near, smooth_step(off, 0.014, 0.003) * (p[:, 2] > centre[2]))
        return near

    def _eyes(self, out: Surface, rows: Array, seen: Seen) -> None:
        out.roughness[rows], out.gloss[rows] = 0.12, 0.04
        if self._textured:
            out.albedo[rows] = skin.eye_color(seen.points[rows], self._subject.parts["eyes"].vertices, self._rng)
        else:
            out.albedo[rows] = 0.6

    def _hair(self, out: Surface, rows: Array, seen: Seen) -> None:
        rng, p = self._rng, seen.points[rows]
        base = linear(self.hair_color)
        out.roughness[rows], out.gloss[rows] = 0.55, 0.02
        if not self._textured:
            out.albedo[rows] = base
            return
        across, slope_of_across, flow = _hair_flow(p, rng)
        across = across + 0.06 * self.noise.values(p, rng.uniform(1.5, 5.0))[:, 0]
        along = rng.uniform(0.5, 1.2) if rng.random() < 0.12 else rng.uniform(0.03, 0.15)  # tight curls, or strands
        color, slope = np.ones(len(p), np.float32), np.zeros((len(p), 3), np.float32)
        relief = slope
        contrast, height = rng.uniform(0.08, 0.4), rng.uniform(0.04, 0.3)
        for cells, weight in ((rng.uniform(9, 16), 0.5), (rng.uniform(25, 45), 0.8), (rng.uniform(60, 100), 0.7)):
            at = np.stack([across * cells, (p * flow).sum(1) * cells * along, (p @ (0.3, 0.2, 0.9)) * cells * 0.25], 1)
            fields, gradient = self.noise.stretched(at.astype(np.float32))
            color += contrast * weight * fields[:, 1]
            own = (height * weight * gradient[:, 0])[:, None] * slope_of_across
            if cells < 20:
                relief = own
            else:
                slope += own
            color += 0.5 * contrast * weight * fields[:, 0]  # dark between the strands that stand up
        roots = 1 - rng.uniform(0, 0.35) * smooth_step(self.noise.values(p, 3.0)[:, 1], 0, 2)
        out.albedo[rows] = np.clip(base * (np.clip(color, 0.15, 2.5) * roots)[:, None], 0.003, 0.95)
        out.bump[rows], out.relief[rows] = slope, relief
        out.strand[rows] = unit(flow - (flow * seen.normals[rows]).sum(1, keepdims=True) * seen.normals[rows] + 0.15 * slope)

    def _cloth(self, out: Surface, rows: Array, seen: Seen) -> None:
        rng, p = self._rng, seen.points[rows]
        color = linear(rng.uniform(0.03, 0.95, 3) if rng.random() < 0.6 else np.full(3, rng.uniform(0.03, 0.95)))
        out.roughness[rows], out.gloss[rows] = rng.uniform(0.5, 0.95), 0.02
        if not self._textured:
            out.albedo[rows] = color
            return
        other = linear(rng.uniform(0.03, 0.95, 3))
        kind, pitch = rng.choice(["plain", "stripes", "checks", "pattern"], p=[0.5, 0.2, 0.12, 0.18]), rng.uniform(15, 90)
        u, v = p[:, 0] + 0.02 * np.sin(9 * p[:, 1]), p[:, 1] + 0.1 * p[:, 2]
        if kind == "stripes":
            share = smooth_step(np.sin(pitch * (u if rng.random() < 0.5 else v)), -0.1, 0.1)
        elif kind == "checks":
            share = 0.5 * (np.sin(pitch * u) > 0) + 0.5 * (np.sin(pitch * v) > 0)
        elif kind == "pattern":
            share = smooth_step(self.noise.values(p, pitch / 6)[:, 2], 0.4, 0.6)
        else:
            share = np.zeros(len(p))
        weave = 1 + 0.08 * self.noise.values(p, 70.0)[:, :1] + 0.06 * self.noise.values(p, 4.0)[:, :1]
        out.albedo[rows] = np.clip((color + share[:, None] * (other - color)) * weave, 0.003, 0.95)
        out.bump[rows] = rng.uniform(0, 0.06) * self.noise.slopes(p, 55.0)
        out.relief[rows] = rng.uniform(0, 0.05) * self.noise.slopes(p, 6.0)

    def _stone(self, out: Surface, seen: Seen) -> Surface:
        """One material over skin, eyes, hair and clothes alike."""
        rng, p, kind = self._rng, seen.points, self.stone
        colors = {
            "marble": rng.uniform(0.72, 0.95) * np.array([1, 0.98, 0.94]), "plaster": np.full(3, rng.uniform(0.75, 0.95)),
            "clay": np.full(3, rng.uniform(0.3, 0.7)), "bronze": np.array([0.55, 0.38, 0.22]) * rng.uniform(0.5, 1.3),
            "wood": np.array([0.55, 0.38, 0.24]) * rng.uniform(0.6, 1.3),
            "terracotta": np.array([0.75, 0.45, 0.33]) * rng.uniform(0.7, 1.15),
        }  # fmt: skip
        base = linear(colors[kind] * (1 + rng.normal(0, 0.03, 3)))
        roughness = {"marble": (0.2, 0.6), "bronze": (0.2, 0.5), "wood": (0.3, 0.7)}.get(kind, (0.5, 0.95))
        out.roughness[:], out.gloss[:] = rng.uniform(*roughness), 0.04
        out.bleeding[:] = 0.4 if kind == "marble" else 0.0
        out.albedo[:] = base
        if not self._textured:
            return replace(out, metal=0.8 if kind == "bronze" else 0.0)
        mottled = self.noise.fractal(p, 4.0, 4)
        shade = 1 + rng.uniform(0, 0.15) * mottled[:, 0] + rng.uniform(0, 0.06) * self.noise.values(p, 60.0)[:, 0]
        color = base * shade[:, None]
        if kind == "marble" and rng.random() < 0.6:
            vein = smooth_step(np.abs(mottled[:, 1]), 0.14, 0.0) * smooth_step(mottled[:, 2], -0.5, 1.0) * rng.uniform(0.2, 0.8)
            color *= 1 - vein[:, None] * rng.uniform(0.3, 0.9, 3)
        if kind == "wood":
            rings = np.sin(rng.uniform(25, 70) * (np.hypot(p[:, 0], p[:, 2] + 0.6) + 0.05 * p[:, 1]) + 1.5 * mottled[:, 1])
            color *= (1 + 0.22 * rings)[:, None]
        if kind == "bronze" and rng.random() < 0.5:
            patina = smooth_step(mottled[:, 3], 0.5, 1.6)[:, None] * rng.uniform(0.3, 0.9)
            color += patina * (linear(np.array([0.30, 0.52, 0.45])) - color)
        out.albedo[:] = np.clip(color, 0.004, 0.95)
        out.bump[:] = (rng.uniform(0.0, 0.03) if rng.random() < 0.8 else rng.uniform(0.03, 0.1)) * self.noise.slopes(p, 50.0)
        out.relief[:] = rng.uniform(0.0, 0.05) * self.noise.slopes(p, 11.0)
        rows = np.flatnonzero(seen.part == HAIR)
        if len(rows):  # carved locks: all of their relief is the surface's own
            locks = Surface.blank(len(out.albedo))
            self._hair(locks, rows, seen)
            out.relief[rows] = (locks.relief + locks.bump)[rows]
        return replace(out, metal=0.8 if kind == "bronze" else 0.0)


def _hair_flow(p: Array, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """A coordinate (N,) across the strands, its gradient (N, 3), and the direction (N, 3) along them."""
    kind = rng.choice(["fall", "back", "aside", "slanted"], p=[0.5, 0.22, 0.13, 0.15])
    if kind == "fall":  # from the crown down, as hair hangs: the angle around the vertical axis tells strands apart
        x, z = p[:, 0] - rng.normal(0, 0.05), p[:, 2] + 0.1
        rho = np.maximum(np.hypot(x, z), 0.06)
        zero = np.zeros_like(x)
        gradient = np.stack([z / rho, zero, -x / rho], 1) * (0.5 / rho)[:, None]
        flow = np.stack([x / rho, -0.4 - rho / 0.4, z / rho], 1)
        return 0.5 * np.arctan2(x, z), gradient, unit(flow)
    across = {"back": [1.0, 0.1, 0.0], "aside": [0.0, 0.1, 1.0], "slanted": [*rng.normal(size=3)]}[str(kind)]
    along = {"back": [0.0, -0.4, -1.0], "aside": [rng.choice([-1.0, 1.0]), -0.5, 0.0], "slanted": [0.0, -1.0, -0.5]}[str(kind)]
    gradient = unit(np.array(across))
    flow = unit(np.array(along) - (np.array(along) @ gradient) * gradient)
    return p @ gradient, np.broadcast_to(gradient, p.shape), np.broadcast_to(flow, p.shape)

"""Procedural skin and eyes, evaluated per pixel from points of the head frame and the head's landmarks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from avatar_kit.heads.hair import AVERAGE_CROWN, HAIRLINE_AZIMUTH_DEG, HAIRLINE_HEIGHT, smooth_step
from avatar_kit.normals.noise import Noise
from avatar_kit.normals.surface import linear
from avatar_kit.types import Array

# sRGB from very light to very dark, with equal steps of how much light they return to the eye
_TONES = np.array(
    [[0.96, 0.83, 0.76], [0.91, 0.74, 0.64], [0.84, 0.64, 0.52], [0.74, 0.54, 0.41],
     [0.60, 0.41, 0.30], [0.45, 0.30, 0.22], [0.30, 0.20, 0.15]]
)  # fmt: skip
_IRISES = np.array([[0.25, 0.14, 0.07], [0.36, 0.22, 0.10], [0.30, 0.42, 0.55], [0.42, 0.48, 0.50], [0.33, 0.40, 0.24], [0.12, 0.08, 0.06]])
_LIP = np.array([0.80, 0.48, 0.46])


def skin_tone(rng: np.random.Generator) -> Array:
    """A base colour (3,), sRGB, all tones alike often, a little redder, yellower or paler."""
    position = rng.uniform(0, len(_TONES) - 1)
    low = min(int(position), len(_TONES) - 2)
    tone = _TONES[low] + (position - low) * (_TONES[low + 1] - _TONES[low])
    return np.clip(tone * (1 + rng.normal(0, 0.03, 3)) * rng.uniform(0.93, 1.05), 0.08, 0.98)


@dataclass(frozen=True)
class Face:
    """Where the features lie (head frame, units), from the landmarks."""

    landmarks: dict[str, Array]

    def eye(self, side: str) -> tuple[Array, Array]:
        """Inner and outer corner, (3,) each, of the "left" or "right" eye."""
        return self.landmarks[f"eye_{side}_inner"], self.landmarks[f"eye_{side}_outer"]

    def mouth(self) -> tuple[Array, float]:
        """Centre (3,) and half width."""
        left, right = self.landmarks["mouth_left"], self.landmarks["mouth_right"]
        return (left + right) / 2, float(np.linalg.norm(left - right)) / 2


def above_hairline(points: Array, crown: float) -> Array:
    """How far (N,) `points` lie above where hair grows from, in units; negative on the face and neck."""
    azimuth = np.degrees(np.arctan2(np.abs(points[:, 0]), points[:, 2] - 0.02))
    return points[:, 1] - np.interp(azimuth, HAIRLINE_AZIMUTH_DEG, HAIRLINE_HEIGHT + (crown - AVERAGE_CROWN) * 0.6)


def _brows(p: Array, face: Face, noise: Array, look: dict[str, Any]) -> Array:
    """Cover (N,) by eyebrows: an arc over each eye, dense inside and thinning outwards."""
    cover = np.zeros(len(p), np.float32)
    for side in ("left", "right"):
        inner, outer = face.eye(side)
        width = np.linalg.norm(outer[:2] - inner[:2])
        sign = 1.0 if side == "left" else -1.0
        t = (sign * (p[:, 0] - inner[0]) + 0.30 * width) / (1.5 * width)
        arch = (
            look["brow_height"] + look["brow_arch"] * np.sin(np.pi * np.clip(t, 0, 1) * 0.75) - look["brow_drop"] * np.clip(t - 0.6, 0, 1)
        )
        off = (p[:, 1] - inner[1] - arch) / (look["brow_width"] * (1.15 - 0.75 * np.clip(t, 0, 1)))
        along = smooth_step(t, -0.06, 0.06) * smooth_step(t, 1.05, 0.9)
        cover = np.maximum(cover, along * smooth_step(np.abs(off) + 0.25 * noise, 1.2, 0.5))
    return cover * (p[:, 2] > 0.3) * look["brow_strength"]


def _lips(p: Array, face: Face, noise: Array) -> Array:
    """Cover (N,) by the lips, and the dark line between them."""
    centre, half = face.mouth()
    x = (p[:, 0] - centre[0]) / (half * 1.02)
    y = p[:, 1] - centre[1]
    taper = np.sqrt(np.clip(1 - x * x, 0, 1))
    upper = half * (0.34 * taper - 0.07 * np.exp(-((x / 0.16) ** 2)))
    lower = half * 0.46 * taper
    reach = np.where(y > 0, y / np.maximum(upper, 1e-4), -y / np.maximum(lower, 1e-4))
    return smooth_step(reach + 0.06 * noise, 1.1, 0.85) * (np.abs(x) < 1) * (p[:, 2] > centre[2] - 0.1)


def _beard(p: Array, face: Face, noise: Array) -> Array:
    """Where a beard grows (N,): jaw, chin, upper lip, sideburns and throat."""
    centre, half = face.mouth()
    nose = face.landmarks["subnasale"]
    side = np.abs(p[:, 0])
    # the upper edge runs from the corner of the mouth up to the ear
    edge = np.where(side < half * 1.1, nose[1] - 0.005, centre[1] + 0.02 + 1.3 * np.clip(side - half * 1.1, 0, 0.3))
    jaw = smooth_step(edge - p[:, 1] + 0.02 * noise, -0.01, 0.05)
    throat = smooth_step(p[:, 1] - centre[1] + 0.34 + 0.03 * noise, -0.05, 0.05)
    return jaw * throat * smooth_step(p[:, 2], 0.0, 0.12)


def draw_look(rng: np.random.Generator) -> dict[str, Any]:
    """The choices that make one face differ from another in colour."""
    tone = skin_tone(rng)
    hairy = rng.random()
    lip = _LIP * tone ** rng.uniform(0.3, 1.2) * rng.uniform(0.8, 1.1)
    if rng.random() < 0.2:  # lipstick
        lip = rng.uniform([0.4, 0, 0.05], [0.85, 0.3, 0.4])
    return {
        "tone": tone,
        "hair": None,
        "blotches": rng.uniform(0.02, 0.12), "pores": rng.uniform(0.01, 0.08), "redness": rng.uniform(0, 0.35),
        "freckles": rng.uniform(0.2, 0.8) if rng.random() < 0.12 else 0.0,
        "moles": rng.random() < 0.4,
        "brow_height": rng.uniform(0.065, 0.1), "brow_arch": rng.uniform(0.005, 0.035), "brow_drop": rng.uniform(0.0, 0.06),
        "brow_width": rng.uniform(0.012, 0.03), "brow_strength": rng.choice([0.2, 0.6, 0.85, 0.95]),
        "lip_color": lip,
        "lip_strength": rng.uniform(0.25, 0.95),
        "beard": rng.uniform(0.1, 0.9) if hairy < 0.3 else 0.0, "stubble": rng.uniform(0.0, 0.2),
        "scalp": rng.uniform(0.3, 0.95) if rng.random() < 0.45 else 0.0,
        "shadow": rng.uniform(0, 0.6) if rng.random() < 0.3 else 0.0,
        "lashes": rng.uniform(0.2, 0.95),
        "shadow_color": rng.uniform(0.05, 0.7, 3) if rng.random() < 0.5 else tone * 0.5,
        "roughness": rng.uniform(0.33, 0.7), "gloss": rng.uniform(0.015, 0.06),
        "bump": rng.uniform(0.0, 0.035), "creases": rng.uniform(0.0, 0.035),
    }  # fmt: skip


def skin_color(
    p: Array, face: Face, look: dict[str, Any], noise: Noise, *, hair: Array, crown: float, base: Array | None
) -> tuple[Array, Array]:
    """Linear albedo (N, 3) of skin at `p` (N, 3), and how hairy (N,) it is there.

    Args:
        look: from `draw_look`.
        hair: sRGB colour (3,) of brows, beard and stubble.
        base: linear colours (N, 3) of an image to start from, or None for the tone with blotches.
    """
    coarse, fine = noise.fractal(p, 5.0, 3), noise.values(p, 42.0)
    tiny = noise.values(p, 110.0)
    tone = linear(look["tone"])
    if base is None:
        color = tone * (1 + look["blotches"] * coarse[:, :1] + look["pores"] * (fine[:, :1] + tiny[:, :1]))
        color = color * (1 + look["redness"] * 0.25 * coarse[:, 1:2] * np.array([0.3, -0.5, -0.4]))
        color = _flush(color, p, face, look["redness"])
    else:
        color = base
    if look["freckles"]:
        middle = np.exp(-(((p - face.landmarks["nose_tip"]) / (0.3, 0.22, 0.3)) ** 2).sum(1))
        spots = smooth_step(noise.values(p, 26.0)[:, 2] + 0.6 * coarse[:, 2], 1.0, 1.7) * (0.3 + middle)
        color = color * (1 - look["freckles"] * np.clip(spots, 0, 1)[:, None] * (0.35, 0.5, 0.6))
    if look["moles"]:
        color = color * (1 - 0.75 * smooth_step(noise.values(p, 9.0)[:, 3], 2.75, 2.9)[:, None])
    lips = _lips(p, face, fine[:, 1]) * look["lip_strength"] * (0.25 if base is not None else 1.0)
    color = color + lips[:, None] * (linear(look["lip_color"]) - color)
    for side in ("left", "right"):
        inner, outer = face.eye(side)
        middle = (inner + outer) / 2 + (0, 0.035, 0)
        lid = np.exp(-(((p - middle) / (0.085, 0.035, 0.1)) ** 2).sum(1)) * look["shadow"]
        color = color + lid[:, None] * (linear(look["shadow_color"]) - color)
    stubble = 0.85 + look["stubble"] * (fine[:, 2] + tiny[:, 2])
    beard = _beard(p, face, coarse[:, 3] + fine[:, 3]) * look["beard"] * (1 - _lips(p, face, fine[:, 1]))
    scalp = smooth_step(above_hairline(p, crown) + 0.02 * fine[:, 0], -0.01, 0.06) * look["scalp"]
    hairs = np.maximum(beard, scalp) * np.clip(stubble, 0.1, 1)
    hairs = np.maximum(hairs, _brows(p, face, fine[:, 3] + 0.7 * tiny[:, 3], look))
    hairs = np.clip(hairs, 0, 1).astype(np.float32)
    color = color + hairs[:, None] * (linear(hair) - color)
    return np.clip(color, 0.004, 0.95).astype(np.float32), hairs


def _flush(color: Array, p: Array, face: Face, redness: float) -> Array:
    """More blood in the nose, the cheeks and the ears; darker round the eyes."""
    red = np.exp(-(((p - face.landmarks["nose_tip"] - (0, 0.01, 0)) / (0.08, 0.07, 0.12)) ** 2).sum(1))
    cheek = np.stack([np.abs(p[:, 0]) - 0.23, p[:, 1] - 0.01, p[:, 2] - 0.42], 1)
    red = red + 0.8 * np.exp(-((cheek / (0.1, 0.1, 0.15)) ** 2).sum(1))
    red = red + 0.9 * smooth_step(np.abs(p[:, 0]), 0.36, 0.44) * smooth_step(np.abs(p[:, 1] - 0.1), 0.22, 0.12)
    dark = np.zeros(len(p))
    for side in ("left", "right"):
        inner, outer = face.eye(side)
        dark = dark + np.exp(-(((p - (inner + outer) / 2 + (0, 0.03, 0)) / (0.1, 0.06, 0.12)) ** 2).sum(1))
    tint = 1 + (redness * np.clip(red, 0, 1.2))[:, None] * np.array([0.12, -0.35, -0.3])
    return color * tint * (1 - 0.35 * redness * np.clip(dark, 0, 1)[:, None] * np.array([0.6, 1.0, 0.8]))


def eye_color(p: Array, eyes: Array, rng: np.random.Generator) -> Array:
    """Linear albedo (N, 3) of eyeballs whose vertices are `eyes` (V, 3): sclera, veins, iris with its rim, pupil."""
    iris = linear(np.clip(_IRISES[rng.integers(len(_IRISES))] * rng.uniform(0.7, 1.3), 0, 1))
    white = linear(np.array([0.95, 0.93, 0.91]) * rng.uniform(0.88, 1.0))
    gaze = np.array([rng.normal(0, 0.14), rng.normal(0, 0.08), 1.0])
    gaze /= np.linalg.norm(gaze)
    pupil = rng.uniform(0.17, 0.30)
    color = np.tile(white, (len(p), 1)).astype(np.float32)
    noise = Noise(rng)
    for sign in (1.0, -1.0):
        mine = sign * p[:, 0] > 0
        ball = eyes[sign * eyes[:, 0] > 0]
        if not mine.any() or len(ball) == 0:
            continue
        centre = (ball.min(0) + ball.max(0)) / 2
        angle = np.arccos(np.clip(((p[mine] - centre) / np.linalg.norm(p[mine] - centre, axis=1, keepdims=True)) @ gaze, -1, 1))
        texture = noise.values(p[mine], 60.0)[:, :1]
        ring = smooth_step(angle, 0.56, 0.50)[:, None]
        inside = iris * (1 + 0.35 * texture) * (1 - 0.6 * smooth_step(angle, 0.40, 0.52)[:, None])
        own = color[mine] * (1 - 0.05 * np.abs(texture) * (0.2, 1, 1)) * (1 - 0.3 * smooth_step(angle, 0.7, 1.3)[:, None] * (0.4, 1, 1))
        own = own + ring * (inside - own)
        own = own * (1 - 0.97 * smooth_step(angle, pupil + 0.03, pupil - 0.03)[:, None])
        color[mine] = own
    return np.clip(color, 0.002, 0.95)

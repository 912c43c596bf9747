"""What lies behind the subject: (S, S, 3) sRGB pictures from plain studio walls to blurred clutter."""

from __future__ import annotations

import cv2
import numpy as np

from avatar_kit.types import Array

KINDS = ("plain", "gradient", "clutter", "noise", "stripes", "shapes", "white", "black", "skin")
_ODDS = (0.20, 0.16, 0.32, 0.07, 0.04, 0.10, 0.04, 0.03, 0.04)


def draw_backdrop(size: int, skin: Array, rng: np.random.Generator) -> tuple[Array, str]:
    """A backdrop and its kind; `skin` (3,) is the sRGB colour that the nastiest kind resembles."""
    kind = str(rng.choice(KINDS, p=_ODDS))
    low = _color(rng)
    picture = np.broadcast_to(low, (size, size, 3)).astype(np.float32).copy()
    if kind in ("plain", "gradient"):
        picture = _gradient(size, low, low * rng.uniform(0.4, 1.5) if kind == "plain" else _color(rng), rng)
    elif kind == "white":
        picture[:] = rng.uniform(0.93, 1.0)
    elif kind == "black":
        picture[:] = rng.uniform(0.0, 0.06)
    elif kind == "skin":
        picture = _gradient(size, skin * rng.uniform(0.6, 1.2), skin * rng.uniform(0.5, 1.1), rng) + 0.06 * _noise(size, 6, rng)
    elif kind == "noise":
        mixing = np.ones((3, 3), np.float32) / 3 + rng.uniform(0, 0.4) * np.eye(3, dtype=np.float32)
        total = sum((_noise(size, cells, rng) @ mixing / cells**0.5 for cells in (3, 6, 12, 24, 48)), np.zeros((1, 1, 1), np.float32))
        picture = low + rng.uniform(0.1, 0.4) * total
    elif kind == "stripes":
        x, y = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size))
        turn = rng.uniform(0, np.pi)
        wave = np.sin(rng.uniform(15, 120) * (np.cos(turn) * x + np.sin(turn) * y))[..., None]
        picture = low + (_color(rng) - low) * (wave > 0)
    else:
        picture = _clutter(size, rng, count=int(rng.integers(15, 60)) if kind == "clutter" else int(rng.integers(3, 9)))
    if kind in ("clutter", "shapes", "stripes") and rng.random() < 0.8:  # out of focus
        picture = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), size * float(np.exp(rng.uniform(np.log(0.004), np.log(0.05)))))
    if rng.random() < 0.12:  # plaster, cloth
        picture = picture + rng.uniform(0.005, 0.03) * _noise(size, min(96, size // 2), rng)[..., :1]
    return np.clip(picture, 0, 1).astype(np.float32), kind


def _color(rng: np.random.Generator) -> Array:
    """Mostly muted."""
    grey = rng.uniform(0.03, 0.97)
    return np.clip(grey + rng.normal(0, 0.06 if rng.random() < 0.6 else 0.3, 3), 0, 1)


def _gradient(size: int, a: Array, b: Array, rng: np.random.Generator) -> Array:
    x, y = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size))
    turn = rng.uniform(0, 2 * np.pi)
    share = (
        0.5 + 0.5 * (np.cos(turn) * x + np.sin(turn) * y)
        if rng.random() < 0.6
        else np.hypot(x - rng.normal(0, 0.3), y - rng.normal(0, 0.3)) / 1.4
    )
    return (a + (b - a) * np.clip(share, 0, 1)[..., None]).astype(np.float32)


def _noise(size: int, cells: int, rng: np.random.Generator) -> Array:
    return cv2.resize(rng.standard_normal((cells, cells, 3)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)


def _clutter(size: int, rng: np.random.Generator, count: int) -> Array:
    """Rectangles, ellipses, lines and soft lights, far to near."""
    picture = _gradient(size, _color(rng), _color(rng), rng)
    for _ in range(count):
        centre = rng.uniform(-0.1, 1.1, 2) * size
        half = np.exp(rng.uniform(np.log(0.02), np.log(0.35), 2)) * size
        color = _color(rng).tolist()
        kind = rng.random()
        if kind < 0.45:
            box = cv2.boxPoints((centre.tolist(), half.tolist(), float(rng.choice([0.0, rng.uniform(0, 180)]))))
            cv2.fillConvexPoly(picture, box.astype(np.int32), color, cv2.LINE_AA)
        elif kind < 0.8:
            axes = (int(half[0] / 2) + 1, int(half[1] / 2) + 1)
            cv2.ellipse(picture, (int(centre[0]), int(centre[1])), axes, rng.uniform(0, 180), 0, 360, color, -1, cv2.LINE_AA)
        else:
            end = centre + rng.normal(0, 0.4, 2) * size
            cv2.line(
                picture, centre.astype(int).tolist(), end.astype(int).tolist(), color, int(rng.integers(1, 2 + size // 40)), cv2.LINE_AA
            )
        if rng.random() < 0.1:
            picture = cv2.GaussianBlur(picture, (0, 0), size * 0.01)
    return picture + 0.02 * _noise(size, 12, rng)

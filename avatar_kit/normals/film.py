"""What a camera and its software do to a picture: exposure, colour, blur, noise, scaling, JPEG."""

from __future__ import annotations

import cv2
import numpy as np

from avatar_kit.types import Array


def expose(radiance: Array, rng: np.random.Generator) -> Array:
    """Linear light of the hits (N, 3) to display values in [0, 1]: metered half on the subject, with a soft shoulder.

    Metering only half keeps dark skin dark and pale skin pale.
    """
    luminance = float(np.mean(np.clip(radiance @ (0.21, 0.72, 0.07), 0, 2))) if len(radiance) else 0.2
    gain = 0.24 * (max(luminance, 1e-3) / 0.24) ** 0.35 / max(luminance, 1e-3) * np.exp(rng.normal(0, 0.28))
    exposed = np.clip(radiance * gain, 0, None)
    knee = 0.65
    over = np.clip(exposed - knee, 0, None)
    exposed = np.where(exposed > knee, knee + (1 - knee) * (1 - np.exp(-over / (1 - knee))), exposed)
    return (exposed ** (1 / 2.2)).astype(np.float32)


def develop(image: Array, rng: np.random.Generator) -> Array:
    """Colour, lens, sensor and file effects on a picture (S, S, 3) in [0, 1]; each is there only sometimes."""
    size = image.shape[0]
    image = image * (1 + rng.normal(0, 0.05, 3)).astype(np.float32)
    if rng.random() < 0.6:
        image = 0.5 + (image - 0.5) * rng.uniform(0.75, 1.3) + rng.normal(0, 0.03)
    image = np.clip(image, 0, 1) ** np.float32(np.exp(rng.normal(0, 0.12)))
    grey = image @ np.array([0.3, 0.59, 0.11], np.float32)
    saturation = 0.0 if rng.random() < 0.05 else rng.uniform(0.6, 1.35)
    image = grey[..., None] + (image - grey[..., None]) * np.float32(saturation)
    if rng.random() < 0.3:
        x = np.linspace(-1, 1, size, dtype=np.float32) ** 2
        image = image * (1 - rng.uniform(0.05, 0.35) * (x[:, None] + x[None]) / 2)[..., None]
    image = _blurred(image, rng)
    if rng.random() < 0.85:
        shot, read = rng.uniform(0, 0.025), rng.uniform(0, 0.01) if rng.random() < 0.88 else rng.uniform(0.01, 0.04)
        sigma = np.sqrt(shot**2 * np.clip(image, 0, 1) + read**2)
        grain = rng.standard_normal(image.shape, np.float32)
        if rng.random() < 0.3:  # noise that a denoiser or scaling has left blotchy
            grain = cv2.GaussianBlur(grain, (0, 0), 0.8) * 2.0
        image = image + sigma * grain
    image = np.clip(image, 0, 1).astype(np.float32)
    if rng.random() < 0.2:
        small = max(24, int(size * rng.uniform(0.4, 0.9)))
        small_image = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
        image = cv2.resize(small_image, (size, size), interpolation=int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC])))
    if rng.random() < 0.15:
        image = image + rng.uniform(0.3, 1.2) * (image - cv2.GaussianBlur(image, (0, 0), 1.0))
    if rng.random() < 0.6:
        return _jpeg(image, int(rng.integers(35, 98)))
    return np.clip(image, 0, 1).astype(np.float32)


def _blurred(image: Array, rng: np.random.Generator) -> Array:
    size, draw = image.shape[0], rng.random()
    if draw < 0.35:
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 1.1) * size / 128)
    if draw < 0.43:
        length = int(rng.integers(3, max(4, size // 24)))
        kernel = np.zeros((length, length), np.float32)
        turn = rng.uniform(0, np.pi)
        for t in np.linspace(-0.5, 0.5, 4 * length):
            kernel[round((length - 1) * (0.5 + t * np.sin(turn))), round((length - 1) * (0.5 + t * np.cos(turn)))] += 1
        return cv2.filter2D(image, -1, kernel / kernel.sum())
    return image


def _jpeg(image: Array, quality: int) -> Array:
    codes = np.round(np.clip(image, 0, 1)[..., ::-1] * 255).astype(np.uint8)
    _, data = cv2.imencode(".jpg", codes, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded[..., ::-1].astype(np.float32) / 255.0

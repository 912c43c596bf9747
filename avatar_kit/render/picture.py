"""Pictures for people: normals, clay or colours, with smooth outlines."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from avatar_kit.render.renderer import Renderer, Rendering
from avatar_kit.scene.cameras import resized
from avatar_kit.types import Array, Camera

_LIGHT_CAM = np.array([-0.35, -0.45, -0.82])  # from behind the camera's left shoulder


def normal_picture(normals: Array) -> Array:
    """Camera-frame normals (H, W, 3) as the usual colours: right red, up green, towards the camera blue; white for none."""
    known = np.linalg.norm(normals, axis=-1, keepdims=True) > 0.5
    return np.where(known, (normals * (1, -1, -1) + 1) / 2, 1.0)


def clay(seen: Rendering) -> Array:
    """The shape in one grey under one light, (H, W, 3); white where there is nothing."""
    light = np.clip(seen.normals @ (_LIGHT_CAM / np.linalg.norm(_LIGHT_CAM)), 0, None)
    grey = 0.25 + 0.65 * light
    return np.where(seen.mask, grey, 1.0)[..., None].repeat(3, axis=-1)


def color_picture(seen: Rendering) -> Array:
    """The mesh's own colours (H, W, 3), clay where it has none; white where there is nothing."""
    return clay(seen) if seen.colors is None else np.where(seen.mask[..., None], seen.colors, 1.0)


SHADINGS = {"clay": clay, "normals": lambda seen: normal_picture(seen.normals), "colors": color_picture}


def picture(renderer: Renderer, camera: Camera, shading: str = "clay", *, samples: int = 2) -> Array:
    """sRGB and coverage (H, W, 4) in [0, 1], each pixel the mean of `samples` x `samples` rays: outlines are antialiased.

    Colours are those of the covered part alone (not multiplied by the coverage).

    Args:
        shading: of `SHADINGS`.
    """
    return pictures(renderer, camera, (shading,), samples=samples)[0]


def pictures(renderer: Renderer, camera: Camera, shadings: Sequence[str], *, samples: int = 2) -> list[Array]:
    """One `picture` in each of several shadings, from the same rays."""
    seen = renderer.render(resized(camera, camera.width * samples, camera.height * samples))
    blocks = (camera.height, samples, camera.width, samples)
    count = seen.mask.reshape(blocks).astype(float).sum((1, 3))
    found = []
    for shading in shadings:
        colors = (SHADINGS[shading](seen) * seen.mask[..., None]).reshape(*blocks, 3).sum((1, 3))
        found.append(np.concatenate([colors / np.maximum(count, 1)[..., None], count[..., None] / samples**2], axis=-1))
    return found


def on_white(rgba: Array) -> Array:
    """A picture with coverage (H, W, 4) over white, (H, W, 3)."""
    return rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]


def in_square(tile: Array, size: int) -> Array:
    """A picture (H, W, 3) of at most `size` pixels in the middle of a white square, (size, size, 3)."""
    out = np.ones((size, size, 3))
    height, width = tile.shape[:2]
    top, left = (size - height) // 2, (size - width) // 2
    out[top : top + height, left : left + width] = tile
    return out


def png(image: Image.Image) -> bytes:
    """The file's content."""
    packed = io.BytesIO()
    image.save(packed, "PNG")
    return packed.getvalue()

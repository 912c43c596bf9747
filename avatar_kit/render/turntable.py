"""A head that turns: an animated picture, or the same views in a strip."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from avatar_kit.render.picture import on_white, picture
from avatar_kit.render.renderer import Renderer
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.types import Array, InputError

_FORMATS = (".gif", ".webp", ".png")
_MARGIN = 1.15  # of the picture's side against the mesh's
_DISTANCE = 4.0  # of the camera, in radii of the mesh


def frames(renderer: Renderer, *, count: int, size: int, shading: str = "clay", pitch_deg: float = 0.0) -> Iterator[Array]:
    """`count` pictures (size, size, 3) around a mesh in the head frame (+y up, face towards +z), the first from its front."""
    low, high = renderer.mesh.vertices.min(0), renderer.mesh.vertices.max(0)
    middle, radius = (low + high) / 2, float(np.linalg.norm(renderer.mesh.vertices - (low + high) / 2, axis=1).max())
    focal = size / 2 * float(np.sqrt(_DISTANCE**2 - 1)) / _MARGIN
    for yaw in np.arange(count) * 360.0 / count:
        camera = orbit_camera(yaw_deg=yaw, pitch_deg=pitch_deg, distance=_DISTANCE * radius, target=middle, focal_px=focal, size=size)
        yield on_white(picture(renderer, camera, shading))


def write_turntable(
    file: Path, renderer: Renderer, *, count: int = 36, size: int = 384, shading: str = "clay", seconds: float = 3.0
) -> None:
    """Write the turning head as an animation (.gif, .webp) of `seconds` a turn, or as a strip of its views (.png).

    Raises:
        InputError: another kind of file.
    """
    if file.suffix.lower() not in _FORMATS:
        raise InputError(f"{file}: cannot be written. A turntable is {', '.join(_FORMATS[:-1])} (moving) or {_FORMATS[-1]} (a strip).")
    views = [Image.fromarray(np.round(view * 255).astype(np.uint8)) for view in frames(renderer, count=count, size=size, shading=shading)]
    part = file.with_name(f"{file.stem}.part{file.suffix}")
    if file.suffix.lower() == ".png":
        Image.fromarray(np.concatenate([np.asarray(view) for view in views], axis=1)).save(part)
    else:
        views[0].save(part, save_all=True, append_images=views[1:], duration=round(1000 * seconds / count), loop=0, quality=85)
    os.replace(part, file)

"""Photos without a truth: nothing to score, so pictures to look at, a row for each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from avatar_kit.config import PLAIN_PRESETS, Config
from avatar_kit.normals.estimator import Estimator
from avatar_kit.normals.storage import load_estimator
from avatar_kit.photos.scene import scene_from_photos
from avatar_kit.prior.storage import HeadPrior
from avatar_kit.recon.pipeline import Reconstruction, reconstruct
from avatar_kit.render.picture import in_square, normal_picture, on_white, picture
from avatar_kit.render.renderer import Renderer
from avatar_kit.scene.cameras import orbit_camera, resized
from avatar_kit.score.datasets import Subject
from avatar_kit.score.fingerprint import fingerprint
from avatar_kit.types import Array

TILE_PX = 192
_YAWS_DEG = (0, 40, 90)


class PhotoShower:
    """Reconstructs a plain photo and keeps its row of the montage, `out`/NAME.png.

    Args:
        config: by default that of the preset in `config.PLAIN_PRESETS`.
        normal_net: "default" or a file.
        settings: others of `recon.pipeline.reconstruct`.
    """

    def __init__(self, prior: HeadPrior, out: Path, *, config: Config | None = None, normal_net: str = "default", **settings: Any) -> None:
        self._prior, self._out, self._settings, self._normal_net = prior, out, settings, normal_net
        self._config = config or PLAIN_PRESETS[settings.get("preset", "fast")]
        self._net: Estimator = load_estimator(None if normal_net == "default" else Path(normal_net), device=settings["device"])

    @property
    def fingerprint(self) -> str:
        """Of what a picture depends on besides the subject and the seed."""
        return fingerprint(self._prior, self._config, normal_net=self._normal_net, device=self._settings["device"])

    def __call__(self, subject: Subject, view_ids: list[int]) -> dict[str, Any]:
        """{"scores": {}, "seconds", "normals", "notes"}.

        Raises:
            InputError: no head in the photo.
        """
        plain = scene_from_photos(subject.folder, self._net)
        result = reconstruct(plain.scene, prior=self._prior, config=self._config, normal_net=None, **self._settings)
        self._out.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.round(row(result) * 255).astype(np.uint8)).save(self._out / f"{subject.name}.png", optimize=True)
        seconds = {name: round(value, 3) for name, value in result.seconds.items()}
        return {"view_ids": view_ids, "scores": {}, "seconds": seconds, "normals": result.normals, "notes": plain.understood[0].notes}


def row(result: Reconstruction) -> Array:
    """The photo, its normals, the shape and the colours through its camera, and the shape from other sides, (S, 7 S, 3)."""
    photo = result.scene.photos[0]
    scale = TILE_PX / max(photo.mask.shape)
    size = (max(1, round(photo.camera.width * scale)), max(1, round(photo.camera.height * scale)))
    camera, avatar = resized(photo.camera, *size), Renderer(result.avatar)
    assert photo.normals is not None
    pictures = (photo.image, normal_picture(photo.normals).astype(np.float32))
    tiles = [cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in pictures]
    tiles += [on_white(picture(result.renderer, camera, "clay")), on_white(picture(avatar, camera, "colors"))]
    upright = Renderer(result.mesh.transformed(result.fitted.head_from_world))
    for yaw in _YAWS_DEG:
        around = orbit_camera(yaw_deg=yaw, pitch_deg=0, distance=5.0, target=np.zeros(3), focal_px=2.2 * TILE_PX, size=TILE_PX)
        tiles.append(on_white(picture(upright, around, "clay")))
    return np.concatenate([in_square(tile, TILE_PX) for tile in tiles], axis=1)


def montage(rows: Path, names: Iterable[str]) -> Image.Image | None:
    """The rows of these subjects in a folder, one under another; None where there are none."""
    files = [file for name in sorted(names) if (file := rows / f"{name}.png").is_file()]
    if not files:
        return None
    return Image.fromarray(np.concatenate([np.asarray(Image.open(file).convert("RGB")) for file in files]))

"""What was made of plain photos, to be looked at before minutes are spent: photos.json and photos.png."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw

from avatar_kit.conventions import MM_PER_UNIT
from avatar_kit.photos.scene import PlainScene
from avatar_kit.photos.understand import Understood
from avatar_kit.render.picture import in_square, normal_picture, picture
from avatar_kit.render.renderer import Renderer
from avatar_kit.scene.cameras import resized
from avatar_kit.types import Mesh

_TILE_PX = 288
_EDGE = (0.1, 0.9, 0.2)
_LINE_PX = 44  # of the text below a photo


def estimates(plain: PlainScene) -> dict[str, Any]:
    """The content of photos.json: every estimate with its confidence, and which photos are left out and why."""
    photos = [
        {
            "name": seen.name,
            "yaw_deg": round(seen.yaw_deg, 1), "pitch_deg": round(seen.pitch_deg, 1), "roll_deg": round(seen.roll_deg, 1),
            "distance_mm": round(seen.distance_mm), "agreement": round(seen.agreement, 3),
            "focal_px": round(seen.focal_px, 1), "focal_source": seen.focal_source,
            "people": seen.people, "head": {"left": seen.crop.left, "top": seen.crop.top, "side": seen.crop.side},
            "intrinsics": seen.photo.camera.intrinsics.tolist(), "world_from_camera": seen.photo.camera.world_from_camera.tolist(),
            "size": [seen.photo.camera.width, seen.photo.camera.height], "notes": seen.notes,
        }
        for seen in plain.understood
    ]  # fmt: skip
    return {"world": "head frame, mm", "photos": photos, "left_out": plain.left_out, "notes": plain.notes}


def contact_sheet(plain: PlainScene, mean_head: Mesh) -> Image.Image:
    """A column a photo: with the mask's edge, its normals, and the mean head as the estimated camera sees it.

    Args:
        mean_head: in the head frame, units.
    """
    renderer = Renderer(mean_head.transformed(np.diag([MM_PER_UNIT] * 3 + [1.0])))
    columns = [_column(seen, renderer) for seen in plain.understood]
    sheet = Image.fromarray(np.round(np.clip(np.concatenate(columns, axis=1), 0, 1) * 255).astype(np.uint8))
    draw = ImageDraw.Draw(sheet)
    for number, seen in enumerate(plain.understood):
        angles = f"yaw {seen.yaw_deg:+.0f}, pitch {seen.pitch_deg:+.0f}, roll {seen.roll_deg:+.0f} deg"
        text = f"{seen.name}\n{angles}; {seen.distance_mm / 10:.0f} cm"
        draw.multiline_text((number * _TILE_PX + 6, _TILE_PX + 6), text, fill="black")
    return sheet


def _column(seen: Understood, renderer: Renderer) -> np.ndarray:
    photo = seen.photo
    scale = _TILE_PX / max(photo.mask.shape)
    size = (max(1, round(photo.camera.width * scale)), max(1, round(photo.camera.height * scale)))
    image = cv2.resize(photo.image, size, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(photo.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    edge = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0
    marked = np.where(edge[..., None], _EDGE, image)
    assert photo.normals is not None
    normals = cv2.resize(normal_picture(photo.normals).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    head = picture(renderer, resized(photo.camera, *size), "clay", samples=1)
    over = image + head[..., 3:] * 0.65 * (head[..., :3] - image)
    text = np.ones((_LINE_PX, _TILE_PX, 3))
    return np.concatenate([in_square(marked, _TILE_PX), text, in_square(normals, _TILE_PX), in_square(over, _TILE_PX)])

"""Bodies that the mask of one photo has lost and other photos show: such a photo ends at the neck.

A microphone or a dark suit before a dark crowd leaves a collar of the body; outlines of three photos that are to agree would cut the
body off in all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from avatar_kit.conventions import MM_PER_UNIT
from avatar_kit.normals.crop import NECK
from avatar_kit.photos.standing import neck_row
from avatar_kit.photos.understand import Understood
from avatar_kit.types import Array, Photo

_ACROSS_MM, _BELOW_MM, _BACK_MM = (-60, -30, 0, 30, 60), (30, 50, 70, 90, 110, 130), 40.0  # from the neck: inside any body
_LOST = 0.5  # of these points on the mask: less, and it lacks the body
_SHOWN = 0.95  # ... and from here on it has it; busts that end there have less in every photo
_FEWEST = 5  # of the points that lie in the photo

NOTE = "its mask has lost the body that other photos show: nothing below the neck is used"


def down_to_the_neck(found: Sequence[Understood], names: Collection[str]) -> list[Understood]:
    """The same photos; of those `names` whose mask has no body below the neck, while another's has, the part above, and a note."""
    points = np.stack(np.meshgrid(_ACROSS_MM, _BELOW_MM, _BACK_MM), axis=-1).reshape(-1, 3) * (1, -1, -1)
    points[:, 1] += NECK * MM_PER_UNIT
    shares = [_share_on_mask(seen.photo, points) for seen in found]
    if not any(share is not None and share >= _SHOWN for share in shares):
        return list(found)
    out = []
    for seen, share in zip(found, shares, strict=True):
        neck = neck_row(seen.photo.camera, unit=MM_PER_UNIT)
        if share is not None and share < _LOST and seen.name in names and neck < len(seen.photo.mask):
            seen = replace(seen, photo=_upper_rows(seen.photo, int(neck)), notes=[*seen.notes, NOTE])
        out.append(seen)
    return out


def _share_on_mask(photo: Photo, points: Array) -> float | None:
    """Of those world `points` (N, 3) that lie in the photo; None where next to none do."""
    pixels, depth = photo.camera.project(points)
    height, width = photo.mask.shape
    columns, rows = pixels[(depth > 0) & (pixels >= 0).all(1) & (pixels < (width, height)).all(1)].astype(np.int64).T
    return float(photo.mask[rows, columns].mean()) if len(rows) >= _FEWEST else None


def _upper_rows(photo: Photo, rows: int) -> Photo:
    """The uppermost `rows` of a photo, all of its maps with them."""
    maps = {name: getattr(photo, name) for name in ("image", "mask", "normals", "confidence", "coordinates")}
    cut = {name: values if values is None else np.ascontiguousarray(values[:rows]) for name, values in maps.items()}
    return replace(photo, camera=replace(photo.camera, height=rows), **cut)

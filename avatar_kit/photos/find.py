"""Heads in a photo, and what belongs to one: a coarse pass of the normal network over the whole photo, then closer looks."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from avatar_kit.normals.crop import HEAD_SHARE, NECK, WIDE, Crop, crop_from_coordinates, rim_ramp, whole_photo
from avatar_kit.normals.estimator import Estimator, forward, head_crops
from avatar_kit.photos.cut import cut_by_colors
from avatar_kit.types import Array, InputError

_COARSE_PX = 256
_LEAST_SHARE = 0.0008  # of the photo's pixels that a head covers
_AGAINST_LARGEST = 0.15  # of the largest head's area: less is no person but a mistake
_CLOSER = 2.2  # times the first look's square: what the second look sees
_MOST_CLOSER = 1.5  # times the first look's square among several people: more, and somebody else is in it
_GUIDE_RADIUS = 0.012  # of the picture's longer side, for the guided filter
_GUIDE_EPS = 1e-4


def find_heads(image: Array, net: Estimator, *, name: str) -> list[Crop]:
    """Squares around all heads of a photo (H, W, 3), the largest first.

    Raises:
        InputError: there is none.
    """
    everything = whole_photo(*image.shape[:2])
    maps = forward(net, [everything.cut(image, _COARSE_PX)], flips=False)
    foreground = torch.sigmoid(maps.foreground[0]).numpy()
    coordinates = maps.coordinates[0].permute(1, 2, 0).numpy()
    heads = ((foreground > 0.5) & (coordinates[..., 1] > NECK)).astype(np.uint8)
    count, label, stats, _ = cv2.connectedComponentsWithStats(heads, connectivity=4)
    found = []
    for number in range(1, count):
        area = int(stats[number, cv2.CC_STAT_AREA])
        crop = crop_from_coordinates(coordinates, foreground * (label == number), everything)
        if crop is not None and area > _LEAST_SHARE * heads.size:
            found.append((area, number, crop))
    if not found:
        raise InputError(f"{name}: no head found. Use a photo in which the face is larger and not hidden, or give a mask.")
    found.sort(reverse=True)
    return [crop for area, _, crop in found if area > _AGAINST_LARGEST * found[0][0]]


def closer_look(image: Array, net: Estimator, crop: Crop, *, name: str, mask: Array | None = None, alone: bool = True) -> Crop:
    """A better square around the head that a first look found, from its surroundings alone.

    Args:
        alone: nobody else is in the photo; otherwise the first square stays where the second takes others in.
    """
    rows, columns = crop.larger(_CLOSER).window
    part = np.ascontiguousarray(image[rows, columns])
    found = head_crops([part], net, [None if mask is None else mask[rows, columns]], [name])[0]
    if not alone and found.side > _MOST_CLOSER * crop.side:
        return crop
    return Crop(found.left + columns.start, found.top + rows.start, found.side)


def subject_mask(image: Array, net: Estimator, crop: Crop) -> Array:
    """Mask (H, W) bool of the person whose head is in `crop`, shoulders included, its edge along the photo's edges.

    The head is looked at closely, the surroundings in a second, wider square; colours decide what both are unsure of
    (`photos.cut`), and a guided filter (He et al. 2010) brings the outline to where the photo changes. Of several regions
    the one through the head's middle is kept, its holes filled.
    """
    whole, (rows, columns) = np.zeros(image.shape[:2], bool), crop.larger(WIDE).window
    image = np.ascontiguousarray(image[rows, columns])  # all the rest is nobody's
    crop = Crop(crop.left - columns.start, crop.top - rows.start, crop.side)
    height, width = image.shape[:2]
    wide = crop.larger(WIDE)
    maps = forward(net, [each.cut(image, net.crop_px) for each in (crop, wide)], flips=True)
    near, far = (each.paste(torch.sigmoid(maps.foreground[row]).numpy(), height, width) for row, each in enumerate((crop, wide)))
    inside = crop.paste(rim_ramp(64), height, width)  # the closer look counts fully but for the crop's rim
    probability = inside * near + (1 - inside) * far
    refined = guided_filter(image, cut_by_colors(image, probability), max(2, round(_GUIDE_RADIUS * crop.side)), _GUIDE_EPS)
    mask = refined > 0.5
    _, label = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    middle = crop.paste(np.pad(np.ones((32, 32), np.float32), 16), height, width) > 0.5
    votes = np.bincount(label[middle & mask], minlength=2) if (middle & mask).any() else np.array([0, 0])
    votes[0] = 0
    mask = label == int(votes.argmax()) if votes.any() else np.zeros_like(mask)
    whole[rows, columns] = without_holes(mask)
    return whole


def without_holes(mask: Array) -> Array:
    """The mask (H, W) bool with all that it surrounds."""
    count, found = cv2.connectedComponents((~mask).astype(np.uint8), connectivity=4)
    label = np.asarray(found, np.int64)
    outside = np.zeros(count, bool)
    for border in (label[0], label[-1], label[:, 0], label[:, -1]):
        outside[border] = True
    outside[0] = False  # the mask itself
    return ~outside[label]


def guided_filter(image: Array, values: Array, radius: int, eps: float) -> Array:
    """`values` (H, W) with edges where the luminance of `image` (H, W, 3) has them; windows of 2 `radius` + 1 px.

    Source: He, Sun, Tang, "Guided image filtering", 2010, equations 5, 6 and 8.
    """
    guide = cv2.cvtColor(np.ascontiguousarray(image, np.float32), cv2.COLOR_RGB2GRAY)
    values = np.asarray(values, np.float32)

    def mean(x: Array) -> Array:
        return cv2.boxFilter(x, -1, (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_REFLECT)

    mean_guide, mean_values = mean(guide), mean(values)
    a = (mean(guide * values) - mean_guide * mean_values) / (mean(guide * guide) - mean_guide**2 + eps)
    b = mean_values - a * mean_guide
    return mean(a) * guide + mean(b)


def head_px(crop: Crop) -> float:
    """Pixels that the head in a crop is long."""
    return HEAD_SHARE * crop.side

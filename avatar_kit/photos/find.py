"""Heads in a photo, and what belongs to one: a coarse pass of the normal network over the whole photo, then closer looks."""

from __future__ import annotations

import contextlib

import cv2
import numpy as np
import torch

from avatar_kit.normals.crop import HEAD_SHARE, NECK, WIDE, Crop, crop_from_coordinates, rim_ramp, whole_photo
from avatar_kit.normals.estimator import Estimator, forward, head_crops
from avatar_kit.photos.cut import cut_by_colors
from avatar_kit.photos.standing import is_clear, share_of_head, standing, torso_between
from avatar_kit.types import Array, InputError

_COARSE_PX = 256
_LEAST_SHARE = 0.0008  # of the photo's pixels that a head covers
_AGAINST_LARGEST = 0.15  # of the largest head's area: less is no person but a mistake
_CLOSER = 2.2  # times the first look's square: what the second look sees
_MOST_CLOSER = 1.5  # times the first look's square among several people: more, and somebody else is in it
_PARTS = 2, 4  # of the photo's side, that are looked at where there is no head in the whole
_GUIDE_RADIUS = 0.012  # of the picture's longer side, for the guided filter
_GUIDE_EPS = 1e-4


def find_heads(image: Array, net: Estimator, *, name: str) -> list[Crop]:
    """Squares around all heads of a photo (H, W, 3), the largest first.

    Where a look at the whole photo finds nothing that is clearly a head, parts of it are looked at, halves and then quarters of its
    side: heads of people who stand far away.

    Raises:
        InputError: there is none.
    """
    everything = whole_photo(*image.shape[:2])
    first = _heads_within(image, net, everything)
    clear = [crop for crop in first if _is_clear(image, net, crop)]
    for parts in _PARTS:
        if not clear:
            close = [crop for window in _windows(image, everything.side // parts) for crop in _heads_within(image, net, window)]
            clear = _distinct([crop for crop in close if _is_clear(image, net, crop)])
    if not clear and not first:
        raise InputError(f"{name}: no head found. Use a photo in which the face is larger and not hidden, or give a mask.")
    return clear or first


def _heads_within(image: Array, net: Estimator, window: Crop) -> list[Crop]:
    """Squares around what looks like heads in a part of a photo, the largest first."""
    maps = forward(net, [window.cut(image, _COARSE_PX)], flips=False)
    foreground = torch.sigmoid(maps.foreground[0]).numpy()
    coordinates = maps.coordinates[0].permute(1, 2, 0).numpy()
    heads = ((foreground > 0.5) & (coordinates[..., 1] > NECK)).astype(np.uint8)
    count, label, stats, _ = cv2.connectedComponentsWithStats(heads, connectivity=4)
    found = []
    for number in range(1, count):
        area = int(stats[number, cv2.CC_STAT_AREA])
        crop = crop_from_coordinates(coordinates, foreground * (label == number), window)
        if crop is not None and area > _LEAST_SHARE * heads.size:
            found.append((area, number, crop))
    found.sort(reverse=True)
    return [crop for area, _, crop in found if area > _AGAINST_LARGEST * found[0][0]]


def _is_clear(image: Array, net: Estimator, crop: Crop) -> bool:
    return is_clear(forward(net, [crop.cut(image, net.crop_px)], flips=False), 0, crop, image.shape[:2])


def _windows(image: Array, side: int) -> list[Crop]:
    """Squares all over a photo, each half over the next."""
    height, width = image.shape[:2]
    tops, lefts = (np.arange(0, max(length - side, 0) + side // 2, max(side // 2, 1)) for length in (height, width))
    return [Crop(int(left), int(top), side) for top in tops for left in lefts]


def _distinct(crops: list[Crop]) -> list[Crop]:
    """The largest first, without those whose middle lies in a larger one."""
    kept: list[Crop] = []
    for crop in sorted(crops, key=lambda crop: -crop.side):
        x, y = crop.left + crop.side / 2, crop.top + crop.side / 2
        if not any(0 <= x - other.left < other.side and 0 <= y - other.top < other.side for other in kept):
            kept.append(crop)
    return kept


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
    crops = crop, crop.larger(WIDE)
    maps = forward(net, [each.cut(image, net.crop_px) for each in crops], flips=True)
    probabilities = [torch.sigmoid(foreground).numpy() for foreground in maps.foreground]
    pose = None
    with contextlib.suppress(InputError):  # then all of the foreground is taken for the head's
        pose = standing(maps, 0, crop, (height, width))
        probabilities = [p * share_of_head(maps, row, crops[row], (height, width), pose) for row, p in enumerate(probabilities)]
    near, far = (each.paste(values, height, width) for each, values in zip(crops, probabilities, strict=True))
    inside = crop.paste(rim_ramp(64), height, width)  # the closer look counts fully but for the crop's rim
    probability = inside * near + (1 - inside) * far
    cut = cut_by_colors(image, probability, None if pose is None else torso_between(probability, pose))
    refined = guided_filter(image, cut, max(2, round(_GUIDE_RADIUS * crop.side)), _GUIDE_EPS)
    mask = refined > 0.5
    _, label = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    middle = crop.paste(np.pad(np.ones((32, 32), np.float32), 16), height, width) > 0.5
    votes = np.bincount(label[middle & mask], minlength=2) if (middle & mask).any() else np.array([0, 0])
    votes[0] = 0
    mask = label == int(votes.argmax()) if votes.any() else np.zeros_like(mask)
    whole[rows, columns] = without_holes(mask)
    return whole


def without_holes(mask: Array) -> Array:
    """The mask (H, W) bool with all that it surrounds, the picture's lower border with it: bodies go on there."""
    count, found = cv2.connectedComponents((~mask).astype(np.uint8), connectivity=4)
    label = np.asarray(found, np.int64)
    outside = np.zeros(count, bool)
    for border in (label[0], label[:, 0], label[:, -1]):
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

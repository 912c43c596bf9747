"""A subject cut out by colours: what the network is unsure of goes to whichever side its colours and edges speak for.

Networks that have seen rendered people alone leave holes in jackets and take curtains for hair; two colour models of the very photo know
better. Source: Rother, Kolmogorov, Blake, "GrabCut", SIGGRAPH 2004, as OpenCV has it.
"""

from __future__ import annotations

import cv2
import numpy as np

from avatar_kit.types import Array

_LONGER_PX = 400  # of the picture that is cut
_SURE = 0.95  # probability of the subject, or of what is behind it, that no colour changes
_HARDLY = 0.51  # of the torso
_ITERATIONS = 3
_FEWEST_PX = 50  # on either side: fewer have no colour model


def cut_by_colors(image: Array, probability: Array, torso: Array | None = None) -> Array:
    """1 on the subject and 0 off it, (H, W) float32, between the two along the outline.

    Args:
        image: sRGB in [0, 1], (H, W, 3).
        probability: of the subject, (H, W); it is returned where all of the picture is either subject or background.
        torso: where the body should be, (H, W) bool: there no pixel is surely background, and colours begin with the subject.
    """
    height, width = probability.shape
    scale = min(1.0, _LONGER_PX / max(height, width))
    size = (max(round(scale * width), 1), max(round(scale * height), 1))

    def reduced(picture: Array) -> Array:
        return cv2.resize(np.asarray(picture, np.float32), size, interpolation=cv2.INTER_AREA)

    small, likely = reduced(image), reduced(probability)
    if min((likely > 0.5).sum(), (likely <= 0.5).sum()) < _FEWEST_PX:
        return np.asarray(probability, np.float32)
    if torso is not None:
        likely = np.where(reduced(torso) > 0.5, np.maximum(likely, _HARDLY), likely)
    label = np.where(likely > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    label[likely > _SURE], label[likely < 1 - _SURE] = cv2.GC_FGD, cv2.GC_BGD
    cv2.setRNGSeed(0)  # its colour models start from k-means
    pixels = np.ascontiguousarray(np.round(255 * np.clip(small, 0, 1)).astype(np.uint8))
    cv2.grabCut(pixels, label, (0, 0, 0, 0), np.zeros((1, 65)), np.zeros((1, 65)), _ITERATIONS, cv2.GC_INIT_WITH_MASK)
    subject = ((label == cv2.GC_FGD) | (label == cv2.GC_PR_FGD)).astype(np.float32)
    return cv2.resize(subject, (width, height), interpolation=cv2.INTER_LINEAR)

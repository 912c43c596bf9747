"""The square of a photo that the network sees, and the way there and back.

Crops are cut and resampled, never turned: normals stay those of the photo.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from avatar_kit.types import Array, InputError

HEAD_SHARE = 0.75  # of the crop's side that the head takes
WIDE = 1.6  # times the head's square: what is looked at for shoulders and hair
NECK = -0.65  # y in the head frame, units: below is neck and clothes
_WIDTH_PER_HEIGHT = 0.85  # of heads from all sides, short hair included
_HEAD_ROWS = 0.35  # of a row's pixels on the subject: beside the chin there may be shoulders
_LEAST_RUN = 0.2  # of the largest run of such rows: a smaller one is none
_SMALLEST_PX = 4  # side of a crop; less cannot be a head


@dataclass(frozen=True)
class Crop:
    """A square of a photo in whole pixels, which may reach beyond its edges.

    left, top: of its first pixel; side: its number of pixels.
    """

    left: int
    top: int
    side: int

    @classmethod
    def around(cls, x: float, y: float, side: float) -> Crop:
        """The square of about `side` px with its middle at (x, y), px."""
        side = max(round(side), _SMALLEST_PX)
        return cls(round(x - side / 2), round(y - side / 2), side)

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of a photo that lie in the square, as far as the photo goes on."""
        return (slice(max(self.top, 0), max(self.top + self.side, 0)), slice(max(self.left, 0), max(self.left + self.side, 0)))

    def larger(self, times: float) -> Crop:
        """The square `times` as long with the same middle."""
        return Crop.around(self.left + self.side / 2, self.top + self.side / 2, times * self.side)

    def cut(self, image: Array, size: int) -> Array:
        """The crop of an image (H, W, 3) float32 as (size, size, 3), antialiased; beyond the edge, the edge goes on."""
        height, width = image.shape[:2]
        part = np.ascontiguousarray(image[self.window])
        if part.size == 0:  # all of it lies beyond
            rows, columns = (np.clip(np.arange(at, at + self.side), 0, most - 1) for at, most in ((self.top, height), (self.left, width)))
            return _resize(np.ascontiguousarray(image[rows[:, None], columns]), size)
        right, bottom = self.left + self.side - width, self.top + self.side - height
        above, below, before, after = (max(beyond, 0) for beyond in (-self.top, bottom, -self.left, right))
        return _resize(cv2.copyMakeBorder(part, above, below, before, after, cv2.BORDER_REPLICATE), size)

    def intrinsics(self, intrinsics: Array, size: int) -> Array:
        """Intrinsics (3, 3) of the crop at `size` x `size`, from those of its photo."""
        scale = size / self.side
        return np.array([[scale, 0, -scale * self.left], [0, scale, -scale * self.top], [0, 0, 1.0]]) @ intrinsics

    def paste(self, maps: Array, height: int, width: int) -> Array:
        """The way back: maps (S, S[, C]) of the crop on a photo of `height` x `width`, zero outside it."""
        photo = np.zeros((height, width, *maps.shape[2:]), np.float32)
        rows = slice(*np.clip([self.top, self.top + self.side], 0, height).tolist())
        columns = slice(*np.clip([self.left, self.left + self.side], 0, width).tolist())
        large = _resize(maps, self.side)
        photo[rows, columns] = large[rows.start - self.top : rows.stop - self.top, columns.start - self.left : columns.stop - self.left]
        return photo


def _resize(image: Array, size: int) -> Array:
    shrinks = size < image.shape[0]
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def whole_photo(height: int, width: int) -> Crop:
    """The square around all of a photo: the coarse pass where there is no mask."""
    return Crop.around(width / 2, height / 2, max(height, width))


def crop_from_mask(mask: Array) -> Crop:
    """The square around the head of a subject's mask (H, W) bool; its scale is right within about 1.5.

    From the top of the hair downwards, the widest row so far is at first wider than the rows are many (a dome), and less
    than 0.85 of them when the chin is reached; shoulders come later.
    """
    count, regions, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count < 2:
        raise InputError("The mask is empty: it must be white on the subject.")
    subject = regions == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    widths = subject.sum(1)
    rows = np.flatnonzero(widths >= 0.02 * widths.max())
    top, height = int(rows[0]), int(rows[-1] - rows[0] + 1)
    widest = np.maximum.accumulate(widths[top : top + height])
    heights = np.arange(1, height + 1)
    narrow = np.flatnonzero((widest <= _WIDTH_PER_HEIGHT * heights) & (heights > 3))
    head = int(heights[narrow[0]]) if len(narrow) else max(height, int(widest[-1]))
    columns = np.flatnonzero(subject[top : top + head].any(0))
    return Crop.around((columns[0] + columns[-1] + 1) / 2, top + head / 2, head / HEAD_SHARE)


def crop_from_coordinates(coordinates: Array, foreground: Array, crop: Crop) -> Crop | None:
    """A better square from what the network saw in the first, or None where it saw no head.

    The head is what lies above the neck in the uppermost large run of rows that mostly do: of a body further down, which its
    training crops do not show, the network knows little.

    Args:
        coordinates: head frame, units, (S, S, 3), of the crop's pixels.
        foreground: probability, (S, S).
    """
    size = foreground.shape[0]
    subject = foreground > 0.5
    above = subject & (coordinates[..., 1] > NECK)
    gap = (above.sum(1) <= _HEAD_ROWS * subject.sum(1)) & (subject.sum(1) > 0.02 * size)
    run = np.cumsum(gap)  # its number, of each row
    above[gap] = False
    area = np.bincount(run, weights=above.sum(1))
    above[run != np.argmax(area > _LEAST_RUN * area.max())] = False  # a speck above the head is no head
    rows, columns = np.nonzero(above)
    if len(rows) < 0.0005 * size**2:
        return None
    low = np.array([np.quantile(columns, 0.01), np.quantile(rows, 0.01)])
    high = np.array([np.quantile(columns, 0.99), np.quantile(rows, 0.99)]) + 1
    scale = crop.side / size
    x, y = (low + high) / 2 * scale + (crop.left, crop.top)
    return Crop.around(x, y, (high - low).max() * scale / HEAD_SHARE)


def rim_ramp(size: int) -> Array:
    """1 in the middle of a square, falling to 0 at its rim over an eighth of its side."""
    axis = np.clip(np.minimum(np.arange(size), np.arange(size)[::-1]) / (size / 8), 0, 1)
    return np.minimum(axis[:, None], axis[None]).astype(np.float32)

"""The visual hull: no head where a photo shows what is behind it. Source: Laurentini 1994.

The fit moves outlines by a few rays a step, and only near them: a lump that it leaves further out would stay.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from avatar_kit.conventions import BOX_MAX, BOX_MIN, scale_of, transform_points
from avatar_kit.field.on_grid import on_finer_grid
from avatar_kit.mesh.photo_views import sample
from avatar_kit.types import Array, Photo, Scene

_CELLS = 64  # along an axis, about: how far outside outlines a point lies changes evenly
_HEAD_FROM = -0.45  # y in the head frame, units: from here on up everything is head
_MOST = 0.05  # of a head that a photo may cut off; one that would take more has a camera or a mask that is not to be believed
_NOWHERE = -1.0  # units: of what no photo shows


def beyond_outlines(sdf: Tensor, scene: Scene, head_from_world: Array) -> Tensor:
    """How far outside a subject's outline, in the photo where that is furthest, a point lies, units; negative within all of them.

    Args:
        sdf: of the head, at the nodes of a grid over the box, (n, n, n), units.
        head_from_world: similarity (4, 4).

    Returns:
        at the nodes of a coarser grid over the box, (m, m, m).
    """
    head = on_finer_grid(sdf, min(_CELLS, len(sdf) - 1)).cpu().numpy() < 0
    axis = np.linspace(BOX_MIN, BOX_MAX, len(head))
    head[:, axis < _HEAD_FROM] = False
    nodes = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    nodes = transform_points(np.linalg.inv(head_from_world), nodes)
    found = np.full(head.shape, _NOWHERE)
    for photo in (photo for photo in scene.photos if photo.mask.any()):
        beyond = _beyond(photo, nodes).reshape(head.shape) * scale_of(head_from_world)
        if np.count_nonzero(beyond[head] > 0) <= _MOST * np.count_nonzero(head):
            found = np.maximum(found, beyond)
    return torch.from_numpy(found.astype(np.float32)).to(sdf)


def signed_distance(inside: Array) -> Array:
    """Of a mask, or voxels, in pixels, float32: negative where it is `inside`, 0 on the border, half a pixel from the nearest ones."""
    away, within = (np.asarray(ndimage.distance_transform_edt(part)) for part in (~inside, inside))
    distance = away - within
    return (distance - np.sign(distance) / 2).astype(np.float32)


def _beyond(photo: Photo, points: Array) -> Array:
    """The same of one photo at world `points` (N, 3), in the world's unit, -inf for what it does not show."""
    outside = signed_distance(photo.mask)
    pixels, depth = photo.camera.project(points)
    height, width = photo.mask.shape
    shown = (depth > 0) & (pixels > 0).all(1) & (pixels[:, 0] < width) & (pixels[:, 1] < height)
    found = np.full(len(points), -np.inf)
    found[shown] = sample(outside, pixels[shown]) * depth[shown] / photo.camera.intrinsics[0, 0]
    return found

"""What outlines show beside the head, a tail of hair or a wide collar: the visual hull of that part.

The fit moves a surface by centimetres at most, and would tear it towards what lies further away. So where photos look past the start's
head and still see their subject, it may be whatever is inside every outline and behind what the head itself explains, for a photo
would show what stands before it. The fit leaves the rays that see it alone, and the mesh is the head and it together.
Source: Laurentini 1994.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from avatar_kit.config import BesideConfig
from avatar_kit.conventions import BOX_MAX, BOX_MIN, transform_points
from avatar_kit.kernels.ray_search import search_grid
from avatar_kit.recon.hull import signed_distance
from avatar_kit.recon.pose import HeadPose
from avatar_kit.recon.rays import Rays, rays_of_mask, shrink
from avatar_kit.types import Array, Photo, Scene

_PX = 160  # longer side of a photo: its pixels are smaller than a cell
_SAMPLES = 64, 8  # along the photos' rays, coarse and fine
_LOWEST = -0.85  # y, units: below are bodies that go on where the box ends, and rays that pass the head there pass beneath it
_FEWEST = 4  # photos: of fewer, hulls are mostly what stands where nobody looks
_APART_DEG = 30.0  # between two photos that look past the head at a part: along their view they do not say how far away it is
_JOINT = 3  # cells that it reaches into the head, so that both are one piece
_JOINT_NEAR = 0.02  # units: what is so near the head belongs to the joint
_SMOOTH = 1.0  # cells: of a Gaussian, since a hull ends in edges


def beside_head(sdf: Tensor, scene: Scene, seen_with: Sequence[Array], config: BesideConfig) -> Tensor | None:
    """Distances to what the photos see beside the head, at the nodes of a grid over the box, (n, n, n), units, negative inside; None
    where that is nothing of size, or the photos are too few to tell.

    Args:
        sdf: of the head, at those nodes, (n, n, n), units.
        seen_with: head_from_world (4, 4) for the rays of each photo.
    """
    if sum(bool(photo.mask.any()) for photo in scene.photos) < _FEWEST:
        return None
    axis = np.linspace(BOX_MIN, BOX_MAX, len(sdf))
    index = np.stack(np.nonzero((sdf > 0.5 * config.far).cpu().numpy() & (axis > _LOWEST)[:, None]), axis=1)
    possible, missed, views = np.ones(len(index), bool), [], []
    for photo, head_from_world in zip(scene.photos, seen_with, strict=True):
        if photo.mask.any():
            may_be, must_be = _said_by(shrink(photo, _PX), head_from_world, sdf, axis[index], config.far)
            possible &= may_be
            missed.append(must_be)
            axis_of_view = head_from_world[:3, :3] @ photo.camera.world_from_camera[:3, 2]
            views.append(axis_of_view / np.linalg.norm(axis_of_view))
    apart = np.abs(np.stack(views) @ np.stack(views).T) < np.cos(np.radians(_APART_DEG))  # from the other side they see the same
    crossed = ((apart.astype(int) @ np.stack(missed) > 0) & np.stack(missed)).any(0)
    beside = np.zeros(sdf.shape, bool)
    beside[tuple(index[possible & crossed].T)] = True
    pieces = np.zeros(beside.shape, np.int32)
    ndimage.label(beside, output=pieces)
    furthest = ndimage.maximum(sdf.cpu().numpy(), pieces, np.arange(pieces.max() + 1))
    beside &= ((np.bincount(pieces.ravel()) >= config.least) & (np.asarray(furthest) > config.reach))[pieces]
    if not beside.any():
        return None
    beside |= ndimage.binary_dilation(beside, iterations=_JOINT) & (sdf < _JOINT_NEAR).cpu().numpy()
    distance = ndimage.gaussian_filter(signed_distance(beside), _SMOOTH)  # cells
    return torch.from_numpy(distance).to(sdf) * ((BOX_MAX - BOX_MIN) / (len(sdf) - 1))


@torch.no_grad()
def rays_onto(beside: Tensor, sdf: Tensor, pose: HeadPose, rays: Rays) -> Tensor:
    """Which world rays (N,) see what is beside the head first, (N,) bool.

    Args:
        beside: of `beside_head`.
        sdf: of the head, at the nodes of a grid over the box, (n, n, n), units.
    """
    origins, directions, _ = pose.rays(rays)
    found, head = (search_grid(values, origins, directions, coarse=_SAMPLES[0], fine=_SAMPLES[1]) for values in (beside, sdf))
    return found.depth < head.depth


def _said_by(photo: Photo, head_from_world: Array, sdf: Tensor, points: Array, far: float) -> tuple[Array, Array]:
    """Of `points` (N, 3), head frame, which may belong to the subject for all that a photo shows, and at which it looks past the head."""
    origins, directions = rays_of_mask(photo, head_from_world, sdf.device)
    found = search_grid(sdf, origins, directions, coarse=_SAMPLES[0], fine=_SAMPLES[1])
    depth, past = np.full(photo.mask.shape, -np.inf), np.zeros(photo.mask.shape, bool)  # rays that just miss the head hide nothing
    depth[photo.mask] = torch.where(found.hit, found.depth, -torch.inf).cpu().numpy()
    nearest = (origins[:, 1] + directions[:, 1] * found.closest_depth).nan_to_num(BOX_MIN)  # of rays that miss the box
    past[photo.mask] = (~found.hit & (found.closest_value > far) & (nearest > _LOWEST)).cpu().numpy()
    pixels, in_front = photo.camera.project(transform_points(np.linalg.inv(head_from_world), points))
    height, width = photo.mask.shape
    shown = np.flatnonzero((in_front > 0) & (pixels >= 0).all(1) & (pixels[:, 0] < width) & (pixels[:, 1] < height))
    at = pixels[shown, 1].astype(int), pixels[shown, 0].astype(int)
    away = np.linalg.norm(points[shown] - transform_points(head_from_world, photo.camera.centre), axis=1)
    may_be, must_be = np.zeros((2, len(points)), bool)  # of what it does not show it says nothing, and that is not enough
    may_be[shown] = photo.mask[at] & (past[at] | (away > depth[at]))
    must_be[shown] = past[at]
    return may_be, must_be

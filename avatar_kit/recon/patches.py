"""Photoconsistency between photos: a patch of one, carried over by the surface's tangent plane, looks the same in another.

Colours that a network explains say little about where the surface lies; the same spot seen from two sides does. Not in the
paper: patches on tangent planes are those of Furukawa and Ponce (2010), their correlation as a loss of an implicit surface
that of Darmon et al. (2022) and Fu et al. (2022). Highlights, which move with the eye, and lights that
differ do not correlate: pairs that disagree lose their say as the fit goes on (graduated non-convexity, Blake and Zisserman 1987).
Where the surface is centimetres off, a small patch finds a wrong partner: pairs count as far as what lies around them correlates too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from avatar_kit.config import PatchesConfig
from avatar_kit.recon.losses import geman_mcclure
from avatar_kit.recon.pose import HeadPose
from avatar_kit.recon.rays import shrink
from avatar_kit.recon.surface import SurfaceHits, seen_from
from avatar_kit.types import Array, Photo

_FACING = 0.35  # cosine: photos that see a spot at a flatter angle see too little of it


class _Level(NamedTuple):
    """All photos at one size, one below the other."""

    gray: Tensor  # (1, 1, H, W)
    usable: Tensor  # whole patches around the pixel lie on the subject, (1, 1, H, W), 0 or 1
    top: Tensor  # first row of each photo, (P,)
    heights: Tensor  # its number of rows, (P,)
    intrinsics: Tensor  # (P, 3, 3), in pixels of this size


class PhotoPatches:
    """Patches of a scene's photos.

    Args:
        photos: at least two, of any sizes; with masks and cameras, in the world whose pose `loss` is given.
        config: sizes of photos and patches; its weight is the fit's to apply.
        device: of the hits.
    """

    def __init__(self, photos: Sequence[Photo], config: PatchesConfig, device: torch.device) -> None:
        self._config = config
        self._fine = _level(photos, config.image_size, config.half_width, device)
        wide = max(1, config.image_size >> config.wide_octaves)
        self._wide = _level(photos, wide, config.half_width, device) if config.wide_octaves > 0 else None
        self._camera_from_world = _tensor(np.stack([photo.camera.camera_from_world for photo in photos]), device)
        span = torch.arange(-config.half_width, config.half_width + 1, device=device, dtype=torch.float32)
        self._offsets = torch.cartesian_prod(span, span)

    def loss(
        self,
        pose: HeadPose,
        hits: SurfaceHits,
        photo: Tensor,
        sdf: Tensor,
        count: int,
        generator: torch.Generator,
        *,
        progress: float = 1.0,
    ) -> Tensor:
        """1 - normalised cross-correlation of patches around hits with the same in other photos, robustly, a scalar.

        Args:
            hits: of rays of the photos `photo` (N,), in the head frame that `pose` says.
            sdf: distances at the nodes of a grid over the box, (n, n, n), units, which say what hides a spot.
            count: rays of the step; the sum over hits, with another photo each, is divided by it.
            generator: chooses that photo.
            progress: 0 at the fit's start, 1 at its end: from all pairs to those that agree.
        """
        fine = pose.projections(self._fine.intrinsics, self._camera_from_world)
        hit, other, share = self._pairs(fine.detach(), hits, photo, sdf, generator)
        spots = hits.points[hit], hits.normals[hit], photo[hit], other
        alike, usable = self._correlations(self._fine, fine, *spots)
        costs = geman_mcclure((1.0 - alike) * usable, math.sqrt(self._config.outlier / max(progress, 1e-3)))[1]
        if self._wide is not None:
            with torch.no_grad():
                wide = pose.projections(self._wide.intrinsics, self._camera_from_world)
                alike, usable = self._correlations(self._wide, wide, *spots)
                trust = torch.where(usable, alike.clamp_min(0.0), 1.0)
            costs = costs * trust / trust.mean().clamp_min(1e-3)
        return costs.sum() / (share * count)

    @torch.no_grad()
    def _pairs(
        self, projections: Tensor, hits: SurfaceHits, photo: Tensor, sdf: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, float]:
        """Numbers of hits and of a random other photo that sees each, (M,), and their share of all hits that have one."""
        centres = _centres(projections)
        towards = functional.normalize(centres - hits.points[:, None], dim=-1)  # (N, P, 3)
        sees = ((towards * hits.normals[:, None]).sum(-1) > _FACING) & (hits.slope < -_FACING)[:, None]
        sees &= hits.points @ projections[:, 2, :3].T + projections[:, 2, 3] > 0  # before the camera
        sees &= photo[:, None] != torch.arange(len(centres), device=photo.device)
        lot, other = (torch.rand(sees.shape, generator=generator).to(sees.device) * sees).max(1)
        seen = lot.nonzero()[:, 0]
        hit = seen[: self._config.pairs]  # rays are drawn scattered: the first of them see all of the head, too
        other = other[hit]
        free = seen_from(sdf, hits.points[hit], hits.normals[hit], towards[hit, other])
        return hit[free], other[free], len(hit) / len(seen) if len(seen) else 1.0

    def _correlations(
        self, level: _Level, projections: Tensor, points: Tensor, normals: Tensor, here: Tensor, there: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Of spots (M, 3) with normals (M, 3) of photos `here` in photos `there`, (M,), and whether both patches are on the subject."""
        own = _project(projections[here], points[:, None])[:, 0].detach()  # rays do not move in their own photo
        pixels = own[:, None] + self._offsets
        turn = projections[..., :3]
        directions = functional.pad(pixels, (0, 1), value=1.0) @ torch.linalg.inv(turn)[here].transpose(1, 2)
        origins = _centres(projections)[here]
        depths = ((points - origins) * normals).sum(-1, keepdim=True) / (directions * normals[:, None]).sum(-1)
        moved = _project(projections[there], origins[:, None] + depths[..., None] * directions)
        with torch.no_grad():
            middle = self._offsets.shape[0] // 2
            usable = _sample(level.usable, level.top[here], own[:, None]) * _sample(level.usable, level.top[there], moved[:, middle, None])
            # above or below it lies another photo
            usable *= ((moved[:, middle, 1] >= 0) & (moved[:, middle, 1] < level.heights[there]))[:, None]
        a, b = (_sample(level.gray, level.top[which], at) for which, at in ((here, pixels), (there, moved)))
        return correlation(a, b, self._config.noise), usable[:, 0] > 0.99


def correlation(a: Tensor, b: Tensor, noise: float) -> Tensor:
    """Normalised cross-correlation of patches (M, K), in [-1, 1], (M,); 0 where contrast is less than the `noise`."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    variances = (a.square().mean(1) + noise**2) * (b.square().mean(1) + noise**2)
    return (a * b).mean(1) / variances.sqrt()


def _level(photos: Sequence[Photo], longer_side: int, half_width: int, device: torch.device) -> _Level:
    grays, usable, intrinsics = [], [], []
    kernel = np.ones((2 * half_width + 1,) * 2, np.uint8)
    for photo in photos:
        small = shrink(replace(photo, normals=None, confidence=None), longer_side)
        grays.append(small.image.mean(-1))
        usable.append(cv2.erode(small.mask.astype(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0))
        intrinsics.append(small.camera.intrinsics)
    heights = np.array([len(gray) for gray in grays])
    rows, cameras = (_tensor(array, device) for array in (np.cumsum(heights) - heights, np.stack(intrinsics)))
    return _Level(_below(grays, device), _below(usable, device), rows, _tensor(heights, device), cameras)


def _below(pictures: list[Array], device: torch.device) -> Tensor:
    """Pictures one below the other, filled with zeros on the right, (1, 1, H, W)."""
    width = max(picture.shape[1] for picture in pictures)
    return _tensor(np.concatenate([np.pad(picture, ((0, 0), (0, width - picture.shape[1]))) for picture in pictures]), device)[None, None]


def _tensor(array: Array, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(device)


def _project(projections: Tensor, points: Tensor) -> Tensor:
    """Pixels (M, K, 2) of points (M, K, 3) by (M, 3, 4)."""
    seen = points @ projections[..., :3].transpose(1, 2) + projections[:, None, :, 3]
    return seen[..., :2] / seen[..., 2:]


def _centres(projections: Tensor) -> Tensor:
    """Centres of projection (P, 3) in the head frame."""
    return -torch.linalg.solve(projections[..., :3], projections[..., 3])


def _sample(picture: Tensor, top: Tensor, pixels: Tensor) -> Tensor:
    """Bilinear values (M, K) at pixels (M, K, 2) of the photos that begin at the rows `top` (M,)."""
    height, width = picture.shape[-2:]
    x, y = pixels[..., 0] * (2.0 / width) - 1.0, (pixels[..., 1] + top[:, None]) * (2.0 / height) - 1.0
    return functional.grid_sample(picture, torch.stack([x, y], dim=-1)[None], align_corners=False)[0, 0]

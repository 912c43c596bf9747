"""The rays of all photos, shrunk to the size of the fit, and random draws from them."""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields

import cv2
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from avatar_kit.conventions import transform_points
from avatar_kit.scene.cameras import resized
from avatar_kit.types import Array, Camera, Photo, Scene

_OUTLINE_PX = 5  # background this close to a mask's outline is where silhouettes are decided
_OUTLINE_SHARE = 0.7  # of the background rays


@dataclass(frozen=True, eq=False)
class Rays:
    """N rays in the world frame, with what their pixels say.

    Attributes:
        origins, directions: (N, 3), directions of unit length.
        inside: the pixel is on the subject, (N,) bool.
        colors: sRGB, (N, 3).
        normals: outward unit normal in the world frame, (N, 3), zero where the photo gives none.
        confidence: of the normal, in [0, 1], (N,).
        photo: number of its photo in the scene, (N,) int64.
    """

    origins: Tensor
    directions: Tensor
    inside: Tensor
    colors: Tensor
    normals: Tensor
    confidence: Tensor
    photo: Tensor

    def __len__(self) -> int:
        return len(self.origins)

    def __getitem__(self, index: Tensor) -> Rays:
        return Rays(*(getattr(self, field.name)[index] for field in fields(self)))


def shrink(photo: Photo, longer_side: int) -> Photo:
    """The photo with its longer side at most `longer_side` px, averaged over areas; a pixel more than half inside is inside."""
    height, width = photo.mask.shape
    scale = min(1.0, longer_side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = cv2.resize(photo.image, size, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(photo.mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5
    normals = None
    if photo.normals is not None:
        mean = cv2.resize(photo.normals, size, interpolation=cv2.INTER_AREA)
        length = np.linalg.norm(mean, axis=-1, keepdims=True)
        normals = np.where(length > 0.5, mean / np.maximum(length, 1e-6), 0.0).astype(np.float32)
    confidence = None if photo.confidence is None else cv2.resize(photo.confidence, size, interpolation=cv2.INTER_AREA)
    return Photo(image, mask, resized(photo.camera, *size), normals, photo.name, confidence)


class RayBank:
    """All rays of a scene's photos, ready to be drawn from: on the subjects, around their outlines, elsewhere.

    Args:
        longer_side: photos are shrunk to this, px.
        located: whether predicted coordinates say where the head is (`recon.align.place`); by default, whether there are any.
    """

    def __init__(self, scene: Scene, longer_side: int, device: torch.device, *, located: bool | None = None) -> None:
        photos = [shrink(photo, longer_side) for photo in scene.photos]
        self.rays = concatenate([_rays_of(photo, number, device) for number, photo in enumerate(photos)])
        inside = np.concatenate([photo.mask.ravel() for photo in photos])
        outline = np.concatenate([_outline(photo.mask).ravel() for photo in photos])
        groups = (inside, outline & ~inside, ~outline & ~inside)
        self._inside, self._outline, self._elsewhere = (torch.from_numpy(np.flatnonzero(g)).to(device) for g in groups)
        self._borders = [_border_rays(photo, number, device) for number, photo in enumerate(photos)]
        self.name, self.photos = scene.name, len(photos)
        known = (self.rays.normals != 0).any(-1)
        self.has_normals = bool(known.any())
        self.trust = float(self.rays.confidence[known].mean()) if self.has_normals else 0.0
        """Mean confidence in the normals, 0 where there are none."""
        self.located = any(photo.coordinates is not None for photo in scene.photos) if located is None else located
        """Whether predicted coordinates say where the head is: what lies far from it is then hair or clothes."""

    def without(self, left: Tensor) -> RayBank:
        """The same without the rays on the subjects that are `left` alone, (N,) bool, as far as `draw` goes."""
        fewer = copy.copy(self)
        fewer._inside = self._inside[~left[self._inside]]
        return fewer

    def outline(self, count: int) -> Rays:
        """About `count` rays through the masks' outlines, between pixels inside and outside: evenly spread, the same each time."""
        borders = concatenate(self._borders)
        return borders[_spread(len(borders), min(count, len(borders)), device=borders.inside.device)]

    def subject(self, count: int, *, with_normals: bool = True) -> Rays:
        """About `count` rays on the subject, those with known normals or all, evenly spread, the same each time."""
        known = self._inside[(self.rays.normals[self._inside] != 0).any(-1)] if with_normals else self._inside
        return self.rays[known[_spread(len(known), min(count, len(known)), device=known.device)]]

    def draw(self, count: int, inside_share: float, generator: torch.Generator) -> Rays:
        """`count` rays, `inside_share` of them on the subject: evenly spread over the photos, from a random one on."""
        n_inside = round(count * inside_share)
        n_outline = round((count - n_inside) * _OUTLINE_SHARE) if len(self._elsewhere) else count - n_inside
        parts = [(self._inside, n_inside), (self._outline, n_outline), (self._elsewhere, count - n_inside - n_outline)]
        chosen = [group[_spread(len(group), n, generator, device=group.device)] for group, n in parts if len(group)]
        return self.rays[torch.cat(chosen)]


def _spread(total: int, count: int, generator: torch.Generator | None = None, *, device: torch.device | str = "cpu") -> Tensor:
    """`count` of `total` indices, scattered evenly: steps of the golden ratio fall on no row or column of an image.

    The first is number 0, or a random one. Evenly spread rays see each part of the head in each step, so that fits with
    other seeds differ less.
    """
    golden = (5.0**0.5 - 1.0) / 2.0
    start = float(torch.rand((), generator=generator, dtype=torch.float64)) if generator else 0.0
    return ((torch.arange(count, dtype=torch.float64, device=device) * golden + start) % 1.0 * total).long()


def _border_rays(photo: Photo, number: int, device: torch.device) -> Rays:
    """Rays through the edges between a pixel of the mask and a neighbour that is not."""
    mask = photo.mask
    rows, columns = np.nonzero(mask[:, 1:] != mask[:, :-1])
    upright = np.stack([columns + 1.0, rows + 0.5], axis=-1)
    rows, columns = np.nonzero(mask[1:] != mask[:-1])
    level = np.stack([columns + 0.5, rows + 1.0], axis=-1)
    return rays_through(photo.camera, np.concatenate([upright, level]), number, device)


def rays_through(camera: Camera, pixels: Array, number: int, device: torch.device) -> Rays:
    """Through `pixels` (N, 2), (x, y) in px, of photo `number`, of which nothing else is said."""
    origins, directions = camera.rays(pixels)
    nothing = torch.zeros(len(origins), 3, device=device)
    origins, directions = (torch.from_numpy(np.ascontiguousarray(a, np.float32)).to(device) for a in (origins, directions))
    return Rays(origins, directions, nothing[:, 0] > 0, nothing, nothing, nothing[:, 0], torch.full((len(origins),), number, device=device))


def rays_of_mask(photo: Photo, head_from_world: Array, device: torch.device) -> tuple[Tensor, Tensor]:
    """Origins and unit directions (N, 3), head frame, of the rays through the pixels of a photo's mask, row by row.

    Args:
        head_from_world: similarity (4, 4).
    """
    origins, directions = photo.camera.rays(photo.camera.pixel_grid()[photo.mask])
    starts, ends = transform_points(head_from_world, np.stack([origins, origins + directions]))
    along = (ends - starts) / np.linalg.norm(ends - starts, axis=-1, keepdims=True)
    starts, along = (torch.from_numpy(np.ascontiguousarray(part, np.float32)).to(device) for part in (starts, along))
    return starts, along


def _rays_of(photo: Photo, number: int, device: torch.device) -> Rays:
    origins, directions = photo.camera.rays(photo.camera.pixel_grid().reshape(-1, 2))
    normals = np.zeros((photo.mask.size, 3))
    if photo.normals is not None:
        normals = photo.normals.reshape(-1, 3) @ photo.camera.world_from_camera[:3, :3].T
        normals *= photo.mask.reshape(-1, 1)

    def tensor(array: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(device)

    inside = torch.from_numpy(photo.mask.ravel().copy()).to(device)
    confidence = np.ones(photo.mask.size) if photo.confidence is None else photo.confidence.ravel()
    colors, numbers = tensor(photo.image.reshape(-1, 3)), torch.full((photo.mask.size,), number, device=device)
    return Rays(tensor(origins), tensor(directions), inside, colors, tensor(normals), tensor(confidence), numbers)


def concatenate(parts: list[Rays]) -> Rays:
    """One after another."""
    return Rays(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Rays)))


def _outline(mask: Array) -> Array:
    """Pixels within a few px of the mask, and the mask itself."""
    return ndimage.binary_dilation(mask, iterations=_OUTLINE_PX)

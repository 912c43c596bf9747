"""Pairs with a closed form: a shaded ball before a plain background, seen by a pinhole camera. In place of rendered heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from avatar_kit.normals.network import NormalMaps
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.types import Array, Camera

PAIRS_PER_HEAD = 4


@dataclass(frozen=True, eq=False)
class SpherePair:
    image: Array
    normals: Array
    foreground: Array
    coordinates: Array
    face: Array
    hidden: Array
    camera: Camera
    attributes: Mapping[str, Any] = field(default_factory=dict)


def sphere_pair(camera: Camera, *, radius: float = 0.6, light: Array | None = None, background: float = 0.1) -> SpherePair:
    """A ball around the origin of the head frame; `light` points at the lamp, in the camera frame."""
    origins, rays = camera.rays(camera.pixel_grid())
    middle = (origins * rays).sum(-1)
    inside = middle**2 - (origins**2).sum(-1) + radius**2
    foreground = inside > 0
    points = origins + (-middle - np.sqrt(np.maximum(inside, 0)))[..., None] * rays
    normals = (points / radius) @ camera.world_from_camera[:3, :3]
    lamp = np.array([-0.5, -0.6, -0.6]) if light is None else light
    shade = 0.25 + 0.7 * np.maximum(normals @ (lamp / np.linalg.norm(lamp)), 0)
    colour = np.array([0.9, 0.7, 0.6]) * shade[..., None]
    on = foreground[..., None]
    return SpherePair(
        image=np.where(on, colour, background).astype(np.float32),
        normals=np.where(on, normals, 0).astype(np.float32),
        foreground=foreground,
        coordinates=np.where(on, points, 0).astype(np.float32),
        face=foreground & (points[..., 2] > 0.3),
        hidden=np.zeros_like(foreground),
        camera=camera,
        attributes={"yaw_deg": 0.0},
    )


class SphereStream:
    def __init__(self, seed: int, size: int) -> None:
        self.seed, self.size = seed, size

    def pair(self, index: int) -> SpherePair:
        rng = np.random.default_rng([self.seed, index])
        camera = orbit_camera(
            yaw_deg=rng.uniform(-60, 60), pitch_deg=rng.uniform(-20, 20), distance=rng.uniform(3, 6), target=rng.uniform(-0.1, 0.1, 3),
            focal_px=self.size * rng.uniform(1.8, 2.4), size=self.size,
        )  # fmt: skip
        return sphere_pair(camera, light=rng.normal(size=3) - (0, 0, 1.5), background=rng.uniform(0, 0.2))


@dataclass(frozen=True)
class SphereRequest:
    """In place of `PairStreamRequest`; can be pickled."""

    seed: int = 0
    pairs_per_head: int = PAIRS_PER_HEAD
    sources: tuple[str, ...] = ("anny",)
    makehuman_hair: None = None
    skins: None = None
    without: tuple[str, ...] = ()

    def open(self, size: int) -> SphereStream:
        return SphereStream(self.seed, size)


class BallNet(torch.nn.Module):
    """In place of a trained network: finds the bright ball of `sphere_pair` and knows a ball's normals by heart.

    Its coordinates are those of a ball of radius 0.6 seen from the front.
    """

    crop_px = 256
    finds_heads = True
    in_ray_frame = False  # far away, the two frames differ by the angle off the axis alone

    def forward(self, image: torch.Tensor) -> NormalMaps:
        found = (image[:, 0] > 0.15).float()
        size = image.shape[-1]
        y, x = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
        area = found.sum((1, 2)).clamp(min=1).reshape(-1, 1, 1)
        radius = (area / np.pi).sqrt()
        nx = (x - (x * found).sum((1, 2)).reshape(-1, 1, 1) / area) / radius
        ny = (y - (y * found).sum((1, 2)).reshape(-1, 1, 1) / area) / radius
        normals = torch.stack([nx, ny, -(1 - nx**2 - ny**2).clamp(min=0).sqrt()], dim=1)
        normals = torch.nn.functional.normalize(normals, dim=1)
        return NormalMaps(normals, found * 20 - 10, normals * torch.tensor([0.6, -0.6, -0.6]).reshape(3, 1, 1), torch.full_like(found, 3.0))

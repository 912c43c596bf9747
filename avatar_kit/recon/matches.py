"""The start of a fit whose cameras are refined: points that two photos both show tie them together.

Predicted coordinates turn the head of each photo by some degrees too much or too little, and outlines and normals leave relief
and angle to trade. Found on the surface that the start has (`photos.match`), a spot's place in two photos is known to a
millimetre. As a residual, where the ray of one photo hits the head must lie on the ray of the other: cameras, pose and shape
give way together, as in a bundle adjustment (Triggs et al. 2000) whose points are those of a head of the prior.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from avatar_kit.config import CamerasConfig, Config, RaysConfig
from avatar_kit.conventions import MM_PER_UNIT, rotation_of, scale_of, similarity, transform_points
from avatar_kit.kernels.grid_query import query_grids
from avatar_kit.kernels.ray_search import search_grid
from avatar_kit.photos.match import FACING, degrees_between, match, shrunk
from avatar_kit.prior.storage import HeadPrior
from avatar_kit.recon.beside import beside_head
from avatar_kit.recon.losses import geman_mcclure
from avatar_kit.recon.posed_head import PosedHead, Start, hits_of_moved_rays
from avatar_kit.recon.rays import RayBank, Rays, concatenate, rays_through
from avatar_kit.recon.residuals import ByRays, Residuals
from avatar_kit.recon.spots import spots_of
from avatar_kit.recon.start import solve_start
from avatar_kit.recon.surface import seen_from
from avatar_kit.types import Array, Camera, Photo, Scene

_MEETS = 0.02  # units: spots whose rays pass the head's surface this near to one another are on it
_APART_DEG = 75.0  # photos further apart show too little of the same


def tied_start(scene: Scene, bank: RayBank, prior: HeadPrior, rough: Array, config: Config) -> Start:
    """Pose and latent with the cameras held; then, where cameras are refined, all of them together with what photos share. Without that,
    outlines and normals would move them, and hair that no head of the prior has with them. Of several photos the start has what they
    see beside its head, and, where their cameras are to be believed, the spots that they share.

    Args:
        scene: the photos that `bank` was made of.
        rough: similarity head_from_world (4, 4), as `solve_start` begins with.

    Raises:
        InputError: as `solve_start`.
    """
    cameras = config.cameras
    freed = cameras.refine and bank.photos > 1 and cameras.match_steps > 0
    start = solve_start(bank, prior, rough, config.start, config.rays, None if freed else cameras, shading=config.shading)
    if bank.photos == 1:
        return start
    head = PosedHead(prior, config.rays.cache_resolution, bank.rays.origins.device, code=start.code)
    if freed:
        start = _with_cameras_free(scene, bank, prior, head, start, config)
    elif config.spots.weight > 0 and not cameras.refine:
        found = shared_points(scene, head, start, config.rays, both_ways=False)
        start = start._replace(spots=None if found is None else spots_of(*found, unit=1.0 / scale_of(start.head_from_world)))
    if config.beside.least > 0 and prior.knows_heads:
        head.move(start)
        start = start._replace(beside=beside_head(head.cache.values, scene, seen_with(start, bank.photos), config.beside))
    return start


def _with_cameras_free(scene: Scene, bank: RayBank, prior: HeadPrior, head: PosedHead, start: Start, config: Config) -> Start:
    """Gone on from a start, whose `head` is given, with the cameras free and tied by what photos share, if they share anything."""
    cameras = config.cameras
    start = start._replace(cameras=np.tile(np.eye(4), (bank.photos, 1, 1)))
    shared = shared_points(scene, head, start, config.rays)
    settings = replace(config.start, steps=cameras.match_steps)
    go_on = functools.partial(solve_start, bank, prior, start, settings, config.rays, cameras, shading=config.shading)
    if shared is None:
        return go_on()
    more = functools.partial(match_residuals, *shared, cameras, config.rays)
    start = go_on(more=more)
    head.move(start)
    meet = more(head, 1.0).values.unflatten(0, (2, -1)).norm(dim=0) < _MEETS
    return start._replace(shared=int(meet.sum()) / len(shared[0]))  # rays that miss the head do not meet on it


def seen_with(start: Start, photos: int) -> list[Array]:
    """head_from_world (4, 4) for the rays of each of so many photos, with the cameras' motions where they are refined."""
    return [start.head_from_world] * photos if start.cameras is None else list(start.cameras @ start.head_from_world)


def shared_points(
    scene: Scene, head: PosedHead, start: Start, rays_config: RaysConfig, *, both_ways: bool = True
) -> tuple[Rays, Rays] | None:
    """World rays of one photo and of another, N of each, that see the same spots; None where no two photos share any.

    Args:
        head: of the code of `start`; its surface says where to look.
        start: with the cameras' motions, where they are refined.
        both_ways: find spots of each of two photos in the other; else of the first in the second alone.
    """
    device, sdf = head.mean.device, head.cache.values
    poses = seen_with(start, len(scene.photos))
    photos = [shrunk(_in_head_frame(photo, pose)) for photo, pose in zip(scene.photos, poses, strict=True)]
    surfaces = [_Surface(photo, sdf, rays_config) for photo in photos]
    parts = []
    for i, j in (itertools.permutations if both_ways else itertools.combinations)(range(len(photos)), 2):
        if degrees_between(photos[i], photos[j]) > _APART_DEG:
            continue
        found = match(photos[i], photos[j], surfaces[i].in_camera, surfaces[i].shown_to(photos[j], sdf))
        pixels = (i, found.first), (j, found.second)
        parts.append([rays_through(_as_stated(scene.photos[k], photos[k]), at, k, device) for k, at in pixels])
    if not sum(len(first) for first, _ in parts):
        return None
    first, second = (concatenate(list(rays)) for rays in zip(*parts, strict=True))
    return first, second


class _Surface:
    """What the pixels of a photo see of the head: `in_camera` (H, W, 3), mm, zero where there is nothing."""

    def __init__(self, photo: Photo, sdf: Tensor, rays_config: RaysConfig) -> None:
        origins, directions = photo.camera.rays(photo.camera.pixel_grid()[photo.mask])
        origins, directions = (torch.from_numpy(x).to(sdf) for x in (origins / MM_PER_UNIT, directions))
        found = search_grid(sdf, origins, directions, coarse=rays_config.coarse, fine=rays_config.fine)
        self._points = (origins + found.depth[:, None] * directions)[found.hit]
        self._on = photo.mask.copy()
        self._on[photo.mask] = found.hit.cpu().numpy()
        gradient = query_grids(self._points, [sdf.reshape(-1, 1)])[1:, :, 0].T
        self._normals = torch.nn.functional.normalize(gradient, dim=1)
        self.in_camera = np.zeros((*photo.mask.shape, 3))
        self.in_camera[self._on] = transform_points(photo.camera.camera_from_world, self._points.double().cpu().numpy() * MM_PER_UNIT)

    def shown_to(self, other: Photo, sdf: Tensor) -> Array:
        """Which pixels (H, W) see what faces the camera of another photo with nothing between."""
        eye = torch.from_numpy(other.camera.centre / MM_PER_UNIT).to(self._points)
        towards = torch.nn.functional.normalize(eye - self._points, dim=1)
        shown = ((self._normals * towards).sum(1) > FACING) & seen_from(sdf, self._points, self._normals, towards)
        out = np.zeros(self._on.shape, bool)
        out[self._on] = shown.cpu().numpy()
        return out


def _in_head_frame(photo: Photo, head_from_world: Array) -> Photo:
    """The photo with a camera whose world is the head frame, mm."""
    moved = head_from_world @ photo.camera.world_from_camera
    pose = similarity(1.0, rotation_of(moved), moved[:3, 3] * MM_PER_UNIT)
    return replace(photo, camera=replace(photo.camera, world_from_camera=pose))


def _as_stated(photo: Photo, small: Photo) -> Camera:
    """The scene's own camera for the pixels of the shrunk photo."""
    return replace(small.camera, world_from_camera=photo.camera.world_from_camera)


def match_residuals(first: Rays, second: Rays, cameras: CamerasConfig, rays_config: RaysConfig, head: PosedHead, wider: float) -> Residuals:
    """How far from the ray `second` the head lies where `first` hits it, units, in two directions across that ray.

    Args:
        first, second: world rays of `shared_points`, N of each, through the stated cameras; those of `first` that miss are left out.
        head: in the pose to be judged.
        wider: times `cameras.match_width`, of the robust weight.
    """
    (origins, directions, _), (eyes, sights, _) = head.rays(first), head.rays(second)
    found = search_grid(head.cache.values, origins, directions, coarse=rays_config.coarse, fine=rays_config.fine)
    use = found.hit.nonzero()[:, 0]
    hits, moved = hits_of_moved_rays(head, origins[use], directions[use], found.depth[use])
    points, eyes, sights = hits.points.detach(), eyes[use], sights[use]
    values, by_first, by_second, by_code = [], [], [], []
    for axis in _across(sights):
        by_motion, by_latent = moved.derivatives((axis * hits.points).sum(-1), points)
        by_first.append(by_motion)
        # of axis . (x - o), where a motion takes o and turns the axis with the ray
        by_second.append(torch.cat([-axis, torch.cross(axis, points, dim=-1), -(axis * eyes).sum(-1, keepdim=True)], dim=-1))
        by_code.append(by_latent)
        values.append((axis * (points - eyes)).sum(-1))
    robust, cost = geman_mcclure(torch.stack(values).square().sum(0), cameras.match_width * wider)
    weight = min(cameras.match_count / max(len(use), 1), 1.0) / cameras.match_std**2
    by_rays = tuple(ByRays(rays.photo[use].repeat(2), torch.cat(by)) for rays, by in ((first, by_first), (second, by_second)))
    return Residuals(torch.cat(values), by_rays, torch.cat(by_code), weight * robust.repeat(2), weight * float(cost.sum()))


def _across(directions: Tensor) -> tuple[Tensor, Tensor]:
    """Two unit vectors (N, 3) that stand on each other and on unit `directions` (N, 3)."""
    aside = torch.nn.functional.one_hot(directions.abs().argmin(1), 3).to(directions)
    first = torch.nn.functional.normalize(torch.cross(directions, aside, dim=-1), dim=-1)
    return first, torch.cross(directions, first, dim=-1)

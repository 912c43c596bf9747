"""The fitted head as meshes: as extracted, and with finer triangles where photos and faces ask for them."""

from __future__ import annotations

import functools

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from avatar_kit.config import Config
from avatar_kit.conventions import BOX_MAX, BOX_MIN, CANONICAL_LANDMARKS, scale_of, transform_points
from avatar_kit.kernels.ray_search import search_grid
from avatar_kit.mesh.extraction import extract
from avatar_kit.mesh.refine import onto_surface, subdivide
from avatar_kit.recon.fit import FittedHead
from avatar_kit.recon.rays import shrink
from avatar_kit.render.renderer import vertex_normals
from avatar_kit.render.visibility import visible_vertices
from avatar_kit.types import Array, InputError, Mesh, Scene

_FACE_RADIUS = 0.5  # units around the nose tip
_SEEN_PX = 160  # longer side of a photo: its pixels lie 3 mm apart on a head that fills it, half a cell of the grid that says what is seen
_SEEN_NEAR, _SEEN_FAR = 3.0, 5.0  # such cells from what a photo shows: seen up to the one, unseen from the other
_SEEN_SEARCH = 64, 8  # samples along the photos' rays, coarse and fine


def head_meshes(fitted: FittedHead, scene: Scene, config: Config) -> tuple[Mesh, Mesh]:
    """Two meshes of one surface in the scene's world: as extracted, and refined.

    Raises:
        InputError: the field has no inside.
    """
    seen = functools.partial(seen_share, scene=scene, head_from_world=fitted.head_from_world)
    coarse = extract(fitted.field, fitted.latent, config.mesh, cut_below=fitted.lowest_seen, seen=seen)
    if len(coarse.faces) == 0:
        raise InputError(f"{scene.name}: the fit left no surface. Check that masks are white on the head and cameras match.")
    fine = refined_where_seen(coarse, fitted, scene, config)
    world_from_head = np.linalg.inv(fitted.head_from_world)
    return coarse.transformed(world_from_head), fine.transformed(world_from_head)


def seen_share(sdf: Tensor, scene: Scene, head_from_world: Array) -> Tensor:
    """How far the photos' subjects show the surface around each node of a grid over the box, (n, n, n), 1 or less.

    Args:
        sdf: signed distances at the nodes, (n, n, n), units.
        head_from_world: similarity (4, 4).
    """
    cells, seen = len(sdf) - 1, np.zeros(sdf.shape, bool)
    for photo in scene.photos:
        small = shrink(photo, _SEEN_PX)
        if not small.mask.any():
            continue
        origins, directions = small.camera.rays(small.camera.pixel_grid()[small.mask])
        starts, ends = transform_points(head_from_world, np.stack([origins, origins + directions]))
        along = (ends - starts) / np.linalg.norm(ends - starts, axis=-1, keepdims=True)
        rays = [torch.from_numpy(np.ascontiguousarray(part, np.float32)).to(sdf.device) for part in (starts, along)]
        found = search_grid(sdf, *rays, coarse=_SEEN_SEARCH[0], fine=_SEEN_SEARCH[1])
        points = (rays[0] + rays[1] * found.depth[:, None])[found.hit].cpu().numpy()
        seen[tuple(np.rint((points - BOX_MIN) / (BOX_MAX - BOX_MIN) * cells).astype(int).clip(0, cells).T)] = True
    if not seen.any():
        return torch.zeros_like(sdf)
    away = np.asarray(ndimage.distance_transform_edt(~seen))
    share = ndimage.gaussian_filter(np.clip((_SEEN_FAR - away) / (_SEEN_FAR - _SEEN_NEAR), 0, 1), 1.0, truncate=2.0)
    return torch.from_numpy(share).to(sdf)


def refined_where_seen(mesh: Mesh, fitted: FittedHead, scene: Scene, config: Config) -> Mesh:
    """An extracted mesh, head frame, with finer triangles where the photos see it; its vertices come first."""
    if not config.mesh.refine:
        return mesh
    cell = 2.0 / config.mesh.resolution
    world_from_head = np.linalg.inv(fitted.head_from_world)
    cameras = tuple(photo.camera for photo in scene.photos)
    seen = visible_vertices(mesh.transformed(world_from_head), cameras, tolerance=cell * scale_of(world_from_head))
    chosen = seen & (mesh.vertices[:, 1] > fitted.lowest_seen + cell)  # the cut stays flat
    mesh, new = subdivide(mesh, _all_corners(chosen, mesh))
    mesh.vertices[new] = onto_surface(mesh.vertices[new], vertex_normals(mesh)[new], fitted.field, fitted.latent, reach=cell)
    if not config.mesh.refine_face:
        return mesh
    # Edges are half a cell long by now: their middles lie 3 micrometres from the surface, 0.03 mm for one in a hundred
    chosen = np.concatenate([chosen, np.ones(len(new), bool)]) & _on_face(mesh.vertices)
    return subdivide(mesh, _all_corners(chosen, mesh))[0]


def _all_corners(chosen: Array, mesh: Mesh) -> Array:
    """Which faces (F,) have all their corners among the `chosen` vertices (V,)."""
    first, second, third = chosen[mesh.faces.T]
    return first & second & third


def _on_face(vertices: Array) -> Array:
    """Which `vertices` (V, 3), head frame, are the face's."""
    return np.linalg.norm(vertices - np.array(CANONICAL_LANDMARKS["nose_tip"]), axis=1) < _FACE_RADIUS

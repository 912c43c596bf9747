"""The fitted head as meshes: with the relief that normals show, and with finer triangles where photos and faces ask for them."""

from __future__ import annotations

import functools
from concurrent.futures import Future
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial import KDTree
from torch import Tensor

from avatar_kit.config import Config
from avatar_kit.conventions import BOX_MAX, BOX_MIN, CANONICAL_LANDMARKS, scale_of, transform_points
from avatar_kit.elsewhere import elsewhere
from avatar_kit.kernels.ray_search import search_grid
from avatar_kit.mesh.charts import Charts, charts
from avatar_kit.mesh.extraction import extract
from avatar_kit.mesh.fairing import contradicted, fair
from avatar_kit.mesh.photo_views import PhotoViews
from avatar_kit.mesh.refine import subdivide
from avatar_kit.mesh.relief import photo_normals, relief
from avatar_kit.mesh.unwrap import simplify
from avatar_kit.recon.fit import FittedHead
from avatar_kit.recon.hull import beyond_outlines
from avatar_kit.recon.rays import rays_of_mask, shrink
from avatar_kit.render.renderer import Renderer, vertex_normals
from avatar_kit.types import Array, InputError, Mesh, Scene

_RELIEFS = 2  # of the coarse mesh: where its normals are far off, once goes but part of the way
_FACE_RADIUS = 0.5  # units around the nose tip
_FEATURES_RADIUS = 0.33  # ... within which eyes, nose and mouth lie
_SEEN_PX = 160  # longer side of a photo: its pixels lie 3 mm apart on a head that fills it, half a cell of the grid that says what is seen
_SEEN_NEAR, _SEEN_FAR = 3.0, 5.0  # such cells from what a photo shows: seen up to the one, unseen from the other
_SEEN_SEARCH = 64, 8  # samples along the photos' rays, coarse and fine


class HeadMeshes(NamedTuple):
    """One surface, in the scene's world.

    Attributes:
        light: of few triangles, for viewers.
        charts: of those, to come; None where no texture is asked for.
        fine: of more where the photos show it.
        views: what the photos show of it.
    """

    light: Mesh
    charts: Future[Charts] | None
    fine: Mesh
    views: PhotoViews


def head_meshes(fitted: FittedHead, scene: Scene, config: Config, device: str = "cpu") -> HeadMeshes:
    """The fitted surface as meshes, with the relief that the photos' normals show.

    Args:
        device: of the `Renderer` that says what photos see.

    Raises:
        InputError: the field has no inside.
    """
    config = _meshed_as(config, scene)
    seen = functools.partial(seen_share, scene=scene, head_from_world=fitted.head_from_world)
    margin = config.mesh.outline_margin

    def outside(sdf: Tensor) -> Tensor:
        return beyond_outlines(sdf, scene, fitted.head_from_world) - margin

    mesh = extract(
        fitted.field,
        fitted.latent,
        config.mesh,
        cut_below=fitted.lowest_seen,
        seen=seen,
        outside=outside if margin > 0 else None,
        beside=fitted.beside,
    )
    if len(mesh.faces) == 0:
        raise InputError(f"{scene.name}: the fit left no surface. Check that masks are white on the head and cameras match.")
    coarse = mesh.transformed(np.linalg.inv(fitted.head_from_world))
    views = PhotoViews(scene.photos, Renderer(coarse, device=device))
    if not _given_normals(scene):
        coarse = _faired(coarse, views, fitted, config)
    for _ in range(_RELIEFS):
        coarse = _relieved(coarse, views, fitted, config)
    light, size = simplify(coarse, config.texture.faces), config.texture.size
    laid = elsewhere(charts, light.vertices, light.faces, size) if size else None  # a second
    fine = refined_where_seen(coarse, views, fitted, config)
    _, nearest = KDTree(coarse.vertices).query(light.vertices, workers=-1)
    light = replace(light, vertices=light.vertices + (fine.vertices[: len(coarse.vertices)] - coarse.vertices)[nearest])
    return HeadMeshes(light, laid, fine, views)


def _meshed_as(config: Config, scene: Scene) -> Config:
    """With no more cells than what the photos are sure of deserves."""
    if _given_normals(scene):
        return config
    return replace(config, mesh=replace(config.mesh, resolution=min(config.mesh.resolution, config.mesh.resolution_unsure)))


def _given_normals(scene: Scene) -> bool:
    """Whether some photo came with its normals."""
    return any(photo.has_given_normals for photo in scene.photos)


def _faired(mesh: Mesh, views: PhotoViews, fitted: FittedHead, config: Config) -> Mesh:
    """Without what predicted normals contradict: cracks where hair of the prior's heads ends above all. Features of the face, which are
    small, stay, and so do cuts."""
    if config.mesh.fair == 0 or views.with_normals == 0:
        return mesh
    own = vertex_normals(mesh)
    rings = round(config.mesh.fair * config.mesh.resolution / (BOX_MAX - BOX_MIN))
    wrong = contradicted(mesh, own, photo_normals(views, mesh.vertices, own), rings=rings)
    points = transform_points(fitted.head_from_world, mesh.vertices)
    features = np.linalg.norm(points - np.array(CANONICAL_LANDMARKS["nose_tip"]), axis=1) < _FEATURES_RADIUS
    at_end = (np.abs(points) > BOX_MAX - 4.0 / config.mesh.resolution).any(1)
    return fair(mesh, wrong & ~features & ~at_end & ~_near_cut(mesh.vertices, fitted, 4.0 / config.mesh.resolution))


def _relieved(mesh: Mesh, views: PhotoViews, fitted: FittedHead, config: Config) -> Mesh:
    """With the relief that normals show, if any do; the cut at the bottom stays flat."""
    if config.mesh.relief == 0 or views.with_normals == 0:
        return mesh
    own = vertex_normals(mesh)
    reach = config.mesh.relief / scale_of(fitted.head_from_world)
    held = _near_cut(mesh.vertices, fitted, 4.0 / config.mesh.resolution)
    return relief(mesh, own, photo_normals(views, mesh.vertices, own), reach=reach, held=held)


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
        origins, directions = rays_of_mask(small, head_from_world, sdf.device)
        found = search_grid(sdf, origins, directions, coarse=_SEEN_SEARCH[0], fine=_SEEN_SEARCH[1])
        points = (origins + directions * found.depth[:, None])[found.hit].cpu().numpy()
        seen[tuple(np.rint((points - BOX_MIN) / (BOX_MAX - BOX_MIN) * cells).astype(int).clip(0, cells).T)] = True
    if not seen.any():
        return torch.zeros_like(sdf)
    away = np.asarray(ndimage.distance_transform_edt(~seen))
    share = ndimage.gaussian_filter(np.clip((_SEEN_FAR - away) / (_SEEN_FAR - _SEEN_NEAR), 0, 1), 1.0, truncate=2.0)
    return torch.from_numpy(share).to(sdf)


def refined_where_seen(mesh: Mesh, views: PhotoViews, fitted: FittedHead, config: Config) -> Mesh:
    """A mesh of the fitted surface, in the photos' world, with finer triangles where they see it, and their relief; its vertices
    come first."""
    if not config.mesh.refine:
        return mesh
    cell = 2.0 / config.mesh.resolution
    chosen = views.see(mesh.vertices) & ~_near_cut(mesh.vertices, fitted, cell)
    mesh, new = subdivide(mesh, _all_corners(chosen, mesh))
    mesh = _relieved(mesh, views, fitted, config)
    if not config.mesh.refine_face:
        return mesh
    chosen = np.concatenate([chosen, np.ones(len(new), bool)]) & _on_face(transform_points(fitted.head_from_world, mesh.vertices))
    return subdivide(mesh, _all_corners(chosen, mesh))[0]


def _near_cut(points: Array, fitted: FittedHead, distance: float) -> Array:
    """Which points (N, 3) of the world lie below the lowest that photos see, or at most `distance` units above it."""
    return transform_points(fitted.head_from_world, points)[:, 1] <= fitted.lowest_seen + distance


def _all_corners(chosen: Array, mesh: Mesh) -> Array:
    """Which faces (F,) have all their corners among the `chosen` vertices (V,)."""
    first, second, third = chosen[mesh.faces.T]
    return first & second & third


def _on_face(vertices: Array) -> Array:
    """Which `vertices` (V, 3), head frame, are the face's."""
    return np.linalg.norm(vertices - np.array(CANONICAL_LANDMARKS["nose_tip"]), axis=1) < _FACE_RADIUS

"""The fitted head as meshes: as extracted, and with finer triangles where photos and faces ask for them."""

from __future__ import annotations

import numpy as np

from avatar_kit.config import Config
from avatar_kit.conventions import CANONICAL_LANDMARKS, scale_of
from avatar_kit.mesh.extraction import extract
from avatar_kit.mesh.refine import onto_surface, subdivide
from avatar_kit.recon.fit import FittedHead
from avatar_kit.render.renderer import vertex_normals
from avatar_kit.render.visibility import visible_vertices
from avatar_kit.types import Array, InputError, Mesh, Scene

_FACE_RADIUS = 0.5  # units around the nose tip


def head_meshes(fitted: FittedHead, scene: Scene, config: Config) -> tuple[Mesh, Mesh]:
    """Two meshes of one surface in the scene's world: as extracted, and refined.

    Raises:
        InputError: the field has no inside.
    """
    coarse = extract(fitted.field, fitted.latent, config.mesh, cut_below=fitted.lowest_seen)
    if len(coarse.faces) == 0:
        raise InputError(f"{scene.name}: the fit left no surface. Check that masks are white on the head and cameras match.")
    fine = refined_where_seen(coarse, fitted, scene, config)
    world_from_head = np.linalg.inv(fitted.head_from_world)
    return coarse.transformed(world_from_head), fine.transformed(world_from_head)


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

"""A head mesh as the prior sees it: the latent alone, then latent and grids, fitted to its surface.

The two say what the prior can do: how near a head of its own comes, and how near its grids can go from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import trimesh
from torch import Tensor

from avatar_kit.conventions import transform_points
from avatar_kit.field.head_field import HeadField
from avatar_kit.field.on_grid import sdf_on_grid
from avatar_kit.prior.place import is_turned_over, place
from avatar_kit.prior.project import project
from avatar_kit.prior.samples import sample_head
from avatar_kit.prior.storage import MEAN_SDF_RESOLUTION, HeadPrior
from avatar_kit.types import Array, Head, Mesh

_DRAWS = 4  # of samples: a head's 8192 surface points are few for grids of 6 mm
_ROUNDS = 2  # of placing the mesh on the head that was fitted to it


@dataclass(frozen=True, eq=False)
class MeshFit:
    """What was fitted to a mesh.

    Attributes:
        head: the mesh, head frame.
        moved: similarity (4, 4) that took it there from where it was given.
        closed: signed distances were used; else the surface and the eikonal term.
        latent: the latent alone (L,), of the prior's own field.
        field, field_latent: those of latent (L,) and grids together.
        notes: what was found out about the mesh, in words.
    """

    head: Head
    moved: Array
    closed: bool
    latent: Tensor
    field: HeadField
    field_latent: Tensor
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Samples:
    """Of one head."""

    surface: Array
    space: Array


def fit_mesh(
    prior: HeadPrior, head: Head, *, steps: int, seed: int, free_pose: bool, progress: Callable[[str], None] = lambda stage: None
) -> MeshFit:
    """Fit the prior to `head`, one mesh in the head frame.

    Args:
        steps: of each fit.
        free_pose: its pose is an estimate: place it again on the head that was fitted to it, and fit again.
        progress: called with what is done next, in words.

    Raises:
        InputError: nothing of the mesh lies in the head frame's box.
    """
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    closed, moved = is_closed(head.mesh), np.eye(4)
    notes = ["watertight: fitted to its signed distances" if closed else "not watertight: fitted to its surface, with the eikonal term"]
    samples = _samples(head, rng)
    if is_turned_over(samples.surface[0, :, :3], samples.surface[0, :, 3:], prior.mean_sdf):
        notes.append("its faces were wound inwards: turned over")
        head = replace(head, parts={name: replace(part, faces=part.faces[:, ::-1].copy()) for name, part in head.parts.items()})
        samples = _samples(head, rng)

    progress("latent")
    _, latents = project(prior, samples, [0], steps=steps, generator=generator, distances=closed)
    for number in range(_ROUNDS if free_pose else 0):
        progress(f"pose and latent again, {number + 1} of {_ROUNDS}")
        sdf = sdf_on_grid(prior.field, latents[0], MEAN_SDF_RESOLUTION)
        motion, _ = place(samples.surface[0, :, :3], sdf, [np.eye(4)], rng=rng)
        head, moved = moved_head(head, motion), motion @ moved
        samples = _samples(head, rng)
        _, latents = project(prior, samples, [0], steps=steps, generator=generator, distances=closed)
    progress("latent and grids")
    field, both = project(prior, samples, [0], steps=steps, generator=generator, grids=True, distances=closed)
    return MeshFit(head, moved, closed, latents[0], field.requires_grad_(False), both[0], tuple(notes))


def moved_head(head: Head, matrix: Array) -> Head:
    """A head with its parts and landmarks moved by a similarity (4, 4)."""
    landmarks = {name: transform_points(matrix, point) for name, point in head.landmarks.items()}
    return replace(head, parts={name: part.transformed(matrix) for name, part in head.parts.items()}, landmarks=landmarks)


def is_closed(mesh: Mesh) -> bool:
    """Watertight, once vertices at the same place are one: seams of a texture are no holes."""
    return bool(trimesh.Trimesh(mesh.vertices, mesh.faces, process=True).is_watertight)


def _samples(head: Head, rng: np.random.Generator) -> _Samples:
    drawn = [sample_head(head, rng) for _ in range(_DRAWS)]
    surface, space = (np.concatenate(parts)[None] for parts in zip(*drawn, strict=True))
    return _Samples(surface, space)

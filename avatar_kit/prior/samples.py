"""Training samples: points on and around each head with their signed distances, written once to disk.

A sample folder holds two memory-mapped arrays and an index, so that training needs constant memory and a stopped run
goes on where it was:

    surface.npy  (heads, S, 6) float32  points on the visible surface and outward unit normals, head frame
    space.npy    (heads, N, 4) float32  points in the box and their signed distances (negative inside), units
    index.json   what was asked for, and per head its name and attributes once its rows are written
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avatar_kit.conventions import BOX_MAX, MM_PER_UNIT
from avatar_kit.heads.sampler import check_source
from avatar_kit.types import Array, Head, InputError, Mesh

SURFACE_COUNT, NEAR_COUNT, UNIFORM_COUNT = 8192, 14336, 4096
_NEAR_SPREADS = (0.006, 0.02, 0.06)  # standard deviations of the offset from the surface, units
_FACE_RADIUS = 95.0 / MM_PER_UNIT  # the face of the evaluation: a sphere of 95 mm around the nose tip
_HIDDEN = 0.0025  # units: surface this deep inside another part is not surface


@dataclass(frozen=True)
class HeadRequest:
    """Heads `first` to `first + count - 1` of one source.

    Attributes:
        scans, without: of a folder, names of the files to use (all where there are none) and to leave (`prior.held_out`).
    """

    source: str
    count: int
    seed: int = 0
    first: int = 0
    makehuman_hair: str | None = None
    scans: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As an index holds it: names of scans where there are some."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items() if value != ()}


def sample_head(head: Head, rng: np.random.Generator) -> tuple[Array, Array]:
    """Surface samples (S, 6) and space samples (N, 4) of `head`, as the arrays of a sample folder hold them."""
    from avatar_kit.heads.mouth import mouth_filling
    from avatar_kit.kernels.mesh_queries import UnionQueries

    filling = mouth_filling(head)
    union = UnionQueries([*head.parts.values(), *([filling] if filling else [])])
    nose = head.landmarks.get("nose_tip", np.array([0.0, 0.0, 0.65]))
    points, normals = _surface_points(head.mesh, 3 * SURFACE_COUNT, nose, rng)
    visible = union.signed_distance(torch.from_numpy(points)).numpy() > -_HIDDEN
    if not visible.any():
        raise InputError(f"{head.name}: none of its surface lies inside the head frame's box. Check frame and unit.")
    points, normals = points[visible], normals[visible]
    chosen = rng.permutation(np.resize(np.arange(len(points)), SURFACE_COUNT))
    anchors = points[rng.integers(len(points), size=NEAR_COUNT)]
    spread = rng.choice(_NEAR_SPREADS, size=(NEAR_COUNT, 1), p=(0.5, 0.3, 0.2))
    near = anchors + spread * rng.standard_normal((NEAR_COUNT, 3))
    uniform = rng.uniform(-BOX_MAX, BOX_MAX, (UNIFORM_COUNT, 3))
    space = np.clip(np.concatenate([near, uniform]), -BOX_MAX, BOX_MAX).astype(np.float32)
    space = space[rng.permutation(len(space))]  # so that any slice of it is a fair mixture
    distance = union.signed_distance(torch.from_numpy(space)).numpy()
    surface = np.concatenate([points, normals], axis=1)[chosen]
    return surface.astype(np.float32), np.concatenate([space, distance[:, None]], axis=1).astype(np.float32)


def _surface_points(mesh: Mesh, count: int, nose: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Points (count, 3) on the mesh inside the box and their face normals; half of them on the face."""
    corners = mesh.vertices[mesh.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(cross, axis=1)
    centre = corners.mean(1)
    area = area * (np.abs(centre) < BOX_MAX).all(1)
    if area.sum() <= 0:
        raise InputError("none of the mesh lies inside the head frame's box. Check its frame and unit.")
    on_face = area * (np.linalg.norm(centre - nose, axis=1) < _FACE_RADIUS)
    odds = area / area.sum() + (on_face / on_face.sum() if on_face.sum() > 0 else 0.0)
    faces = rng.choice(len(area), size=count, p=odds / odds.sum())
    weights = rng.dirichlet([1.0, 1.0, 1.0], size=count)
    normals = cross[faces] / np.maximum(np.linalg.norm(cross[faces], axis=1, keepdims=True), 1e-20)
    return (weights[..., None] * corners[faces]).sum(1).astype(np.float32), normals.astype(np.float32)


class SampleFolder:
    """Samples of many heads on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        index = path / "index.json"
        if not index.is_file():
            raise InputError(f"{path}: no index.json in it. Make samples with `avatar-kit prior train --heads ...`.")
        self.index: dict[str, Any] = json.loads(index.read_text())
        self.surface = np.load(path / "surface.npy", mmap_mode="r")
        self.space = np.load(path / "space.npy", mmap_mode="r")

    def __len__(self) -> int:
        return len(self.surface)


def write_samples(
    path: Path, requests: list[HeadRequest], *, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> SampleFolder:
    """Sample all requested heads into `path`; heads that an earlier, stopped call wrote are kept.

    Args:
        workers: processes. Each holds its own copy of the head model (about 1 GB for Anny).
        progress: called with (heads done, heads in all).

    Raises:
        InputError: no such source, or `path` holds the samples of other requests.
    """
    for request in requests:  # before workers wait for it, and before anything is written
        check_source(request.source)
    jobs = [(request, request.first + i) for request in requests for i in range(request.count)]
    asked = [request.as_json() for request in requests]
    path.mkdir(parents=True, exist_ok=True)
    index_file = path / "index.json"
    index = json.loads(index_file.read_text()) if index_file.is_file() else {}
    if index.get("requests") != asked:
        if any(index.get("heads", ())):
            raise InputError(f"{path}: holds samples of other heads. Use another folder, or remove it.")
        shapes = {"surface": (SURFACE_COUNT, 6), "space": (NEAR_COUNT + UNIFORM_COUNT, 4)}
        for name, shape in shapes.items():
            np.lib.format.open_memmap(path / f"{name}.npy", mode="w+", dtype=np.float32, shape=(len(jobs), *shape)).flush()
        index = {"requests": asked, "heads": [None] * len(jobs)}
        _write_json(index_file, index)
    waiting = [i for i, entry in enumerate(index["heads"]) if entry is None]
    done = len(jobs) - len(waiting)
    for row, entry in _run([(str(path), row, *jobs[row]) for row in waiting], workers):
        index["heads"][row] = entry
        done += 1
        if done % 20 == 0 or done == len(jobs):
            _write_json(index_file, index)
        if progress:
            progress(done, len(jobs))
    return SampleFolder(path)


def _run(jobs: list[tuple[str, int, HeadRequest, int]], workers: int) -> Iterator[tuple[int, dict[str, Any]]]:
    if workers <= 1:
        yield from map(_sample_job, jobs)
        return
    from multiprocessing import get_context

    with get_context("spawn").Pool(workers) as pool:  # spawn: Warp and torch do not survive a fork
        yield from pool.imap_unordered(_sample_job, jobs, chunksize=2)


_samplers: dict[HeadRequest, Any] = {}


def _sample_job(job: tuple[str, int, HeadRequest, int]) -> tuple[int, dict[str, Any]]:
    """One head, in a worker process: sample it and write its rows."""
    from avatar_kit.heads.sampler import HeadSampler, open_source

    path, row, request, number = job
    torch.set_num_threads(1)
    if request not in _samplers:
        hair = Path(request.makehuman_hair) if request.makehuman_hair else None
        source = open_source(request.source, scans=request.scans, without=request.without)
        _samplers[request] = HeadSampler(source, seed=request.seed, makehuman_hair=hair)
    head = _samplers[request].head(number)
    surface, space = sample_head(head, np.random.default_rng([request.seed, number, 1]))
    for name, rows in (("surface", surface), ("space", space)):
        array = np.lib.format.open_memmap(f"{path}/{name}.npy", mode="r+")
        array[row] = rows
        array.flush()
    return row, {"name": head.name, "attributes": dict(head.attributes)}


def _write_json(path: Path, content: Any) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content))
    os.replace(part, path)

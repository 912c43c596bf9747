"""How long it takes to score many meshes against one truth, as `eval --dataset` scores its subjects.

    python benchmarks/scoring.py SCENE [--meshes 100] [--vertices 100000] [--jobs 1,2] [--protocols h3ds,metric]

The meshes are the mean head where the scene's photos show the head, each with other smooth bumps. Per number of processes:
seconds of a mesh (median of its scoring alone) and of all of them, start of the processes and making of the meshes included.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from kernels import machine

from avatar_kit.config import MeshConfig
from avatar_kit.mesh.extraction import extract
from avatar_kit.mesh.unwrap import simplify
from avatar_kit.prior.storage import load_prior
from avatar_kit.recon.align import align
from avatar_kit.scene.h3ds import read_reference
from avatar_kit.scene.views import load_scene
from avatar_kit.score.jobs import each
from avatar_kit.score.report import score_mesh
from avatar_kit.types import Camera, Mesh, Reference, Scene

_BUMPS_MM, _WAVES_PER_MM = 0.5, 0.05


def mean_head(scene: Scene, vertices: int) -> Mesh:
    """The mean head in the scene's world, with about so many vertices."""
    prior, resolution = load_prior(), MeshConfig().resolution
    mesh = extract(prior.field, prior.mean_latent, MeshConfig(resolution=resolution))
    while len(mesh.vertices) < vertices:
        resolution += 64
        mesh = extract(prior.field, prior.mean_latent, MeshConfig(resolution=resolution))
    return simplify(mesh, 2 * vertices).transformed(np.linalg.inv(align(scene, prior.mean_sdf)))


def bumpy(mesh: Mesh, seed: int, mm_per_unit: float) -> Mesh:
    """The mesh with three smooth waves added, other ones for each seed."""
    rng = np.random.default_rng(seed)
    waves, phases, ways = rng.normal(0, _WAVES_PER_MM * mm_per_unit, (3, 3)), rng.uniform(0, 2 * np.pi, 3), rng.normal(size=(3, 3))
    moved = mesh.vertices + np.sin(mesh.vertices @ waves.T + phases) @ ways * (_BUMPS_MM / mm_per_unit)
    return replace(mesh, vertices=moved)


def score(
    seed: int, *, base: Mesh, reference: Reference, cameras: tuple[Camera, ...], mm_per_unit: float, protocols: Sequence[str]
) -> tuple[float, float]:
    """Seconds that a mesh took, and its face error in mm by the first protocol."""
    mesh = bumpy(base, seed, mm_per_unit)
    started = time.perf_counter()
    scores = score_mesh(mesh, reference, cameras=cameras, mm_per_unit=mm_per_unit, protocols=protocols)
    return time.perf_counter() - started, scores[protocols[0]]["face_mm"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--meshes", type=int, default=100)
    parser.add_argument("--vertices", type=int, default=100_000)
    parser.add_argument("--jobs", default="1,2")
    parser.add_argument("--protocols", default="h3ds,metric")
    options = parser.parse_args()
    scene, reference = load_scene(options.scene, views=3), read_reference(options.scene)
    if reference is None:
        parser.error(f"{options.scene}: has no truth, full_head.obj.")
    base = mean_head(scene, options.vertices)
    print(machine())
    print(f"{options.meshes} meshes of {len(base.vertices)} vertices, truth of {len(reference.mesh.vertices)}; {options.protocols}")
    work = functools.partial(
        score, base=base, reference=reference, cameras=tuple(photo.camera for photo in scene.photos),
        mm_per_unit=scene.mm_per_world_unit, protocols=options.protocols.split(","),
    )  # fmt: skip
    for jobs in map(int, options.jobs.split(",")):
        started = time.perf_counter()
        answers = dict(each(work, range(options.meshes), jobs))
        total = time.perf_counter() - started
        faces = [answers[number][1] for number in range(options.meshes)]
        median = statistics.median(seconds for seconds, _ in answers.values())
        print(
            f"{jobs} processes: {median:.2f} s a mesh, {total:.1f} s in total; face {np.mean(faces):.3f} mm ± {np.std(faces):.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()

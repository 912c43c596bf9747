"""Random heads of a prior, each checked: one piece, no hole, no handle, no face against the field's gradient.

    python benchmarks/prior_samples.py [FILE] --count 100 --seed 0 [--resolution 128] [--training] [--where] [--out sheet.png]

Looked at twice. In the field, as marching cubes leave its surface: floaters are pieces beside the largest, voids pieces that are
hollows within it, the genus is that of the largest piece. And as extraction returns the head, handles cut: it should be one closed
piece of genus 0. An isosurface cannot cut itself; a face that looks against the field's gradient says that the grid is too coarse for
what is there. --where looks for the field's handles.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import trimesh

from avatar_kit.config import MeshConfig
from avatar_kit.conventions import BOX_MAX, MM_PER_UNIT
from avatar_kit.field.head_field import HeadField
from avatar_kit.field.on_grid import narrow_band
from avatar_kit.kernels.marching_cubes import marching_cubes
from avatar_kit.mesh.extraction import extract, largest_component
from avatar_kit.mesh.gallery import random_latents
from avatar_kit.mesh.topology import Topology, find_handles, topology
from avatar_kit.prior.storage import load_prior
from avatar_kit.render.sheet import contact_sheet
from avatar_kit.types import Mesh

_COARSE = 64  # cells of the first grid, all of whose nodes are evaluated: what is smaller than 6 mm and apart could be missed
_CHUNK, _FACES = 16384, 20_000  # faces whose normals are looked at, drawn at random
_SIDE = 0.035  # units: what reaches the box is closed there, two cells of 128 wide
_BALL = Topology(components=1, genus=0, boundary_loops=0, boundary_edges=0)
_FEW = 0.001  # inverted faces that count as a fault


@dataclass(frozen=True)
class Checked:
    number: int
    kept: Mesh  # the largest piece
    counts: Topology  # of `kept`
    returned: Mesh  # by extraction
    open_edges: int  # of all pieces
    floaters_mm: list[float]  # the longest side of each
    voids_mm: list[float]
    inverted: float  # share

    @property
    def faults(self) -> list[str]:
        found = []
        for name, sizes in (("floaters", self.floaters_mm), ("voids", self.voids_mm)):
            if sizes:
                found.append(f"{len(sizes)} {name}, the largest {max(sizes):.1f} mm")
        if self.open_edges:
            found.append(f"{self.open_edges} open edges")
        if self.counts.genus:
            found.append(f"genus {self.counts.genus}")
        if self.inverted > _FEW:
            found.append(f"{self.inverted:.1%} inverted faces")
        return found

    @property
    def is_ball(self) -> bool:
        """Whether what extraction returns has a sphere's topology."""
        return topology(self.returned) == _BALL


def check(field: HeadField, latent: torch.Tensor, number: int, resolution: int) -> Checked:
    mesh = marching_cubes(narrow_band(field, latent, resolution, coarse=_COARSE))
    pieces = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).split(only_watertight=False)
    apart = sorted(pieces, key=lambda piece: len(piece.faces))[:-1]
    sizes = [(float(piece.extents.max()) * MM_PER_UNIT, piece.volume > 0) for piece in apart]
    kept = largest_component(mesh)
    floaters, voids = ([size for size, full in sizes if full == wanted] for wanted in (True, False))
    inverted = inverted_faces(field, latent, mesh, number)
    returned = extract(field, latent, MeshConfig(resolution=resolution, coarse=_COARSE))
    return Checked(number, kept, topology(kept), returned, topology(mesh).boundary_edges, floaters, voids, inverted)


@torch.no_grad()
def inverted_faces(field: HeadField, latent: torch.Tensor, mesh: Mesh, seed: int) -> float:
    """Share of the faces whose normal points against the field's gradient at their middle; slivers and the box's sides do not count."""
    corners = mesh.vertices[mesh.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    inside = (np.abs(corners) < BOX_MAX - _SIDE).all((1, 2))
    large = np.flatnonzero(inside & (area > 0.05 * np.median(area)))
    chosen = np.random.default_rng(seed).permutation(large)[:_FACES]
    centres = torch.from_numpy(corners[chosen].mean(1)).float()
    condition = field.condition(latent[None])
    gradient = torch.cat([field.with_gradient(part, condition).gradient for part in centres.split(_CHUNK)]).numpy()
    return float(((gradient * mesh.face_normals[chosen]).sum(1) < 0).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", default="default")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spread", type=float, default=1.0)
    parser.add_argument("--training", action="store_true", help="training heads, evenly chosen, instead of random ones")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--where", action="store_true", help="say where the handles are; seconds a head")
    parser.add_argument("--out", type=Path, help="contact sheet of all, .png")
    options = parser.parse_args()
    prior = load_prior(options.file)
    latents = random_latents(prior, options.count, torch.Generator().manual_seed(options.seed), spread=options.spread)
    if options.training:
        latents = prior.latents[torch.linspace(0, len(prior.latents) - 1, options.count).long()]
    kind = "training heads" if options.training else f"random heads, seed {options.seed}, spread {options.spread:g}"
    print(f"{options.file}: {options.count} {kind}, {options.resolution} cells a side\n")
    print("| head | floaters | largest mm | voids | genus | open edges | inverted | faces |\n|" + " --- |" * 8)
    checked = []
    for number, latent in enumerate(latents):
        one = check(prior.field, latent, number, options.resolution)
        checked.append(one)
        row = (number, len(one.floaters_mm), f"{max(one.floaters_mm, default=0):.1f}", len(one.voids_mm), one.counts.genus, one.open_edges)
        print("| " + " | ".join(map(str, row)) + f" | {one.inverted:.2%} | {len(one.kept.faces)} |", flush=True)
        for handle in find_handles(one.kept) if options.where and one.counts.genus else []:
            at = ", ".join(f"{x:.0f}" for x in handle.centre * MM_PER_UNIT)
            print(f"    {handle.genus} within {handle.size * MM_PER_UNIT:.0f} mm around ({at})", flush=True)
    failing = [one for one in checked if one.faults]
    print(f"\nas extracted: {sum(one.is_ball for one in checked)} of {len(checked)} heads are one closed piece without a handle")
    print(f"in the field: {len(failing)} of {len(checked)} heads have a fault")
    for one in failing:
        print(f"head {one.number}: {', '.join(one.faults)}")
    counts = {
        "floaters": [len(one.floaters_mm) for one in checked],
        "floaters of 5 mm and more": [sum(size >= 5 for size in one.floaters_mm) for one in checked],
        "voids": [len(one.voids_mm) for one in checked],
        "genus": [one.counts.genus for one in checked],
        "open edges": [one.open_edges for one in checked],
    }
    print("\n| | heads with any | median | mean | most |\n| --- | --- | --- | --- | --- |")
    for name, values in counts.items():
        print(f"| {name} | {sum(value > 0 for value in values)} | {np.median(values):g} | {np.mean(values):.1f} | {max(values)} |")
    inverted = np.array([one.inverted for one in checked])
    print(f"inverted faces: median {np.median(inverted):.2%}, most {inverted.max():.2%}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet([one.returned for one in checked], tile=96, per_row=5).save(options.out, optimize=True)
        print(options.out)


if __name__ == "__main__":
    main()

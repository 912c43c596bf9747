"""Error against time of ours and of IDR, which ours descends from: the same photos, frame, rays and scores, in one run.

    python benchmarks/idr.py SCENE [--views 3] [--minutes 30] [--every 120] [--json FILE]

IDR (Yariv et al., "Multiview neural surface reconstruction by disentangling geometry and appearance", NeurIPS 2020): one
network of 8 layers of 512 with a skip, geometric initialisation, sphere tracing, colours, masks and an eikonal term; no
prior, no normals, no grids. Learning rates, weights and the sharpening of masks are its paper's, with the number of steps
replaced by the budget of time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import numpy as np
import torch
from kernels import machine
from reference.encoding_twin import positional_encoding
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import avatar_kit as ak
from avatar_kit.config import MeshConfig
from avatar_kit.field.head_field import Condition, Sdf
from avatar_kit.kernels.sphere_tracing import sphere_trace
from avatar_kit.mesh.extraction import extract
from avatar_kit.recon.align import align
from avatar_kit.recon.pose import HeadPose
from avatar_kit.recon.rays import RayBank
from avatar_kit.scene.h3ds import read_reference
from avatar_kit.score.report import mean_head_mesh, score_mesh
from avatar_kit.types import Mesh

WIDTH, LAYERS, SKIP, FREQUENCIES, FEATURES = 512, 8, 4, 6, 256
RAYS, LEARNING_RATE, ALPHA, MASK_WEIGHT, EIKONAL_WEIGHT = 2048, 1e-4, 50.0, 100.0, 0.1
HALVINGS, DOUBLINGS = (0.5, 0.75), (0.125, 0.25, 0.375, 0.5, 0.625)  # of the rate and of alpha: shares of the training, as in the paper


class IdrField(nn.Module):
    """Signed distance and features; answers like a `HeadField` that knows one head."""

    def __init__(self, radius: float) -> None:
        super().__init__()
        encoded = 3 + 6 * FREQUENCIES
        outs = [WIDTH - encoded if i + 1 == SKIP else WIDTH for i in range(LAYERS)]
        self.layers = nn.ModuleList(nn.Linear(encoded if i == 0 else WIDTH, out) for i, out in enumerate(outs))
        self.last = nn.Linear(WIDTH, 1 + FEATURES)
        with torch.no_grad():  # about the distance to a sphere (Atzmon & Lipman 2020)
            for i, layer in enumerate(self.layers):
                layer.bias.zero_()
                layer.weight.normal_(0, math.sqrt(2 / layer.out_features))
                if i == 0:
                    layer.weight[:, 3:] = 0
                elif i == SKIP:
                    layer.weight[:, -(encoded - 3) :] = 0
            self.last.weight.normal_(math.sqrt(math.pi / WIDTH), 1e-4)
            self.last.bias.fill_(-radius)
        for layer in [*self.layers, self.last]:
            weight_norm(layer)

    def all_outputs(self, points: Tensor) -> Tensor:
        """Distance and features, (N, 1 + 256)."""
        encoded = positional_encoding(points, FREQUENCIES, FREQUENCIES, derivatives=False)[0]
        h = encoded
        for i, layer in enumerate(self.layers):
            h = torch.cat([h, encoded], -1) / math.sqrt(2) if i == SKIP else h
            h = nn.functional.softplus(layer(h), beta=100)
        return self.last(h)

    def condition(self, latents: Tensor) -> Condition:
        return Condition(latents)

    def forward(self, points: Tensor, conditions: Condition | None = None) -> Tensor:
        return self.all_outputs(points)[:, 0]

    def with_gradient(self, points: Tensor, conditions: Condition | None = None) -> Sdf:
        with torch.enable_grad():
            points = points.requires_grad_() if points.is_leaf else points
            distance = self(points)
            return Sdf(distance, torch.autograd.grad(distance.sum(), points, create_graph=True)[0])


class IdrColors(nn.Module):
    """Colour from point, normal, view and features: 4 layers of 512."""

    def __init__(self) -> None:
        super().__init__()
        widths = [3 + 3 + 3 + 6 * 4 + FEATURES, WIDTH, WIDTH, WIDTH, WIDTH]
        self.layers = nn.ModuleList(weight_norm(nn.Linear(a, b)) for a, b in itertools.pairwise(widths))
        self.last = weight_norm(nn.Linear(WIDTH, 3))

    def forward(self, points: Tensor, normals: Tensor, directions: Tensor, features: Tensor) -> Tensor:
        views = positional_encoding(directions, 4, 4, derivatives=False)[0]
        h = torch.cat([points, normals, views, features], -1)
        for layer in self.layers:
            h = torch.relu(layer(h))
        return 0.5 + 0.5 * torch.tanh(self.last(h))


def step(field: IdrField, colors: IdrColors, bank: RayBank, pose: HeadPose, generator: torch.Generator, alpha: float) -> Tensor:
    """The loss of one step (their equations 3 and 8 to 11)."""
    world = bank.draw(RAYS, 0.5, generator)
    with torch.no_grad():
        origins, directions, _ = pose.rays(world)
        found = sphere_trace(field, origins, directions).crossings
    on = (found.hit & world.inside).nonzero()[:, 0]
    at = (origins[on] + found.depth[on, None] * directions[on]).requires_grad_()
    sdf = field.with_gradient(at)
    slope = (sdf.gradient * directions[on]).sum(-1).detach()
    slope = torch.where(slope.abs() < 1e-3, torch.full_like(slope, -1e-3), slope)
    points = at.detach() - directions[on] * ((sdf.distance - sdf.distance.detach()) / slope)[:, None]
    features = field.all_outputs(points)[:, 1:]
    normals = nn.functional.normalize(sdf.gradient, dim=-1)
    color = (colors(points, normals, directions[on], features) - world.colors[on]).abs().sum() / RAYS
    off = (~(found.hit & world.inside) & torch.isfinite(found.closest_value)).nonzero()[:, 0]
    nearest = field(origins[off] + directions[off] * found.closest_depth[off, None])
    mask = nn.functional.binary_cross_entropy_with_logits(-alpha * nearest, world.inside[off].float(), reduction="sum") / (alpha * RAYS)
    space = torch.rand(RAYS // 2, 3, generator=generator) * 2 - 1
    gradients = torch.cat([sdf.gradient, field.with_gradient(space).gradient])
    eikonal = (gradients.norm(dim=-1) - 1).square().mean()
    return color + MASK_WEIGHT * mask + EIKONAL_WEIGHT * eikonal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--every", type=float, default=120, help="seconds of training between scores")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    reference = read_reference(options.scene)
    if reference is None:
        raise SystemExit(f"{options.scene}: has no full_head.obj to score against.")
    scene, prior = ak.load_scene(options.scene, views=options.views), ak.load_prior()
    unit = scene.mm_per_world_unit

    def score(mesh: Mesh) -> dict[str, float]:
        found = score_mesh(mesh, reference, mm_per_unit=unit)
        return {"face_mm": found["h3ds"]["face_mm"], "head_mm": found["h3ds"]["head_mm"], "metric_face_mm": found["metric"]["face_mm"]}

    print(machine())
    ours = ak.reconstruct(scene, prior=prior)
    rows: list[dict[str, float | str]] = [{"method": "ours", "seconds": ours.seconds["total"], **score(ours.mesh)}]
    started = time.perf_counter()
    head_from_world = align(scene, prior.mean_sdf)
    rows.append({"method": "mean head", "seconds": time.perf_counter() - started, **score(mean_head_mesh(prior, head_from_world))})
    print("| method | seconds | steps | face mm | head mm | face mm, unaligned |\n| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        _print(row, 0)

    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    field, colors = IdrField(radius=0.6), IdrColors()
    bank, pose = RayBank(scene, 256, torch.device("cpu")), HeadPose(head_from_world, torch.device("cpu"))
    optimizer = torch.optim.Adam([*field.parameters(), *colors.parameters()], lr=LEARNING_RATE)
    world_from_head = np.linalg.inv(head_from_world)
    spent, steps, due, budget = 0.0, 0, options.every, options.minutes * 60
    while spent < budget:
        started = time.perf_counter()
        share = spent / budget
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * 0.5 ** sum(share > at for at in HALVINGS)
        loss = step(field, colors, bank, pose, generator, ALPHA * 2 ** sum(share > at for at in DOUBLINGS))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        spent, steps = spent + time.perf_counter() - started, steps + 1
        if spent >= due or spent >= budget:
            due += options.every
            mesh = extract(field, torch.zeros(1), MeshConfig(resolution=192), cut_below=ours.fitted.lowest_seen)  # type: ignore[arg-type]
            if len(mesh.faces):
                rows.append(
                    {
                        "method": "IDR",
                        "seconds": spent,
                        **score(mesh.transformed(world_from_head)),
                    }
                )
                _print(rows[-1], steps)
    best = min((row for row in rows if row["method"] == "IDR"), key=lambda row: row["face_mm"])
    first = rows[0]
    print(f"\nIDR's best face: {best['face_mm']:.2f} mm after {best['seconds']:.0f} s")
    print(f"ours: {first['face_mm']:.2f} mm after {first['seconds']:.1f} s; 1 world unit = {unit:g} mm")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def _print(row: dict, steps: int) -> None:
    numbers = " | ".join(f"{row[name]:.2f}" for name in ("face_mm", "head_mm", "metric_face_mm"))
    print(f"| {row['method']} | {row['seconds']:.1f} | {steps} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()

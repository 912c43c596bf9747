"""Errors and seconds over a folder of scenes with a truth, as a table.

    python benchmarks/scenes.py ROOT [--views 1,3,6] [--normals given|predicted|none] [--seeds 1] [--only NAME,NAME]
        [--prior FILE] [--device cpu|cuda] [--set STAGE.FIELD=VALUE]

Scenes without normal maps can be given some with `avatar-kit data capture SCENE --normals-only`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import avatar_kit as ak
from avatar_kit.backends import pick_device
from avatar_kit.config import PRESETS, override
from avatar_kit.scene.h3ds import read_reference
from avatar_kit.score.report import score_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--views", default="1,3,6")
    parser.add_argument("--normals", choices=["given", "predicted", "none"], default="given")
    parser.add_argument("--weights", help="of the network that predicts normals; the shipped one by default")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only")
    parser.add_argument("--prior", default="default")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="cpu")
    parser.add_argument("--set", action="append", default=[], metavar="STAGE.FIELD=VALUE")
    options = parser.parse_args()
    device = pick_device(options.device)
    prior, config = ak.load_prior(options.prior, device), override(PRESETS["fast"], options.set)
    net = None if options.normals == "none" else options.weights or "default"
    names = options.only.split(",") if options.only else sorted(p.name for p in options.root.iterdir() if p.is_dir())
    print("| scene | views | seed | face (mean head) | head | metric face | head seen | fit s | total s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    faces = []
    for name in names:
        reference = read_reference(options.root / name)
        if reference is None:
            continue
        for views in map(int, options.views.split(",")):
            scene = ak.load_scene(options.root / name, views=views)
            if options.normals != "given":
                scene = scene.without_normals()
            for seed in range(options.seeds):
                result = ak.reconstruct(scene, prior=prior, normal_net=net, seed=seed, config=config, device=device)
                scores = score_run(result, prior, reference)
                ours, mean = scores["reconstruction"], scores["mean head"]
                faces.append(ours["h3ds"]["face_mm"])
                print(
                    f"| {name} | {views} | {seed} | {ours['h3ds']['face_mm']:.2f} ({mean['h3ds']['face_mm']:.2f}) "
                    f"| {ours['h3ds']['head_mm']:.2f} | {ours['metric']['face_mm']:.2f} | {ours['metric']['head_visible_mm']:.2f} "
                    f"| {result.seconds['fit']:.1f} | {result.seconds['total']:.1f} |",
                    flush=True,
                )
    print(f"\nface, mean over rows {np.mean(faces):.3f} mm, standard deviation {np.std(faces):.3f} mm")


if __name__ == "__main__":
    main()

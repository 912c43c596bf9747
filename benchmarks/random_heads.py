"""Unseen heads with hair, photographed and reconstructed: errors in mm, failures, seconds.

    python benchmarks/random_heads.py --count 10 [--first 0] [--views 1,3,6] [--normals given,predicted] [--source anny] [--hair DIR]
        [--set ...]

A failure is no mesh, a value that is not finite, or a face more than 3 mm off (h3ds protocol).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from avatar_kit.config import PRESETS, override
from avatar_kit.heads.sampler import HeadSampler, open_source
from avatar_kit.normals.storage import load_estimator
from avatar_kit.prior.storage import load_prior
from avatar_kit.recon.pipeline import reconstruct
from avatar_kit.scene.capture import LAYOUT, NOTES, capture_head
from avatar_kit.score.report import score_mesh
from avatar_kit.types import InputError, Photo, Scene

SEED = 70_001  # of heads that no training saw
WORST_MM = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="number of the first head, to go on or to share the work")
    parser.add_argument("--views", default="3")
    parser.add_argument("--normals", default="given,predicted")
    parser.add_argument("--source", action="append", help="anny or ict:FILE; several take turns")
    parser.add_argument("--hair", type=Path)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    options = parser.parse_args()
    sources = options.source or ["anny"]
    samplers = [HeadSampler(open_source(source), seed=SEED, makehuman_hair=options.hair) for source in sources]
    config = override(PRESETS["fast"], ["texture.size=0", *options.overrides])
    prior, net = load_prior(), load_estimator(None)
    errors: dict[tuple[str, int], list[list[float]]] = {}
    failures: list[str] = []
    for number in range(options.first, options.first + options.count):
        head = samplers[number % len(samplers)].head(number)
        photos, reference = capture_head(head, size=options.size, views=6, rng=np.random.default_rng([SEED, number]))
        for count in map(int, options.views.split(",")):
            for kind in options.normals.split(","):
                name = f"{head.name}, {count} views, normals {kind}"
                try:
                    result = reconstruct(scene_of(photos, count, kind), prior=prior, config=config, normal_net=net, seed=number)
                except InputError as error:
                    failures.append(f"{name}: {error}")
                    continue
                scores = score_mesh(result.mesh, reference, cameras=tuple(photo.camera for photo in result.scene.photos))
                row = [scores["h3ds"]["face_mm"], scores["h3ds"]["face_raw_mm"], scores["metric"]["head_visible_mm"], result.seconds["fit"]]
                errors.setdefault((kind, count), []).append(row)
                if not np.isfinite(row).all() or not np.isfinite(result.mesh.vertices).all() or row[0] > WORST_MM:
                    failures.append(f"{name}: face {row[0]:.2f} mm")
                print(f"{name}: face {row[0]:.2f}, raw {row[1]:.2f}, head seen {row[2]:.2f} mm, fit {row[3]:.1f} s", flush=True)
    print("\n| normals | views | heads | face | worst face | face raw | head seen | fit s |\n|" + " --- |" * 8)
    for (kind, count), rows in errors.items():
        face, raw, seen, seconds = np.array(rows).T
        means = f"{face.mean():.2f} | {face.max():.2f} | {raw.mean():.2f} | {seen.mean():.2f} | {seconds.mean():.1f}"
        print(f"| {kind} | {count} | {len(rows)} | {means} |")
    print(f"\n{len(failures)} failures", *failures, sep="\n")


def scene_of(photos: list[Photo], count: int, normals: str) -> Scene:
    ids = NOTES["view_configs"][str(count)]
    chosen = [photos[i] if normals == "given" else replace(photos[i], normals=None) for i in ids if i < len(LAYOUT)]
    return Scene(tuple(chosen), tuple(ids), "head")


if __name__ == "__main__":
    main()

"""Predicted normals, masks, coordinates and poses over a folder of scenes with a truth, as a table; and the time they take.

    python benchmarks/normals.py ROOT [--weights FILE] [--only NAME,NAME]

Coordinates and poses are compared with the head frame of a reconstruction from six photos with the true normals, so
ROOT needs those: `avatar-kit data capture SCENE --normals-only`.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np

import avatar_kit as ak
from avatar_kit.normals.evaluate import evaluate_scene
from avatar_kit.normals.predict import predict_normals
from avatar_kit.normals.storage import load_estimator
from avatar_kit.scene.h3ds import H3dsFolder

COLUMNS = ["degrees", "face_degrees", "iou", "front_face_coordinates_mm", "front_pose_degrees", "pose_degrees", "refused"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--weights", type=Path, help="the shipped network by default")
    parser.add_argument("--only")
    options = parser.parse_args()
    net = load_estimator(options.weights)
    names = options.only.split(",") if options.only else sorted(p.name for p in options.root.iterdir() if p.is_dir())
    time_one_photo(net, H3dsFolder(options.root / names[0]))
    print("| scene | " + " | ".join(COLUMNS) + " |\n|" + " --- |" * (len(COLUMNS) + 1))
    rows = []
    for name in names:
        truth = ak.reconstruct(ak.load_scene(options.root / name, views=6), normal_net=None).fitted.head_from_world
        scores = evaluate_scene(net, H3dsFolder(options.root / name), head_from_world=truth)
        rows.append([scores.get(column, np.nan) for column in COLUMNS])
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in rows[-1]) + " |", flush=True)
    print("| mean | " + " | ".join(f"{value:.2f}" for value in np.nanmean(rows, axis=0)) + " |")


def time_one_photo(net, folder: H3dsFolder) -> None:
    """Seconds for one photo with its mask, all passes and the mirrored one included, and the process's peak memory."""
    photo = folder.photo(folder.view_ids[0])
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        predict_normals(photo.image, net, photo.mask, intrinsics=photo.camera.intrinsics)
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"one photo of {photo.image.shape[1]} x {photo.image.shape[0]}: {np.median(seconds[1:]):.2f} s, peak memory {peak:.0f} MB\n")


if __name__ == "__main__":
    main()

"""What each ingredient of the training pairs is worth: short trainings without it, scored on pairs that have everything.

    python benchmarks/ingredients.py --work DIR [--minutes 10] [--pairs 64] [--scenes ROOT] [-- OPTIONS OF `normals train`]

All trainings start alike and take equally long. A training that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
from avatar_kit_cli.main import main as avatar_kit

from avatar_kit.normals.evaluate import evaluate_scene
from avatar_kit.normals.storage import load_normals
from avatar_kit.scene.h3ds import H3dsFolder

LEFT_OUT = [None, "hair", "hard_light", "textures", "occluders"]
COLUMNS = ["held_out_degrees", "held_out_face_degrees", "held_out_iou", "held_out_face_coordinates_mm"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--pairs", type=int, default=64, help="held out")
    parser.add_argument("--scenes", type=Path, help="also score on the scenes of this folder")
    parser.add_argument("train", nargs="*", help="options of `avatar-kit normals train`")
    options = parser.parse_args()
    print("| without | " + " | ".join(COLUMNS) + " | scenes, face degrees |\n|" + " --- |" * (len(COLUMNS) + 2))
    for name in LEFT_OUT:
        work = options.work / (name or "nothing")
        file = work / "normals.safetensors"
        if not file.is_file():
            for held_out in (options.work / "nothing").glob("held_out_*"):  # the same for all, and slow to make
                shutil.copytree(held_out, work / held_out.name, dirs_exist_ok=True)
            command = ["normals", "train", "--out", file, "--work", work, "--minutes", options.minutes, "--resume", *options.train]
            command += ["--set", f"normals_training.validation_pairs={options.pairs}", *(["--without", name] if name else [])]
            avatar_kit([str(part) for part in command])
        net, card = load_normals(file)
        faces = [np.nan]
        if options.scenes:
            folders = sorted(path for path in options.scenes.iterdir() if path.is_dir())
            faces = [evaluate_scene(net, H3dsFolder(folder))["face_degrees"] for folder in folders]
        scores = [card["scores"][column] for column in COLUMNS]
        print(f"| {name or 'nothing'} | " + " | ".join(f"{s:.2f}" for s in scores) + f" | {np.mean(faces):.2f} |", flush=True)


if __name__ == "__main__":
    main()

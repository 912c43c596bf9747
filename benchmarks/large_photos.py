"""Three photos of 12 megapixels: what it takes to read and understand them, and the whole command beside the one with cameras and masks.

    python benchmarks/large_photos.py SCENE [--repeats 3] [--whole]

The photos are SCENE's frontal one and those from 45 degrees left and right, enlarged to 4000 x 3000 with their borders
continued, as JPEG. --whole also runs `avatar-kit recon` on them and on the scene itself, by turns, both with predicted normals.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from avatar_kit.normals.storage import load_estimator
from avatar_kit.photos.folder import read_plain_photos
from avatar_kit.photos.scene import scene_from_photos
from avatar_kit.photos.understand import understand
from avatar_kit.scene.h3ds import H3dsFolder
from avatar_kit.scene.photo_file import read_photo
from avatar_kit.scene.views import choose_views

WIDTH, HEIGHT = 4000, 3000


def enlarge(file: Path, to: Path) -> None:
    """A photo as one of 12 megapixels, its middle kept in the middle."""
    image = read_photo(file).image
    scale = min(WIDTH / image.shape[1], HEIGHT / image.shape[0])
    large = cv2.resize(np.ascontiguousarray(image), None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    across, down = WIDTH - large.shape[1], HEIGHT - large.shape[0]
    large = cv2.copyMakeBorder(large, down // 2, down - down // 2, across // 2, across - across // 2, cv2.BORDER_REPLICATE)
    Image.fromarray(np.round(np.clip(large, 0, 1) * 255).astype(np.uint8)).save(to, quality=92)


def timed(work: Callable[[], object], repeats: int) -> float:
    """Median seconds, after one run to warm up."""
    spent = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        work()
        spent.append(time.perf_counter() - started)
    return statistics.median(spent[1:])


def command(source: Path, out: Path) -> float:
    """Seconds of the whole command, from the shell."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "avatar_kit_cli.main", "recon", source, "--views", "3", "--out", out], check=True, capture_output=True
    )
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--whole", action="store_true")
    options = parser.parse_args()
    folder = H3dsFolder(options.scene)
    with tempfile.TemporaryDirectory() as place:
        photos, posed = Path(place) / "photos", Path(place) / "posed"
        photos.mkdir()
        for view in choose_views(folder, 3):
            enlarge(folder.images[view], photos / f"{folder.images[view].stem}.jpg")
        net = load_estimator(None)
        plain = list(read_plain_photos(photos))
        print(f"read three photos: {timed(lambda: list(read_plain_photos(photos)), options.repeats):.2f} s")
        print(f"understand three: {timed(lambda: [understand(each, net) for each in plain], options.repeats):.2f} s")
        print(f"all of it, focal lengths and common cameras too: {timed(lambda: scene_from_photos(photos, net), options.repeats):.2f} s")
        if not options.whole:
            return
        shutil.copytree(options.scene, posed, ignore=shutil.ignore_patterns("normal", "full_head.obj"))
        rows = [[command(source, Path(place) / f"out{turn}{source.name}") for source in (photos, posed)] for turn in range(options.repeats)]
        without, given = np.median(np.array(rows), axis=0)
        print(f"recon: {without:.1f} s; with cameras and masks {given:.1f} s; {without - given:+.1f} s")


if __name__ == "__main__":
    main()

"""Scenes without their cameras and masks, against the same scenes with them: poses, masks and the face's error.

    python benchmarks/plain_photos.py SCENE... [--views 3] [--reconstruct] [--seed 0]

Per scene: the error of the rotation between each pair of views and of each view's direction (after one rotation that takes
the estimated frame to the true one), before and after the cameras are refined, masks' intersection over union with the truth
in the part of the photo that is used, and, with --reconstruct, the face's error by the h3ds protocol.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from avatar_kit.config import PLAIN_PRESETS, override
from avatar_kit.conventions import MM_PER_UNIT, similarity
from avatar_kit.normals.evaluate import angle_between_deg
from avatar_kit.normals.storage import load_estimator
from avatar_kit.photos.scene import PlainScene, scene_from_photos
from avatar_kit.photos.understand import Understood
from avatar_kit.prior.storage import load_prior
from avatar_kit.recon.pipeline import reconstruct
from avatar_kit.scene.h3ds import H3dsFolder, read_reference
from avatar_kit.scene.views import choose_views, load_scene
from avatar_kit.score.report import score_mesh
from avatar_kit.types import Array, Camera, Mesh


def plain_scene(folder: H3dsFolder, net, views: list[int], place: Path) -> PlainScene:
    """Of links to the photos alone."""
    place.mkdir()
    for view in views:
        (place / folder.images[view].name).symlink_to(folder.images[view].resolve())
    return scene_from_photos(place, net)


def view_of(seen: Understood) -> int:
    return int("".join(c for c in Path(seen.name).stem if c.isdigit()))


def pose_errors(estimated: list[Camera], true: list[Camera]) -> tuple[Array, Array]:
    """Degrees: rotation between pairs of views, and direction of views, from the head, in a common frame."""
    to_true = [t.world_from_camera[:3, :3] @ e.world_from_camera[:3, :3].T for e, t in zip(estimated, true, strict=True)]
    common = Rotation.from_matrix(to_true).mean().as_matrix()
    pairs = [angle_between_deg(to_true[i], to_true[j]) for i, j in itertools.combinations(range(len(true)), 2)]
    directions = []
    for e, t in zip(estimated, true, strict=True):
        cosine = (common @ e.world_from_camera[:3, 2]) @ t.world_from_camera[:3, 2]
        directions.append(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
    return np.array(pairs or [0.0]), np.array(directions)


def overlap(seen: Understood, mask: Array) -> float:
    """Intersection over union of the photo's mask with the true one, in the part that is used."""
    k, (height, width) = seen.photo.camera.intrinsics, mask.shape
    scale = k[0, 0] / seen.focal_px  # of the part's pixels, per pixel of the photo
    rows, columns = np.mgrid[: seen.photo.camera.height, : seen.photo.camera.width] + 0.5
    x, y = (columns - k[0, 2]) / scale + width / 2, (rows - k[1, 2]) / scale + height / 2
    true = mask[np.clip(y.astype(int), 0, height - 1), np.clip(x.astype(int), 0, width - 1)]
    return float((true & seen.photo.mask).sum() / (true | seen.photo.mask).sum())


def in_true_world(mesh: Mesh, estimated: list[Camera], true: list[Camera]) -> Mesh:
    """A mesh of the estimated frame (mm) where the true cameras would have it; the protocol's ICP does the rest."""
    to_true = [t.world_from_camera[:3, :3] @ e.world_from_camera[:3, :3].T for e, t in zip(estimated, true, strict=True)]
    turn = Rotation.from_matrix(to_true).mean().as_matrix()
    # the head's middle: nearest to the rays that should see it, at the estimated sight lines
    lines, origins = [], []
    for e, t in zip(estimated, true, strict=True):
        pixel, _ = e.project(np.array([0.0, 0.0, 0.3 * MM_PER_UNIT]))
        ray = np.linalg.inv(e.intrinsics) @ np.append(pixel, 1.0)
        lines.append(t.world_from_camera[:3, :3] @ (ray / np.linalg.norm(ray)))
        origins.append(t.centre)
    across = [np.eye(3) - np.outer(line, line) for line in lines]
    if len(lines) > 1:
        middle = np.linalg.solve(sum(across), sum(a @ o for a, o in zip(across, origins, strict=True)))
    else:
        e, t = estimated[0], true[0]
        distance = np.linalg.norm(e.centre - (0, 0, 0.3 * MM_PER_UNIT)) * t.intrinsics[0, 0] / e.intrinsics[0, 0]
        middle = origins[0] + lines[0] * distance
    return mesh.transformed(similarity(1.0, turn, middle - turn @ np.array([0.0, 0.0, 0.3 * MM_PER_UNIT])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="+", type=Path)
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--reconstruct", action="store_true")
    parser.add_argument("--seed", type=int, default=0, help="of the fits")
    options = parser.parse_args()
    net, prior = load_estimator(None), load_prior("default")
    config = override(PLAIN_PRESETS["fast"], ["texture.size=0"])
    for path in options.scenes:
        folder = H3dsFolder(path)
        with tempfile.TemporaryDirectory() as place:
            everything = plain_scene(folder, net, folder.view_ids, Path(place) / "all")
            chosen = plain_scene(folder, net, choose_views(folder, options.views), Path(place) / path.name)
        truth = {view: folder.photo(view) for view in folder.view_ids}

        def errors(plain: PlainScene, cameras: list[Camera], truth=truth) -> str:
            if len(cameras) == 1:
                return "nothing to compare"
            pairs, directions = pose_errors(cameras, [truth[view_of(seen)].camera for seen in plain.understood])
            return f"between views {np.median(pairs):.1f} deg, direction {np.median(directions):.1f} deg (medians)"

        iou = np.mean([overlap(seen, truth[view_of(seen)].mask) for seen in everything.understood])
        print(f"{path.name}: {len(everything.understood)} of {len(folder.view_ids)} photos understood, mask IoU {iou:.3f}")
        print(f"  all photos: {errors(everything, [photo.camera for photo in everything.scene.photos])}")
        print(f"  {options.views} views: {errors(chosen, [photo.camera for photo in chosen.scene.photos])}")
        if options.reconstruct:
            result = reconstruct(chosen.scene, prior=prior, config=config, normal_net=net, seed=options.seed)
            cameras = [photo.camera for photo in result.scene.photos]
            print(f"  {options.views} views, refined: {errors(chosen, cameras)}")
            reference = read_reference(path)
            assert reference is not None
            placed = in_true_world(result.mesh, cameras, [truth[view_of(seen)].camera for seen in chosen.understood])
            plain_face = score_mesh(placed, reference)["h3ds"]["face_mm"]
            given = reconstruct(load_scene(path, views=options.views), prior=prior, normal_net=net, seed=options.seed)
            face = score_mesh(given.mesh, reference)["h3ds"]["face_mm"]
            print(f"  face {plain_face:.2f} mm; with cameras and masks {face:.2f} mm; ratio {plain_face / face:.2f}", flush=True)


if __name__ == "__main__":
    main()

"""Synthetic subjects that no training saw, three photographs each from anywhere in front: how well plain photos are understood.

    python benchmarks/plain_subjects.py --count 50 --out DIR [--source anny --source ict:FILE] [--hair DIR] [--skins DIR]
                                        [--no-exif] [--refined] [--sheet 3]

The photographs of a subject show the same head, hair and skin from yaws within 60 degrees to each side, by one lens of 24
to 85 mm (35 mm equivalent, in their EXIF), in another light and before another backdrop each time. A subject succeeds when
all its photos are used and the rotation between each two is less than 15 degrees off. Printed: the share that does, median
errors, and of each that fails what the toolkit said. DIR keeps the photographs (which are used again), truth.json,
results.json and, with --sheet, the first subjects on one sheet.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from avatar_kit.config import PLAIN_PRESETS
from avatar_kit.conventions import rotation_of
from avatar_kit.heads.sampler import HeadSampler, open_source
from avatar_kit.normals import backdrop, film, lens
from avatar_kit.normals.evaluate import angle_between_deg
from avatar_kit.normals.light import draw_light, shade
from avatar_kit.normals.materials import SkinImages, Wardrobe
from avatar_kit.normals.noise import unit
from avatar_kit.normals.occluders import draw_wisps
from avatar_kit.normals.storage import load_estimator
from avatar_kit.normals.subject import Subject, facing
from avatar_kit.normals.surface import bumped
from avatar_kit.normals.texture import RememberedSource, anny_texture
from avatar_kit.photos.scene import PlainScene, scene_from_photos
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.scene.photo_file import FULL_FRAME_DIAGONAL_MM
from avatar_kit.types import Array, Camera, InputError

SEED = 80_001  # of heads that no training saw
PHOTOS = 3
WORST_DEG = 15.0
_RENDERED_PX, _HEIGHT_PX, _WIDTH_PX = 768, 640, 480
_HEAD_UNITS = 1.2  # from the chin to the top of the hair, roughly
_NEAREST = 1.75  # units: 35 cm


@dataclass(frozen=True)
class Studio:
    """What all subjects share: where heads and skins come from."""

    samplers: list[HeadSampler]
    skins: SkinImages | None

    def photograph(self, number: int, place: Path, *, seed: int, exif: bool) -> None:
        """Write the photographs of subject `number` and their cameras (world: the head frame, units) to `place`."""
        sampler = self.samplers[number % len(self.samplers)]
        head = sampler.head(number)
        uv = anny_texture(sampler.source, head) if self.skins is not None and isinstance(sampler.source, RememberedSource) else None
        subject = Subject(head, uv)
        rng = np.random.default_rng([seed, number])
        skin = self.skins.draw(rng) if self.skins is not None else None
        focal_mm = int(rng.integers(24, 86))
        looks = int(rng.integers(1 << 31))  # draws the same skin and hair for each photo
        place.mkdir(parents=True)
        cameras = []
        for name in "abc"[:PHOTOS]:
            camera = draw_camera(subject, focal_mm, rng)
            image = take(subject, camera, Wardrobe(subject, np.random.default_rng(looks), image=skin, textured=True), rng)
            said = Image.Exif()
            if exif:
                said.get_ifd(0x8769)[0xA405] = focal_mm
            margin = (_HEIGHT_PX - _WIDTH_PX) // 2
            codes = np.round(np.clip(image[:, margin : margin + _WIDTH_PX], 0, 1) * 255).astype(np.uint8)
            Image.fromarray(codes).save(place / f"{name}.jpg", quality=92, exif=said)
            cameras.append({"name": f"{name}.jpg", "world_from_camera": camera.world_from_camera.tolist()})
        truth = {"head": head.name, "hair": head.attributes.get("hair", ""), "focal_mm": focal_mm, "photos": cameras}
        (place / "truth.json").write_text(json.dumps(truth))


def draw_camera(subject: Subject, focal_mm: float, rng: np.random.Generator) -> Camera:
    """A square camera, `_RENDERED_PX` wide, whose middle part is the photo; the head lies off its middle, mostly below."""
    hair = subject.parts.get("hair")
    middle = lens.head_points(subject.parts["body"].vertices, None if hair is None else hair.vertices, subject.landmarks["chin"]).mean(0)
    focal_px = focal_mm * float(np.hypot(_HEIGHT_PX, _WIDTH_PX)) / FULL_FRAME_DIAGONAL_MM
    distance = max(focal_px * _HEAD_UNITS / (rng.uniform(0.32, 0.55) * _HEIGHT_PX), _NEAREST)
    camera = orbit_camera(
        yaw_deg=rng.uniform(-60, 60), pitch_deg=float(np.clip(rng.normal(0, 8), -20, 20)), roll_deg=rng.normal(0, 5), distance=distance,
        target=middle, focal_px=focal_px * _RENDERED_PX / _HEIGHT_PX, size=_RENDERED_PX,
    )  # fmt: skip
    aside = np.array([rng.uniform(-0.12, 0.12) * _WIDTH_PX, rng.uniform(-0.05, 0.15) * _HEIGHT_PX]) / focal_px  # where the head appears
    turn = Rotation.from_euler("xy", [np.arctan(aside[1]), -np.arctan(aside[0])]).as_matrix()
    world_from_camera = camera.world_from_camera.copy()
    world_from_camera[:3, :3] = world_from_camera[:3, :3] @ turn
    return replace(camera, world_from_camera=world_from_camera)


def take(subject: Subject, camera: Camera, wardrobe: Wardrobe, rng: np.random.Generator) -> Array:
    """A photograph (`_HEIGHT_PX`, `_HEIGHT_PX`, 3), as `normals.pairs` makes them but for what stands in front."""
    seen = subject.see(camera)
    light = draw_light(rng, unit(camera.centre))
    surface = wardrobe.surface(seen)
    seen = replace(seen, normals=facing(bumped(seen.normals, surface.relief), -seen.towards))
    picture, _ = backdrop.draw_backdrop(camera.width, wardrobe.tone, rng)
    flat = picture.reshape(-1, 3)
    flat[seen.pixel] = film.expose(shade(surface, seen, subject, light, rng), rng)
    picture = flat.reshape(camera.height, camera.width, 3)
    if not wardrobe.stone:
        draw_wisps(picture, seen, surface.strand @ camera.world_from_camera[:3, :2].astype(np.float32), wardrobe.hair_color, rng)
    return film.develop(cv2.resize(picture, (_HEIGHT_PX, _HEIGHT_PX), interpolation=cv2.INTER_AREA), rng)


def rotation_errors(found: dict[str, Array], true: dict[str, Array]) -> dict[str, float]:
    """Degrees, by pair of photos, of rotations (3, 3) world_from_camera by name."""
    return {
        f"{a[0]}{b[0]}": angle_between_deg(true[a].T @ true[b], found[a].T @ found[b]) for a, b in itertools.combinations(sorted(found), 2)
    }


def refined(plain: PlainScene, prior: Any) -> dict[str, Array]:
    """Rotations of the cameras where the start of the fit moves them."""
    import torch

    from avatar_kit.recon.align import align
    from avatar_kit.recon.matches import tied_start
    from avatar_kit.recon.rays import RayBank

    config = PLAIN_PRESETS["fast"]
    bank = RayBank(plain.scene, config.fit.image_size, torch.device("cpu"))
    start = tied_start(plain.scene, bank, prior, align(plain.scene, prior.mean_sdf), config)
    motions = start.cameras if start.cameras is not None else np.tile(np.eye(4), (len(plain.understood), 1, 1))
    head = rotation_of(start.head_from_world)
    found = zip(motions, plain.understood, strict=True)
    return {seen.name: head.T @ motion[:3, :3] @ head @ seen.photo.camera.world_from_camera[:3, :3] for motion, seen in found}


def judge(place: Path, net: Any, prior: Any) -> dict[str, Any]:
    """What came of one subject: errors in degrees, seconds, and why it failed, or ""."""
    truth = json.loads((place / "truth.json").read_text())
    true = {entry["name"]: np.array(entry["world_from_camera"])[:3, :3] for entry in truth["photos"]}
    row: dict[str, Any] = {"subject": place.name, "head": truth["head"], "focal_mm": truth["focal_mm"], "pairs_deg": {}, "why": ""}
    started = time.perf_counter()
    try:
        plain = scene_from_photos(place, net)
    except InputError as error:
        return row | {"why": f"refused: {error}", "seconds": time.perf_counter() - started}
    row["seconds"] = time.perf_counter() - started
    found = {seen.name: seen.photo.camera.world_from_camera[:3, :3] for seen in plain.understood}
    row["photos_deg"] = {name: angle_between_deg(true[name], rotation) for name, rotation in found.items()}
    row["pairs_deg"] = rotation_errors(found, true)
    row["said"] = [*plain.notes, *(f"{seen.name} {note}" for seen in plain.understood for note in seen.notes)]
    if prior is not None:
        row["refined_deg"] = rotation_errors(refined(plain, prior), true)
    if plain.left_out:
        row["why"] = "left out: " + "; ".join(f"{name}: {reason}" for name, reason in plain.left_out.items())
    elif max(row["pairs_deg"].values()) > WORST_DEG:
        row["why"] = f"{max(row['pairs_deg'].values()):.0f} deg off; said: {'; '.join(row['said']) or 'nothing'}"
    return row


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares and medians over all subjects."""
    pairs = [value for row in rows for value in row["pairs_deg"].values()]
    photos = [value for row in rows for value in row.get("photos_deg", {}).values()]
    after = [value for row in rows for value in row.get("refined_deg", {}).values()]
    out = {
        "subjects": len(rows), "succeeded": float(np.mean([not row["why"] for row in rows])),
        "photos_used": len(photos) / (PHOTOS * len(rows)),
        "between_photos_deg": float(np.median(pairs)), "between_photos_90_deg": float(np.quantile(pairs, 0.9)),
        "photo_deg": float(np.median(photos)), "seconds": float(np.median([row["seconds"] for row in rows])),
    }  # fmt: skip
    return out | ({"between_photos_refined_deg": float(np.median(after))} if after else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--source", action="append", help="anny or ict:FILE; several take turns")
    parser.add_argument("--hair", type=Path)
    parser.add_argument("--skins", type=Path)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--no-exif", action="store_true", help="The photographs do not state their focal length.")
    parser.add_argument("--refined", action="store_true", help="Also the errors after the start of the fit.")
    parser.add_argument("--sheet", type=int, default=0, help="So many subjects' photographs side by side, as sheet.jpg.")
    options = parser.parse_args()
    sources = [RememberedSource(open_source(spec)) for spec in options.source or ["anny"]]
    samplers = [HeadSampler(source, seed=options.seed, makehuman_hair=options.hair) for source in sources]
    studio = Studio(samplers, SkinImages(options.skins) if options.skins else None)
    net, prior = load_estimator(None), None
    if options.refined:
        from avatar_kit.prior.storage import load_prior

        prior = load_prior("default")
    rows = []
    for number in range(options.count):
        place = options.out / f"subject_{number:02d}"
        if not (place / "truth.json").is_file():
            studio.photograph(number, place, seed=options.seed, exif=not options.no_exif)
        rows.append(judge(place, net, prior))
        errors = " ".join(f"{pair} {value:.1f}" for pair, value in rows[-1]["pairs_deg"].items())
        print(f"{place.name} {rows[-1]['head']} {rows[-1]['focal_mm']} mm: {errors} deg  {rows[-1]['why']}", flush=True)
    found = summary(rows)
    (options.out / "results.json").write_text(json.dumps({"summary": found, "subjects": rows}, indent=1))
    print("\n| what | value |\n| --- | --- |", *(f"| {name} | {value:.3g} |" for name, value in found.items()), sep="\n")
    if options.sheet:
        names = [options.out / f"subject_{number:02d}" for number in range(min(options.sheet, options.count))]
        tiles = [np.concatenate([np.asarray(Image.open(file)) for file in sorted(name.glob("*.jpg"))], axis=1) for name in names]
        Image.fromarray(np.concatenate(tiles)).save(options.out / "sheet.jpg", quality=88)


if __name__ == "__main__":
    main()

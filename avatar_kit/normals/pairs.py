"""Synthetic photographs of heads with their true normals: a stream of training pairs from a seed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from avatar_kit.conventions import MM_PER_UNIT
from avatar_kit.heads.sampler import HeadSampler, HeadSource, open_source
from avatar_kit.normals import backdrop, film, lens
from avatar_kit.normals.light import draw_light, shade
from avatar_kit.normals.materials import SkinImages, Wardrobe
from avatar_kit.normals.noise import unit
from avatar_kit.normals.occluders import cover_border, draw_strands, draw_wisps, wear_glasses
from avatar_kit.normals.subject import BODY, EYES, Seen, Subject, facing
from avatar_kit.normals.surface import bumped
from avatar_kit.normals.texture import RememberedSource, anny_texture
from avatar_kit.scene.cameras import resized
from avatar_kit.types import Array, Camera

PAIRS_PER_HEAD = 16
INGREDIENTS = frozenset({"hair", "hard_light", "textures", "occluders"})
_SUPERSAMPLING = 2
_FACE_RADIUS = 95.0 / MM_PER_UNIT  # the h3ds protocol's sphere around the nose tip
_SAME_SURFACE = 0.05  # units: subsamples this far behind a pixel's nearest lie on another surface


@dataclass(frozen=True, eq=False)
class Pair:
    """A picture and what the network should say about it.

    Attributes:
        image: (S, S, 3) float32 sRGB in [0, 1].
        normals: (S, S, 3) float32 unit, outward (n . ray < 0), camera frame (x right, y down, z forward); zero off the subject.
        foreground: (S, S) bool: skin, eyes, hair, clothes; False where something large stands in front.
        coordinates: (S, S, 3) float32: the surface point in the head frame (1 unit = 200 mm); zero off the subject.
        hidden: (S, S) bool: where something large stands in front of the subject, or beside it.
        face: (S, S) bool: bare skin and eyes within 95 mm of the nose tip.
        camera: of the crop; its world is the head frame.
        attributes: what was drawn: source, yaw_deg, pitch_deg, roll_deg, distance_mm, hair, light, stone, backdrop, ...
    """

    image: Array
    normals: Array
    foreground: Array
    coordinates: Array
    face: Array
    hidden: Array
    camera: Camera
    attributes: Mapping[str, Any]


class PairStream:
    """Pair number `index`, the same whenever it is asked for.

    Args:
        seed: other seeds give other people.
        size: S, pixels.
        sources: specs of `open_source`; heads are taken from them in turn.
        makehuman_hair: folder of MakeHuman hair styles, or None.
        skins: folder of MakeHuman head texture crops, or None.
        without: ingredients to leave out, of `INGREDIENTS`.
    """

    def __init__(
        self, *, seed: int, size: int, sources: Sequence[str] = ("anny",), makehuman_hair: Path | None = None,
        skins: Path | None = None, without: Collection[str] = (),
    ) -> None:  # fmt: skip
        self._setup(
            [open_source(spec) for spec in sources], seed=seed, size=size, makehuman_hair=makehuman_hair, skins=skins, without=without
        )

    @classmethod
    def of(cls, sources: Sequence[HeadSource], *, seed: int, size: int, without: Collection[str] = ()) -> PairStream:
        """A stream over head sources that are open already."""
        stream = cls.__new__(cls)
        stream._setup(sources, seed=seed, size=size, makehuman_hair=None, skins=None, without=without)
        return stream

    def _setup(
        self,
        sources: Sequence[HeadSource],
        *,
        seed: int,
        size: int,
        makehuman_hair: Path | None,
        skins: Path | None,
        without: Collection[str],
    ) -> None:
        unknown = set(without) - INGREDIENTS
        if unknown:
            raise ValueError(f"without: {sorted(unknown)} are no ingredients; there are {sorted(INGREDIENTS)}")
        self.seed, self.size, self.without = seed, size, frozenset(without)
        self._sources = [RememberedSource(source) for source in sources]
        self._samplers = [HeadSampler(source, seed=seed, makehuman_hair=makehuman_hair) for source in self._sources]
        self._skins = SkinImages(skins) if skins is not None else None
        self._current: tuple[int, Subject] | None = None

    def pair(self, index: int) -> Pair:
        """Pair `index`: reproducible from (seed, index) and the settings alone."""
        subject = self._subject(index // PAIRS_PER_HEAD)
        # each ingredient draws from a generator of its own, so that leaving one out changes no other
        rngs = np.random.default_rng([self.seed, index, 1]).spawn(8)
        pose = lens.draw_pose(rngs[0])
        body, hair = subject.parts["body"].vertices, subject.parts.get("hair")
        framed = lens.head_points(body, None if hair is None else hair.vertices, subject.landmarks["chin"])
        camera = lens.crop_camera(pose, framed, size=self.size, rng=rngs[0])
        fine = resized(camera, self.size * _SUPERSAMPLING, self.size * _SUPERSAMPLING)
        seen = subject.see(fine)

        textured = "textures" not in self.without
        image = self._skins.draw(rngs[1]) if self._skins is not None and textured else None
        wardrobe = Wardrobe(subject, rngs[1], image=image, textured=textured)
        light = draw_light(rngs[2], unit(camera.centre - framed.mean(0)), hard="hard_light" not in self.without)
        surface = wardrobe.surface(seen)
        seen = replace(seen, normals=facing(bumped(seen.normals, surface.relief), -seen.towards))
        radiance = shade(surface, seen, subject, light, rngs[3])
        behind, backdrop_kind = backdrop.draw_backdrop(fine.width, wardrobe.tone, rngs[4])
        picture = behind.reshape(-1, 3)
        picture[seen.pixel] = film.expose(radiance, rngs[5])
        picture = picture.reshape(fine.height, fine.width, 3)
        if textured and not wardrobe.stone:
            axes = camera.world_from_camera[:3, :2].astype(np.float32)
            draw_wisps(picture, seen, surface.strand @ axes, wardrobe.hair_color, rngs[3])
        worn: dict[str, Any] = {}
        covered = np.zeros((fine.height, fine.width), bool)
        if "occluders" not in self.without:
            worn = wear_glasses(picture, seen, subject, fine, light, rngs[6])
            worn |= draw_strands(picture, seen, fine, wardrobe.hair_color, rngs[6])
            covered = cover_border(picture, wardrobe.tone, rngs[6])
            worn["hand"] = bool(covered.any())
        normals, coordinates, foreground, face = self._labels(seen, camera, covered, subject, wardrobe)
        small = cv2.resize(picture, (self.size, self.size), interpolation=cv2.INTER_AREA)
        hidden = cv2.resize(covered.astype(np.float32), (self.size, self.size), interpolation=cv2.INTER_AREA) > 0.5
        head = subject.head
        attributes = {
            "source": head.attributes.get("source", ""), "head": head.name, "hair": head.attributes.get("hair", "none"),
            "clothes": head.attributes.get("clothes", "none"), "yaw_deg": pose.yaw_deg, "pitch_deg": pose.pitch_deg,
            "roll_deg": pose.roll_deg, "distance_mm": pose.distance * MM_PER_UNIT, "light": light.kind, "backdrop": backdrop_kind,
            "stone": wardrobe.stone, **worn,
        }  # fmt: skip
        return Pair(film.develop(small, rngs[7]), normals, foreground, coordinates, face, hidden, camera, attributes)

    def _subject(self, head_index: int) -> Subject:
        if self._current is None or self._current[0] != head_index:
            which = head_index % len(self._sources)
            head = self._samplers[which].head(head_index)
            uv = anny_texture(self._sources[which], head) if self._skins is not None else None
            self._current = head_index, Subject(head, uv, volumes="hair" not in self.without)
        return self._current[1]

    def _labels(
        self, seen: Seen, camera: Camera, covered: Array, subject: Subject, wardrobe: Wardrobe
    ) -> tuple[Array, Array, Array, Array]:
        """Normals, coordinates, foreground and face at plain resolution."""
        size, s = self.size, _SUPERSAMPLING

        def pooled(values: Array) -> Array:
            """Sum over each pixel's subsamples: (H s, W s, C) -> (H, W, C)."""
            return np.add.reduce([values[i::s, j::s].reshape(size, size, -1) for i in range(s) for j in range(s)])

        free = ~covered.ravel()[seen.pixel]
        foreground = pooled(seen.image(free.astype(np.float32)))[..., 0] > 0.5 * s * s
        depth = seen.image(np.where(free, seen.depth, np.float32(1e6)), fill=1e6)
        nearest = np.min([depth[i::s, j::s] for i in range(s) for j in range(s)], axis=0)
        front = (depth < np.kron(nearest, np.ones((s, s), np.float32)) + _SAME_SURFACE)[..., None] & seen.image(free)[..., None]
        axes = camera.world_from_camera[:3, :3].astype(np.float32)
        count = np.maximum(pooled(front.astype(np.float32)), 1)
        coordinates = pooled(seen.image(seen.points) * front) / count * foreground[..., None]
        normals = unit(pooled(seen.image(seen.normals @ axes) * front))
        _, rays = camera.rays(camera.pixel_grid())
        normals = facing(normals, (rays @ axes).astype(np.float32)) * foreground[..., None]
        bare = free & ((seen.part == BODY) | (seen.part == EYES)) & ~wardrobe.shirt(seen.points)
        bare &= np.linalg.norm(seen.points - subject.landmarks["nose_tip"], axis=1) < _FACE_RADIUS
        face = pooled(seen.image(bare.astype(np.float32)))[..., 0] > 0.5 * s * s
        return normals.astype(np.float32), coordinates.astype(np.float32), foreground, face & foreground


def pair_sheet(pairs: Sequence[Pair], *, per_row: int = 3) -> Image.Image:
    """Image, normals as (n + 1) / 2 and coordinates as (x + 1) / 2 of `pairs`, `per_row` pairs a row."""
    tiles = []
    for pair in pairs:
        shown = np.where(pair.foreground[..., None], (pair.normals + 1) / 2, 0)
        where = np.where(pair.foreground[..., None], (np.clip(pair.coordinates, -1, 1) + 1) / 2, 0)
        tiles.append(np.concatenate([pair.image, shown, where], axis=1))
    while len(tiles) % per_row:
        tiles.append(np.ones_like(tiles[0]))
    rows = [np.concatenate(tiles[i : i + per_row], axis=1) for i in range(0, len(tiles), per_row)]
    return Image.fromarray(np.round(np.concatenate(rows) * 255).astype(np.uint8))

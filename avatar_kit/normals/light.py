"""Random light, and what it makes of a surface: soft light from all round, lamps with shadows, gloss."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from avatar_kit.normals.noise import unit
from avatar_kit.normals.subject import Seen, Subject
from avatar_kit.normals.surface import Surface, bumped
from avatar_kit.types import Array

_LIFT = 0.004  # units: shadow rays start this far above the surface
_OCCLUSION_RAYS = 10
_SHADED_AT = 256  # pixels: soft things are found as finely as a picture this wide shows them


@dataclass(frozen=True, eq=False)
class Light:
    """All light of one picture; the head frame.

    Attributes:
        lobes: (K, 3) unit directions of broad patches of sky.
        lobe_colors: (K, 3) linear.
        lobe_powers: (K,) 1 for a hemisphere, larger for narrower patches.
        lamps: (L, 3) positions, far away for the sun.
        lamp_colors: (L, 3) linear.
        lamp_spread: (L,) radians: half the angle of penumbrae.
        kind: a word for reports.
    """

    lobes: Array
    lobe_colors: Array
    lobe_powers: Array
    lamps: Array
    lamp_colors: Array
    lamp_spread: Array
    kind: str


def _color(rng: np.random.Generator, strength: float) -> Array:
    """White with a cast: warm or cold mostly, any hue rarely."""
    warmth = rng.normal(0, 0.16)
    color = np.array([1 + warmth, 1 + rng.normal(0, 0.03), 1 - warmth])
    if rng.random() < 0.06:
        color = rng.uniform(0.15, 1.0, 3) ** 1.5
        color /= color.mean()
    return strength * np.clip(color, 0.05, None)


def draw_light(rng: np.random.Generator, facing: Array, *, hard: bool = True) -> Light:
    """From flat to hard; `facing` (3,) is the direction to the camera, near which most lamps stand.

    Args:
        hard: False leaves out the lamps.
    """
    count = int(rng.integers(2, 6))
    lobes = unit(rng.normal(size=(count, 3)) + np.array([0, 0.5, 0]) + 0.3 * facing)
    colors = np.array([_color(rng, rng.uniform(0.05, 1.0)) for _ in range(count)])
    powers = rng.choice([1.0, 1.5, 2.5, 5.0], count)
    lobes = np.concatenate([lobes, [[0, 1.0, 0]], [[0, -1.0, 0]]])
    colors = np.concatenate([colors, [_color(rng, rng.uniform(0.1, 0.6))], [_color(rng, rng.uniform(0.02, 0.3))]])
    powers = np.concatenate([powers, [1.0, 1.0]])
    kind = str(rng.choice(["flat", "soft", "mixed", "hard"], p=[0.15, 0.3, 0.35, 0.2])) if hard else "flat"
    lamps = {"flat": 0, "soft": 1, "mixed": int(rng.integers(1, 4)), "hard": int(rng.integers(1, 3))}[kind]
    ambient = {"flat": 1.0, "soft": 0.7, "mixed": 0.4, "hard": 0.12}[kind] * rng.uniform(0.7, 1.3)
    positions, lamp_colors, spread = np.zeros((lamps, 3)), np.zeros((lamps, 3)), np.zeros(lamps)
    for i in range(lamps):
        towards = unit(rng.normal(0, 1.0, 3) * (1, 0.7, 1) + np.array([0, 0.45, 0]) + 0.9 * facing)
        if i > 0 and rng.random() < 0.5:  # a rim light from behind
            towards = unit(rng.normal(0, 0.7, 3) - 0.8 * facing)
        distance = rng.uniform(3, 12) if rng.random() < 0.4 else 60.0
        positions[i] = towards * distance
        strength = {"soft": 0.8, "mixed": 1.0, "hard": 1.6}[kind] * rng.uniform(0.5, 1.3) * (1.0 if i == 0 else rng.uniform(0.2, 0.9))
        lamp_colors[i] = _color(rng, strength)
        spread[i] = rng.uniform(0.15, 0.5) if kind == "soft" else rng.choice([0.01, 0.04, 0.1, 0.25])
    return Light(lobes, colors * ambient / max(1.0, 0.5 * count), powers, positions, lamp_colors, spread, kind)


def shade(surface: Surface, seen: Seen, subject: Subject, light: Light, rng: np.random.Generator) -> Array:
    """Linear radiance (N, 3) of the hits."""
    normals = bumped(seen.normals, surface.bump)
    view = seen.towards
    openness = _openness(seen, subject, rng)
    # light that finds its way into a fold has been coloured by the fold's own surface
    occlusion = openness[:, None] ** (1.0 - 0.45 * surface.albedo)
    facing = np.clip(np.einsum("ni,ni->n", normals, view), 0.02, 1)
    fresnel = surface.gloss + (1 - surface.gloss) * (1 - facing) ** 5 * (1 - surface.roughness) ** 2
    mirrored = 2 * facing[:, None] * normals - view
    diffuse, gloss = np.zeros_like(surface.albedo), np.zeros_like(surface.albedo)
    for lobe, color, power in zip(light.lobes.astype(np.float32), light.lobe_colors, light.lobe_powers, strict=True):
        sharp = power / np.clip(surface.roughness, 0.12, 1) ** 1.5
        diffuse += np.clip(0.5 + 0.5 * normals @ lobe, 0, 1)[:, None] ** power * color.astype(np.float32)
        gloss += (np.clip(0.5 + 0.5 * mirrored @ lobe, 1e-4, 1) ** sharp)[:, None] * color.astype(np.float32)
    diffuse, gloss = diffuse * occlusion, gloss * (openness * fresnel)[:, None]
    mirror = gloss / np.maximum(fresnel, 1e-4)[:, None]
    for position, color, spread in zip(light.lamps, light.lamp_colors, light.lamp_spread, strict=True):
        to_lamp = unit(position.astype(np.float32) - seen.points)
        lit = _lit(seen, subject, to_lamp, float(spread), rng)[:, None] * color.astype(np.float32)
        cosine = np.einsum("ni,ni->n", normals, to_lamp)
        # light that bleeds under skin reaches past the terminator, red furthest
        wrap = surface.bleeding[:, None] * np.array([0.30, 0.10, 0.05], np.float32)
        diffuse += lit * np.clip((cosine[:, None] + wrap) / (1 + wrap), 0, 1)
        shine = _shine(normals, view, to_lamp, surface) * np.clip(cosine, 0, 1)
        gloss += lit * (shine * surface.gloss)[:, None]
        mirror += lit * shine[:, None] * 0.6
        gloss += lit * _strand_shine(surface.strand, view, to_lamp)[:, None] * (0.03 + 0.25 * surface.albedo)
    return (1 - surface.metal) * (surface.albedo * diffuse + gloss) + surface.metal * surface.albedo * mirror


def _shine(normals: Array, view: Array, to_lamp: Array, surface: Surface) -> Array:
    """GGX lobe (N,) over the reflectance, with the usual approximation of its masking."""
    half = unit(view + to_lamp)
    cosine = np.clip(np.einsum("ni,ni->n", normals, half), 0, 1)
    a2 = np.clip(surface.roughness, 0.08, 1) ** 4
    lobe = a2 / (np.pi * (cosine**2 * (a2 - 1) + 1) ** 2)
    reach = np.clip(np.einsum("ni,ni->n", to_lamp, half), 0.1, 1)
    return np.minimum(lobe * np.pi / (4 * reach**2 * (surface.roughness + 0.5)), 60.0)


def _strand_shine(strand: Array, view: Array, to_lamp: Array) -> Array:
    """Highlight (N,) of hair across its strands (Kajiya and Kay 1989); zero where there is no strand."""
    half = unit(view + to_lamp)
    along = np.einsum("ni,ni->n", strand, half)
    is_hair = np.einsum("ni,ni->n", strand, strand) > 0.5
    return is_hair * np.clip(1 - along**2, 0, 1) ** 20


def _lit(seen: Seen, subject: Subject, to_lamp: Array, spread: float, rng: np.random.Generator) -> Array:
    """How much of a lamp each hit sees (N,): one jittered ray each, then a blur as wide as the penumbra deserves."""
    towards = unit(to_lamp + spread * rng.standard_normal((len(to_lamp), 3), np.float32)).astype(np.float32)
    faces_lamp = np.einsum("ni,ni->n", seen.normals, towards) > 0
    width = seen.shape[1]
    soft = spread > 0.08
    # every second pixel each way will do where the penumbra is wide
    asked = _every(seen, 2 * max(1, width // _SHADED_AT)) if soft else np.ones(len(towards), bool)
    cast = asked & faces_lamp
    lit = np.zeros(len(towards), np.float32)
    lit[cast] = subject.unblocked(seen.points[cast] + _LIFT * seen.normals[cast], np.ascontiguousarray(towards[cast]))
    sigma = (0.4 + 6.0 * min(spread, 0.4)) * seen.shape[0] / 256.0
    blurred = _spread_out(lit, asked, seen, max(sigma, 1.2 * width / _SHADED_AT) if soft else sigma)
    return blurred if soft else blurred * faces_lamp


def _openness(seen: Seen, subject: Subject, rng: np.random.Generator) -> Array:
    """Share (N,) of the hemisphere over each hit that is open to the sky: ray-cast on a coarse raster and blurred."""
    step = max(1, 4 * seen.shape[1] // _SHADED_AT)
    chosen = _every(seen, step)
    points, normals = seen.points[chosen], seen.normals[chosen]
    if len(points) == 0:
        return np.ones(len(seen.pixel), np.float32)
    directions = unit(normals[:, None] * 1.02 + unit(rng.standard_normal((len(points), _OCCLUSION_RAYS, 3), np.float32)))
    starts = np.broadcast_to((points + _LIFT * normals)[:, None], directions.shape)
    flat = [np.ascontiguousarray(x.reshape(-1, 3).astype(np.float32)) for x in (starts, directions)]
    free = subject.unblocked(*flat).reshape(len(points), -1).mean(1)
    openness = np.zeros(len(seen.pixel), np.float32)
    openness[chosen] = free
    return np.clip(_spread_out(openness, chosen, seen, 0.75 * step), 0.05, 1.0)


def _every(seen: Seen, step: int) -> Array:
    """True (N,) for the hits on every `step`-th pixel of every `step`-th row."""
    width = seen.shape[1]
    return (seen.pixel // width % step == step // 2) & (seen.pixel % width % step == step // 2)


def _spread_out(values: Array, known: Array, seen: Seen, sigma: float) -> Array:
    """`values` (N,) of the hits that are `known` (N,), zero elsewhere, blurred over all hits."""
    total = cv2.GaussianBlur(seen.image(values), (0, 0), sigma)
    share = cv2.GaussianBlur(seen.image(known.astype(np.float32)), (0, 0), sigma)
    total, share = total.ravel()[seen.pixel], share.ravel()[seen.pixel]
    return np.where(share > 1e-4, total / np.maximum(share, 1e-4), 0.5).astype(np.float32)  # slivers that no raster point hits

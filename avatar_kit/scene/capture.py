"""Photographing a head: varied light, skin and background, with exact cameras, masks, normals and truth."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from avatar_kit.conventions import CANONICAL_LANDMARKS, MM_PER_UNIT, similarity, transform_points
from avatar_kit.kernels.mesh_queries import MeshQueries
from avatar_kit.mesh.refine import subdivide
from avatar_kit.render.renderer import Renderer, Rendering
from avatar_kit.scene import h3ds
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.types import Array, Camera, Head, InputError, Mesh, Photo, Reference, concatenate

# the paper's six views and two more to look at: (yaw, pitch) in degrees
LAYOUT = [(0, 0), (0, -20), (45, 0), (-45, 0), (90, 0), (-90, 0), (20, 10), (-65, 5)]
NOTES = {"view_configs": {"1": [0], "3": [0, 2, 3], "6": [0, 1, 2, 3, 4, 5]}, "units": "mm"}
_SUPERSAMPLING = 2
_SCANNER_DIRECTIONS, _SCANNER_SHARE = 64, 0.08  # a scan has what is seen from more than this share of all directions


def capture_head(head: Head, *, size: int, rng: np.random.Generator, views: int = 6) -> tuple[list[Photo], Reference]:
    """Photograph `head` from the first `views` of `LAYOUT`.

    The world is the head frame in millimetres, moved so that it is not the same in every scene.

    Returns:
        photos with normals, and the visible true surface.
    """
    parts = {name: _rounded(part) if name == "body" else part for name, part in head.parts.items()}
    base = concatenate(list(parts.values()))
    albedo = np.concatenate([_albedo(name, part, rng) for name, part in parts.items()])
    shift = rng.normal(0, 8.0, 3)
    world_from_head = similarity(MM_PER_UNIT, np.eye(3), shift)
    inside = _inside_box(base)
    mesh = Mesh(transform_points(world_from_head, base.vertices), base.faces[inside], albedo)
    renderer = Renderer(mesh)
    lights = _lights(rng)
    photos = []
    for i, (yaw, pitch) in enumerate(LAYOUT[:views]):
        camera = orbit_camera(
            yaw_deg=yaw + rng.normal(0, 1.5), pitch_deg=pitch + rng.normal(0, 1.5), distance=rng.uniform(820, 900),
            target=shift + (0, 0, 20.0), focal_px=2.0 * size, size=size,
        )  # fmt: skip
        photos.append(_photograph(renderer, camera, lights, rng, name=f"image/img_{i:04d}.jpg"))
    nose = np.array(head.landmarks.get("nose_tip", CANONICAL_LANDMARKS["nose_tip"]))
    return photos, _reference(mesh, transform_points(world_from_head, nose))


def add_normals(folder: Path, *, device: str = "cpu", backend: str | None = None) -> int:
    """Render normal maps of a scene's truth for all its photos into normal/; returns how many.

    Args:
        device, backend: of the `Renderer`.

    Raises:
        InputError: the scene has no full_head.obj.
    """
    scene = h3ds.H3dsFolder(folder)
    reference = scene.reference()
    if reference is None:
        raise InputError(f"{folder}/full_head.obj: missing. Normal maps are rendered from the true mesh.")
    renderer = Renderer(reference.mesh, device=device, backend=backend)
    for view in scene.view_ids:
        photo = scene.photo(view)
        normals = renderer.render(photo.camera).normals
        h3ds.write_normal_map(folder / f"normal/normal_{view:04d}.png", normals * photo.mask[..., None])
    return len(scene.view_ids)


def _rounded(mesh: Mesh) -> Mesh:
    """With each triangle in four, as round as its normals: of edges of 8 mm, such as models of bodies have, the normals that a picture
    interpolates are those of a surface up to 1.5 mm away, and truth and normal maps would contradict each other."""
    return subdivide(mesh, np.ones(len(mesh.faces), bool))[0]


def _inside_box(mesh: Mesh) -> Array:
    """Faces within the field's box: what lies outside can be in no reconstruction."""
    return np.all(np.abs(mesh.vertices[mesh.faces]) < 1.0, axis=(1, 2))


def _photograph(renderer: Renderer, camera: Camera, lights: Array, rng: np.random.Generator, *, name: str) -> Photo:
    s = _SUPERSAMPLING
    fine_camera = Camera(np.diag([s, s, 1.0]) @ camera.intrinsics, camera.world_from_camera, camera.width * s, camera.height * s)
    seen = renderer.render(fine_camera)
    shaded = _shade(seen, fine_camera, lights)
    image = np.where(seen.mask[..., None], shaded, _background(fine_camera.height, rng))
    size = (camera.width, camera.height)
    image = cv2.resize(image.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    image = np.clip(image * rng.uniform(0.85, 1.1) + rng.normal(0, 0.008, image.shape), 0, 1).astype(np.float32)
    mask = cv2.resize(seen.mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5
    normals = cv2.resize(seen.normals, size, interpolation=cv2.INTER_AREA)
    normals = normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6) * mask[..., None]
    return Photo(image, mask, camera, normals.astype(np.float32), name)


def _shade(seen: Rendering, camera: Camera, lights: Array) -> Array:
    """Diffuse and a little specular light on the albedo, to sRGB."""
    assert seen.colors is not None
    normals = seen.normals @ camera.world_from_camera[:3, :3].T
    view = camera.centre - seen.points  # of length 0 where nothing is hit
    view /= np.maximum(np.linalg.norm(view, axis=-1, keepdims=True), 1e-9)
    light = np.full((*normals.shape[:2], 3), 0.22)
    light += 0.12 * (normals[..., 1:2] + 1.0)
    shine = np.zeros(normals.shape[:2])
    for direction in lights:
        towards, strength, tint = direction[:3], direction[3], direction[4:]
        light += strength * np.clip(normals @ towards, 0, None)[..., None] * tint
        half = view + towards
        half /= np.maximum(np.linalg.norm(half, axis=-1, keepdims=True), 1e-9)
        shine += strength * np.clip((normals * half).sum(-1), 0, None) ** 24
    linear = seen.colors**2.2 * light + 0.06 * shine[..., None]
    return np.clip(linear, 0, 1) ** (1 / 2.2)


def _lights(rng: np.random.Generator) -> Array:
    """A key, a fill and a rim light: unit direction (world frame), strength, tint; (3, 7)."""
    rows = []
    for strength, spread in ((0.7, 1.0), (0.35, 1.4), (0.25, 2.0)):
        direction = np.array([rng.normal(0, spread), rng.uniform(0.1, 1.2), rng.uniform(0.2, 1.5)])
        tint = 1.0 + rng.normal(0, 0.06, 3)
        rows.append([*(direction / np.linalg.norm(direction)), strength * rng.uniform(0.7, 1.2), *tint])
    return np.array(rows)


_SKIN = np.array([[0.93, 0.78, 0.69], [0.85, 0.66, 0.54], [0.71, 0.51, 0.38], [0.52, 0.35, 0.25], [0.36, 0.24, 0.18]])
_HAIR = np.array([[0.10, 0.08, 0.07], [0.25, 0.16, 0.10], [0.45, 0.31, 0.18], [0.72, 0.58, 0.38], [0.62, 0.61, 0.60], [0.48, 0.21, 0.10]])


def _albedo(part: str, mesh: Mesh, rng: np.random.Generator) -> Array:
    """sRGB per vertex (V, 3): skin with blotches, lips and brows; hair with strands; cloth of any colour; eyes."""
    v = mesh.vertices
    if part == "eyes":
        ahead = np.abs(v[:, 2] - v[:, 2].max())
        return np.where(ahead[:, None] < 0.012, rng.uniform(0.1, 0.45, 3), np.array([0.9, 0.88, 0.86]))
    if part == "hair":
        base = _HAIR[rng.integers(len(_HAIR))]
        strands = np.sin(v @ rng.normal(0, 60, (3, 5))).mean(1, keepdims=True)
        return np.clip(base * (1.0 + 0.35 * strands), 0, 1)
    if part == "clothes":
        return np.clip(rng.uniform(0.05, 0.9, 3) * (1.0 + 0.1 * np.sin(v @ rng.normal(0, 40, 3))[:, None]), 0, 1)
    tone = rng.uniform(0, len(_SKIN) - 1)
    low = int(tone)
    base = _SKIN[low] + (tone - low) * (_SKIN[min(low + 1, len(_SKIN) - 1)] - _SKIN[low])
    blotches = np.sin(v @ rng.normal(0, 14, (3, 6)) + rng.uniform(0, 6, 6)).mean(1, keepdims=True)
    fine = np.sin(v @ rng.normal(0, 90, (3, 8)) + rng.uniform(0, 6, 8)).mean(1, keepdims=True)
    color = base * (1.0 + 0.10 * blotches + 0.05 * fine)
    lips = np.exp(-(((v - (0, -0.175, 0.57)) / (0.13, 0.04, 0.06)) ** 2).sum(1))[:, None]
    side = np.abs(v[:, 0]) - 0.165
    brows = np.exp(-(((np.stack([side, v[:, 1] - 0.255, v[:, 2] - 0.53], 1)) / (0.085, 0.022, 0.07)) ** 2).sum(1))[:, None]
    color = color * (1 - 0.5 * lips) + 0.5 * lips * base * (1.0, 0.62, 0.62)
    return np.clip(color * (1.0 - 0.7 * brows), 0, 1)


def _background(size: int, rng: np.random.Generator) -> Array:
    """Soft shapes of a few colours, (size, size, 3)."""
    coarse = rng.uniform(0, 1, (4, 4, 3)) * 0.5 + rng.uniform(0, 0.6, 3)
    return np.clip(cv2.resize(coarse.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC), 0, 1)


def _reference(mesh: Mesh, nose: Array) -> Reference:
    """What a scan would hold, and the vertex nearest the nose tip: no nostrils' insides, no mouth's, nothing under hair."""
    import torch

    from avatar_kit.heads.surgery import without_unused

    queries = MeshQueries(mesh)
    centres = mesh.vertices[mesh.faces].mean(1)
    reached = np.zeros(len(mesh.faces))
    rng = np.random.default_rng(0)
    for _ in range(_SCANNER_DIRECTIONS):
        towards = rng.normal(size=3)
        towards /= np.linalg.norm(towards)
        origins = centres + 1000.0 * towards
        directions = np.broadcast_to(-towards, origins.shape).copy()
        depth = queries.cast_rays(torch.from_numpy(origins), torch.from_numpy(directions)).depth.numpy()
        reached += depth > 1000.0 - 0.5
    outer = without_unused(Mesh(mesh.vertices, mesh.faces[reached > _SCANNER_SHARE * _SCANNER_DIRECTIONS]))
    distance = np.linalg.norm(outer.vertices - nose, axis=1)
    return Reference(outer, {"nose_tip": int(distance.argmin())}, np.flatnonzero(distance < 95.0))

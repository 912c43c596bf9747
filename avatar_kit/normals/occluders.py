"""Things in front of the face: glasses, strands of hair, hands and objects at the border."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import torch

from avatar_kit.kernels.mesh_queries import NO_HIT, MeshQueries
from avatar_kit.normals.light import Light
from avatar_kit.normals.noise import unit
from avatar_kit.normals.subject import Seen, Subject
from avatar_kit.types import Array, Camera, Mesh, concatenate

_GLASSES_ODDS, _STRANDS_ODDS, _BORDER_ODDS = 0.16, 0.15, 0.13


def wear_glasses(picture: Array, seen: Seen, subject: Subject, camera: Camera, light: Light, rng: np.random.Generator) -> dict[str, Any]:
    """Sometimes paint glasses onto `picture` (H, W, 3): rims, bridge and temples as tubes, lenses clear to black.

    They stand in front of the subject by depth; labels stay those of the head beneath.
    """
    if rng.random() > _GLASSES_ODDS:
        return {"glasses": "none"}
    frame, lenses = _glasses(subject, rng)
    dark = rng.random() < 0.35
    tint, cover = (rng.uniform(0.0, 0.15, 3), rng.uniform(0.6, 0.97)) if dark else (rng.uniform(0.3, 0.9, 3), rng.uniform(0.0, 0.12))
    depth = seen.image(seen.depth, fill=np.inf)
    sky = light.lobe_colors.mean(0)
    for mesh, is_lens in ((lenses, True), (frame, False)):
        low, high, origins, rays = _box_rays(mesh, camera)
        if rays.size == 0:
            continue
        hits = MeshQueries(mesh).cast_rays(torch.from_numpy(origins), torch.from_numpy(rays))
        face, distance = hits.face.numpy(), hits.depth.numpy()
        box = (slice(low[1], high[1]), slice(low[0], high[0]))
        front = (face != NO_HIT) & (distance < depth[box].ravel())
        normals = mesh.face_normals[face[front]].astype(np.float32)
        ray = rays[front]
        normals *= -np.sign(np.einsum("ni,ni->n", normals, ray))[:, None]
        mirrored = ray - 2 * np.einsum("ni,ni->n", normals, ray)[:, None] * normals
        patch = picture[box].reshape(-1, 3)
        if is_lens:
            glare = np.clip(0.5 + 0.5 * mirrored @ light.lobes[0], 0, 1)[:, None] ** rng.uniform(4, 40) * light.lobe_colors[0]
            color = patch[front] * (1 - cover) + cover * tint
            color = color + rng.uniform(0.0, 0.35) * np.clip(glare / max(sky.max(), 0.1), 0, 1)
        else:
            albedo = rng.uniform(0.0, 0.15) if rng.random() < 0.6 else rng.uniform(0.1, 0.8, 3)
            shine = sum(
                (np.clip(0.5 + 0.5 * mirrored @ d, 0, 1)[:, None] ** 24 * c for d, c in zip(light.lobes, light.lobe_colors, strict=True)),
                0.0,
            )
            color = albedo * (0.4 + 0.6 * np.clip(normals[:, 1:2], -0.3, 1)) + rng.uniform(0.1, 0.5) * shine
        patch[front] = np.clip(color, 0, 1)
        picture[box] = patch.reshape(picture[box].shape)
    return {"glasses": "dark" if dark else "clear"}


def _glasses(subject: Subject, rng: np.random.Generator) -> tuple[Mesh, Mesh]:
    """Frame and lenses in the head frame, hung on the eyes' corners and the sellion."""
    marks = subject.landmarks
    half_gap = 0.5 * abs(marks["eye_left_inner"][0] - marks["eye_right_inner"][0])
    eye = np.mean([np.abs(marks[f"eye_{s}_{e}"]) for s in ("left", "right") for e in ("inner", "outer")], axis=0)
    bridge = marks["sellion"] + (0, -0.01, 0.035)
    width, height = rng.uniform(0.105, 0.135), rng.uniform(0.07, 0.115)
    power = rng.choice([2.0, 2.6, 4.0])
    angle = np.linspace(0, 2 * np.pi, 33)[:-1]
    x = width * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** (2 / power)
    y = height * np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** (2 / power)
    radius = float(np.exp(rng.uniform(np.log(0.004), np.log(0.016))))
    tubes, lenses = [], []
    centre_y = eye[1] - rng.uniform(0.0, 0.03)
    for sign in (1.0, -1.0):
        cx = max(eye[0], half_gap + 0.4 * width)
        depth = bridge[2] - 0.06 - 0.35 * np.clip(x + 0.5 * width, 0, None) ** 1.3
        rim = np.stack([sign * (cx + x), centre_y + y, depth], 1)
        tubes.append(_tube(rim, radius, closed=True))
        fan = np.stack([np.full(32, 32), np.arange(32), np.roll(np.arange(32), -1)], 1).astype(np.int32)
        lenses.append(Mesh(np.concatenate([rim, rim.mean(0, keepdims=True) + (0, 0, 0.012)]), fan))
        hinge = np.array([sign * (cx + width), centre_y + 0.4 * height, depth.min()])
        ear = np.array([sign * rng.uniform(0.39, 0.43), eye[1] - 0.0, 0.02])
        tubes.append(_tube(np.stack([hinge, hinge + (sign * 0.02, 0, -0.03), ear, ear + (0, -0.08, -0.1)]), radius * 0.9, closed=False))
    inner = max(eye[0], half_gap + 0.4 * width) - width
    across = np.linspace(-inner, inner, 7)
    arch = np.stack([across, centre_y + 0.25 * height + 0.02 * (1 - (across / inner) ** 2), np.full(7, bridge[2] - 0.05)], 1)
    tubes.append(_tube(arch, radius, closed=False))
    return concatenate(tubes), concatenate(lenses)


def _tube(path: Array, radius: float, *, closed: bool) -> Mesh:
    """A six-sided tube along `path` (N, 3)."""
    n = len(path)
    ahead = np.roll(path, -1, 0) - np.roll(path, 1, 0) if closed else np.gradient(path, axis=0)
    ahead = unit(ahead)
    side = unit(np.cross(ahead, [0.13, 0.31, 0.94]))
    up = np.cross(ahead, side)
    angle = np.arange(6) * np.pi / 3
    ring = np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * up[:, None]
    vertices = (path[:, None] + radius * ring).reshape(-1, 3)
    i, k = np.meshgrid(np.arange(n if closed else n - 1), np.arange(6), indexing="ij")
    a, b = i * 6 + k, i * 6 + (k + 1) % 6
    c, d = (i + 1) % n * 6 + k, (i + 1) % n * 6 + (k + 1) % 6
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([b, d, c], -1).reshape(-1, 3)])
    return Mesh(vertices, faces.astype(np.int32))


def _box_rays(mesh: Mesh, camera: Camera) -> tuple[Array, Array, Array, Array]:
    """The picture's box around `mesh`, low and high (x, y), and origins and rays (N, 3) through its pixels."""
    projected, depth = camera.project(mesh.vertices)
    projected = projected[depth > 1e-3]
    limit = (camera.width, camera.height)
    if len(projected) == 0:
        return np.zeros(2, int), np.zeros(2, int), np.zeros((0, 3)), np.zeros((0, 3))
    low = np.clip(np.floor(projected.min(0)), 0, limit).astype(int)
    high = np.clip(np.ceil(projected.max(0)) + 1, 0, limit).astype(int)
    x, y = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
    origins, rays = camera.rays(np.stack([x, y], -1).reshape(-1, 2))
    return low, high, np.ascontiguousarray(origins, dtype=np.float32), np.ascontiguousarray(rays, dtype=np.float32)


def draw_strands(picture: Array, seen: Seen, camera: Camera, color: Array, rng: np.random.Generator) -> dict[str, Any]:
    """Sometimes paint thin strands of hair that fall from the forehead over the face; labels stay the head's."""
    if rng.random() > _STRANDS_ODDS:
        return {"strands": 0}
    count = int(rng.integers(2, 14))
    root, fall = np.array([rng.normal(0, 0.15), 0.55, 0.5]), rng.normal(0, 0.2)
    on_subject = seen.image(np.ones(len(seen.pixel), np.float32))[..., None]
    for _ in range(count):
        start = root + rng.normal(0, 0.06, 3)
        t = np.linspace(0, 1, 12)[:, None]
        end = start + (fall + rng.normal(0, 0.07), -rng.uniform(0.2, 0.8), rng.uniform(-0.05, 0.1))
        path = start + t * (end - start) + t * (1 - t) * rng.normal(0, 0.25, 3) + np.sin(7 * t) * rng.normal(0, 0.01, 3)
        path[:, 2] = np.maximum(path[:, 2], 0.5)
        points, depth = camera.project(path)
        if depth.min() < 0.1:
            continue
        layer = picture.copy()
        shade = np.clip(color * rng.uniform(0.5, 1.4), 0, 1).tolist()
        cv2.polylines(layer, [np.round(points * 16).astype(np.int32)], False, shade, int(rng.integers(1, 3)), cv2.LINE_AA, 4)
        picture += rng.uniform(0.3, 0.9) * on_subject * (layer - picture)
    return {"strands": count}


def cover_border(picture: Array, skin: Array, rng: np.random.Generator) -> Array:
    """Sometimes paint a hand or an object that reaches in from the border; returns where (H, W) bool."""
    height, width = picture.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    if rng.random() > _BORDER_ODDS:
        return mask > 0
    turn = rng.uniform(0, 2 * np.pi)
    outward = np.array([np.cos(turn), np.sin(turn)])
    reach = rng.uniform(0.22, 0.5)
    base = width * (0.5 + 0.72 * outward)
    tip = width * (0.5 + reach * outward)
    hand = rng.random() < 0.6
    if hand:
        aside = np.array([-outward[1], outward[0]])
        finger = width * rng.uniform(0.03, 0.06)
        palm = base + 0.35 * (tip - base)
        cv2.line(mask, _px(base), _px(palm), 255, int(5 * finger))
        for k in range(int(rng.integers(2, 5))):
            offset = (k - 1.5) * finger * rng.uniform(1.7, 2.2) * aside
            end = tip + offset * 1.2 + rng.normal(0, 0.4 * finger, 2)
            cv2.line(mask, _px(palm + offset), _px(end), 255, int(2 * finger))
    else:
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        wobble = 1 + sum((rng.normal(0, 0.12) * np.cos(k * angle + rng.uniform(0, 6)) for k in (2, 3, 4)), np.zeros(24))
        radius = np.linalg.norm(base - tip) * wobble
        outline = base + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], 255)
    # height from the distance to the outline, so that it looks round
    inside = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
    relief = cv2.GaussianBlur(np.sqrt(np.minimum(inside, 0.06 * width) * width * 0.1), (0, 0), 1.5)
    slope_y, slope_x = np.gradient(relief)
    to_light = unit(np.array([rng.normal(), rng.normal() - 0.5, 1.0]))
    normal = unit(np.stack([-slope_x, -slope_y, np.ones_like(slope_x)], -1))
    lit = np.clip(0.25 + 0.85 * normal @ to_light, 0.1, 1.3)[..., None]
    color = skin * rng.uniform(0.8, 1.05) if hand else rng.uniform(0.05, 0.95, 3)
    grain = cv2.resize(rng.standard_normal((24, 24, 1)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    painted = np.clip(color * lit * (1 + 0.06 * grain), 0, 1)
    soft = cv2.GaussianBlur(mask.astype(np.float32) / 255, (0, 0), rng.uniform(0.6, 2.5))[..., None]
    picture += soft * (painted - picture)
    return soft[..., 0] > 0.5


def _px(point: Array) -> tuple[int, int]:
    return int(round(point[0])), int(round(point[1]))


def draw_wisps(picture: Array, seen: Seen, strand: Array, color: Array, rng: np.random.Generator) -> None:
    """Paint fine hairs that leave the outline of the hair along its strands, so that it does not look cut with scissors.

    Args:
        picture: (H, W, 3), painted in place.
        strand: (N, 2) direction of the strands in the picture at each hit, zero off the hair.
        color: sRGB (3,).
    """
    is_hair = seen.image((np.abs(strand).sum(1) > 1e-6).astype(np.uint8))
    rim = (is_hair > 0) & (cv2.erode(is_hair, np.ones((3, 3), np.uint8)) == 0)
    rows = np.flatnonzero(rim.ravel()[seen.pixel])
    amount = rng.uniform(0, 1) ** 2
    rows = rng.permutation(rows)[: int(0.5 * amount * len(rows))]
    if len(rows) == 0:
        return
    width = is_hair.shape[1]
    start = np.stack([seen.pixel[rows] % width, seen.pixel[rows] // width], 1).astype(np.float32)
    smooth = cv2.GaussianBlur(is_hair.astype(np.float32), (0, 0), 3.0)
    slope = -np.stack([cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)], -1).reshape(-1, 2)[seen.pixel[rows]]
    outward = slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-6)
    along = strand[rows] / np.maximum(np.linalg.norm(strand[rows], axis=1, keepdims=True), 1e-6)
    length = width * rng.uniform(0.008, 0.035) * rng.uniform(0.2, 1.0, (len(rows), 1))
    bend = along + rng.normal(0, 0.3, along.shape) + rng.uniform(0.0, 0.45) * outward
    t = np.linspace(0, 1, 5)[:, None, None]
    paths = start + t * length * bend - t * (1 - t) * length * rng.normal(0, 0.4, (len(rows), 1)) * outward
    layer = picture.copy()
    near = picture.reshape(-1, 3)[seen.pixel[rows]]
    for path, own in zip(paths.transpose(1, 0, 2), near, strict=True):
        shade = (0.6 * own + 0.4 * color * own.mean() / max(float(color.mean()), 0.05)).tolist()
        cv2.polylines(layer, [np.round(path * 16).astype(np.int32)], False, shade, 1, cv2.LINE_AA, 4)
    picture += rng.uniform(0.4, 0.9) * (layer - picture)

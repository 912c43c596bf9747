"""How good the maps are: angles, masks and coordinates against the truth, by yaw."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from avatar_kit.conventions import MM_PER_UNIT, rotation_of, transform_points
from avatar_kit.normals.estimator import Estimator, forward
from avatar_kit.normals.losses import Targets, angle
from avatar_kit.normals.network import NormalMaps, NormalNet
from avatar_kit.normals.pool import pack, unpack
from avatar_kit.normals.pose import head_pose
from avatar_kit.normals.predict import predict_normals
from avatar_kit.normals.prediction import Prediction
from avatar_kit.normals.ray_frame import pixel_rays, to_ray_frame
from avatar_kit.render.renderer import Renderer
from avatar_kit.scene.h3ds import H3dsFolder
from avatar_kit.types import Array, InputError, Photo

if TYPE_CHECKING:
    from avatar_kit.normals.pairs import Pair

_FRONT_COSINE = 0.5  # of the angle between the face and the camera
_FACE_MM = 95.0  # around the nose tip: the face of the h3ds protocol

YAW_BANDS_DEG = ((0, 20), (20, 45), (45, 70), (70, 91), (91, 181))


class Scores:
    """Sums over photos; every photo counts alike."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = defaultdict(list)

    def add(self, maps: NormalMaps, truth: Targets, *, yaws_deg: Iterable[float | None] = (), with_foreground: bool = True) -> None:
        """Score a batch. `yaws_deg`: of its photos, for the bands; none or None for no band."""
        off = torch.rad2deg(angle(maps.normals, truth.normals))
        distance = (maps.coordinates - truth.coordinates).norm(dim=1) * MM_PER_UNIT
        yaws = list(yaws_deg) or [None] * len(off)
        for row, yaw in enumerate(yaws):
            foreground, face = truth.foreground[row] > 0.5, truth.face[row] > 0.5
            predicted = maps.foreground[row] > 0
            found: dict[str, Tensor] = {}
            if foreground.any():
                found["degrees"] = off[row][foreground].mean()
                found["degrees_median"] = off[row][foreground].median()
                if (truth.coordinates[row] != 0).any():
                    found["coordinates_mm"] = distance[row][foreground].mean()
            if face.any():
                found["face_degrees"] = off[row][face].mean()
                if (truth.coordinates[row] != 0).any():
                    found["face_coordinates_mm"] = distance[row][face].mean()
            if with_foreground:
                found["iou"] = (predicted & foreground).sum() / (predicted | foreground).sum().clamp(min=1)
            for name, value in found.items():
                self._values[name].append(float(value))
            if yaw is not None and "degrees" in found:
                for low, high in YAW_BANDS_DEG:
                    if low <= abs(yaw) < high:
                        self._values[f"degrees_yaw_{low}_{high // 5 * 5}"].append(float(found["degrees"]))

    def note(self, name: str, value: float) -> None:
        """Add one photo's value of another score."""
        self._values[name].append(value)

    def means(self) -> dict[str, float]:
        """Mean of each score over the photos that have it."""
        return {name: round(math.fsum(values) / len(values), 4) for name, values in sorted(self._values.items())}


@torch.inference_mode()
def evaluate_batches(net: NormalNet, batches: Iterable[tuple[Targets, list[float | None]]]) -> dict[str, float]:
    """Scores of the network, as it is, on batches with their yaws."""
    scores = Scores()
    net.eval()
    for batch, yaws in batches:
        maps = net(batch.image.to(net.device))
        scores.add(NormalMaps(*(values.cpu() for values in maps)), batch, yaws_deg=yaws)
    return scores.means()


def evaluate_pairs(net: Estimator, pairs: Iterable[Pair], *, flips: bool = True) -> dict[str, float]:
    """Scores on pairs of unseen heads, their crops as they are, and the error of the pose from their coordinates.

    `pose_missing` is the share of pairs from whose coordinates no pose is found.
    """
    scores = Scores()
    for pair in pairs:
        truth = unpack([pack(pair)])
        maps = forward(net, [pair.image], flips=flips)
        if not net.in_ray_frame:
            rays = pixel_rays(pair.camera.intrinsics, *pair.foreground.shape)
            maps = maps._replace(normals=_channels_first(to_ray_frame(maps.normals[0].permute(1, 2, 0).numpy(), rays)))
        scores.add(maps, truth, yaws_deg=[yaw_of(pair.attributes)])
        try:
            pose = head_pose(maps.coordinates[0].permute(1, 2, 0).numpy(), maps.foreground[0].numpy() > 0, pair.camera.intrinsics)
        except InputError:
            scores.note("pose_missing", 1.0)
            continue
        scores.note("pose_missing", 0.0)
        scores.note("pose_degrees", angle_between_deg(pose.camera_from_head[:3, :3], pair.camera.camera_from_world[:3, :3]))
    return scores.means()


def evaluate_scene(net: Estimator, folder: H3dsFolder, *, head_from_world: Array | None = None, flips: bool = True) -> dict[str, float]:
    """Scores on a scene's photos against its true mesh: normals with its masks given, foreground without them.

    Only what the crop around the head shows counts. `refused` is the share of photos without a prediction: in the other
    scores they do not count.

    Args:
        head_from_world: similarity (4, 4) where it is known: then coordinates and poses are scored too, those of photos
            within 60 degrees of frontal also by themselves (`front_...`).
    """
    reference = folder.reference()
    if reference is None:
        raise InputError(f"{folder.path}/full_head.obj: missing. Scoring needs the true mesh.")
    renderer = Renderer(reference.mesh)
    nose = reference.mesh.vertices[reference.landmarks["nose_tip"]] if "nose_tip" in reference.landmarks else None
    scores = Scores()
    for view in folder.view_ids:
        photo = folder.photo(view)
        seen = renderer.render(photo.camera)
        face = np.zeros_like(seen.mask)
        if nose is not None:
            face = seen.mask & (np.linalg.norm(seen.points - nose, axis=-1) * folder.mm_per_world_unit < _FACE_MM)
        try:
            camera = photo.camera.intrinsics
            given = predict_normals(photo.image, net, photo.mask, intrinsics=camera, flips=flips, name=photo.name)
            alone = predict_normals(photo.image, net, intrinsics=camera, flips=flips, name=photo.name)
        except InputError:
            scores.note("refused", 1.0)
            continue
        scores.note("refused", 0.0)
        coordinates = np.zeros_like(seen.points) if head_from_world is None else transform_points(head_from_world, seen.points)
        truth = _single(photo.image, seen.normals, coordinates, seen.mask & given.mask, face & given.mask)
        maps = NormalMaps(_channels_first(given.normals), truth.foreground, _channels_first(given.coordinates), truth.foreground)
        if head_from_world is not None:
            _score_pose(scores, photo, given, head_from_world, np.linalg.norm(given.coordinates - coordinates, axis=-1)[face & given.mask])
        scores.add(maps, truth, with_foreground=False)
        inside = alone.crop.paste(np.ones((8, 8), np.float32), *photo.mask.shape) > 0.5
        both, either = alone.mask & photo.mask & inside, (alone.mask | photo.mask) & inside
        scores.note("iou", float(both.sum() / max(either.sum(), 1)))
    return scores.means()


def _score_pose(scores: Scores, photo: Photo, given: Prediction, head_from_world: Array, face_error: Array) -> None:
    """Angle between the pose from predicted coordinates and the true one; `face_error` (N,), units, of the coordinates."""
    true_rotation = photo.camera.camera_from_world[:3, :3] @ rotation_of(head_from_world).T
    front = -true_rotation[2, 2] > _FRONT_COSINE  # the head's z axis against the camera's
    try:
        pose = head_pose(given.coordinates, given.mask, photo.camera.intrinsics, confidence=given.confidence)
    except InputError:
        scores.note("pose_missing", 1.0)
        return
    scores.note("pose_missing", 0.0)
    found = {"pose_degrees": angle_between_deg(pose.camera_from_head[:3, :3], true_rotation)}
    if len(face_error) and front:
        found["face_coordinates_mm"] = float(face_error.mean()) * MM_PER_UNIT
    for name, value in found.items():
        if name == "pose_degrees":
            scores.note(name, value)
        if front:
            scores.note(f"front_{name}", value)


def angle_between_deg(a: Array, b: Array) -> float:
    """Angle of the rotation that takes rotation matrix `a` (3, 3) to `b`."""
    return math.degrees(math.acos(min(max((np.trace(a @ b.T) - 1) / 2, -1.0), 1.0)))


def _channels_first(maps: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(maps.transpose(2, 0, 1), np.float32))[None]


def _single(image: Array, normals: Array, coordinates: Array, foreground: Array, face: Array) -> Targets:
    """Truth of one photo, as a batch."""
    return Targets(
        image=_channels_first(image),
        normals=_channels_first(normals),
        foreground=torch.from_numpy(foreground)[None].float(),
        face=torch.from_numpy(face)[None].float(),
        coordinates=_channels_first(coordinates),
        hidden=torch.zeros(1, *face.shape),
    )


def yaw_of(attributes: Mapping[str, object]) -> float | None:
    """The yaw in degrees that a pair was made with, or None where it does not say."""
    yaw = attributes.get("yaw_deg")
    return float(yaw) if isinstance(yaw, (int, float)) else None

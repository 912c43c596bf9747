"""Prediction: photos in, maps of the photo's size out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from avatar_kit.normals.crop import WIDE, Crop, crop_from_coordinates, crop_from_mask, rim_ramp, whole_photo
from avatar_kit.normals.network import NormalMaps
from avatar_kit.normals.ray_frame import assumed_intrinsics, pixel_rays, to_camera_frame, to_ray_frame
from avatar_kit.types import Array, InputError, Scene

_COARSE_PX = 256  # of the whole photo, in which a head may be small
_BATCH = 4  # crops at once: bounds the memory
_SHOWN_ERROR_DEG = 30.0  # is drawn black
_GIVEN_ERROR_RAD = 0.05  # how far normals that are given count as wrong: against their precision ours is measured


class Estimator(Protocol):
    """What estimates normals: our network, or another's (`normals.onnx`).

    Attributes:
        crop_px: side of the crops it is given.
        finds_heads: its foreground and coordinates can be relied on; otherwise photos need masks.
        in_ray_frame: its normals are in the ray frame (`normals.ray_frame`), not in the camera frame.
    """

    crop_px: int
    finds_heads: bool
    in_ray_frame: bool

    def __call__(self, image: Tensor) -> NormalMaps:
        """Maps of crops (B, 3, S, S) in sRGB, [0, 1]."""
        ...


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the network says of one photo.

    Attributes:
        normals: unit, outward, camera frame, (H, W, 3) float32; zero where the foreground is less likely than not.
        foreground: probability of the subject, (H, W), zero outside the crop; a mask that was given, inside the crop.
        coordinates: of the surface point in the head frame, units of 200 mm, (H, W, 3); zero where normals are.
        confidence: 1 / (1 + (expected angular error / 0.05 rad)^2), a share of the precision of normals that are given,
            (H, W) in [0, 1]; zero where normals are.
        crop: the square that the network saw.
    """

    normals: Array
    foreground: Array
    coordinates: Array
    confidence: Array
    crop: Crop

    @property
    def mask(self) -> Array:
        """(H, W) bool."""
        return self.foreground > 0.5

    @property
    def expected_error_deg(self) -> Array:
        """Expected angular error (H, W); infinite where there is no normal."""
        with np.errstate(divide="ignore"):
            return np.degrees(_GIVEN_ERROR_RAD * np.sqrt(1 / self.confidence - 1))


def predict_normals(
    image: Array, net: Estimator, mask: Array | None = None, *, intrinsics: Array | None = None, flips: bool = True, name: str = "photo",
    wide: bool = False,
) -> Prediction:  # fmt: skip
    """Maps of one photo (H, W, 3) in sRGB, [0, 1]; see `predict_photos`."""
    return predict_photos([image], net, [mask], intrinsics=[intrinsics], flips=flips, names=[name], wide=wide)[0]


def predict_photos(
    images: Sequence[Array], net: Estimator, masks: Sequence[Array | None] | None = None, *,
    intrinsics: Sequence[Array | None] | None = None, flips: bool = True, names: Sequence[str] = (), wide: bool = False,
) -> list[Prediction]:  # fmt: skip
    """Maps of photos.

    Args:
        images: (H, W, 3) each, sRGB in [0, 1].
        masks: (H, W) bool on the subject, or None where the network must find the head itself.
        intrinsics: (3, 3) of each photo, px, or None where they are not known: then those of a phone are assumed, and the
            normals of a head off the photo's middle are off by a part of its angle from it.
        flips: average with the prediction of the mirrored photo.
        names: for messages.
        wide: look at a larger square too, for what lies around the head; the head itself is from the closer look.

    Raises:
        InputError: no head in a photo, or maps of another frame than the camera's.
    """
    masks = list(masks) if masks is not None else [None] * len(images)
    stated = list(intrinsics) if intrinsics is not None else [None] * len(images)
    names = list(names) or [f"photo {number}" for number in range(len(images))]
    crops = head_crops(images, net, masks, names)
    predictions = []
    for start in range(0, len(images), _BATCH):
        part = range(start, min(start + _BATCH, len(images)))
        maps = forward(net, [crops[i].cut(images[i], net.crop_px) for i in part], flips=flips)
        around = [crops[i].larger(WIDE) for i in part]
        beyond = None
        if wide:
            beyond = forward(net, [crop.cut(images[i], net.crop_px) for crop, i in zip(around, part, strict=True)], flips=flips)
        for row, i in enumerate(part):
            shape = images[i].shape[:2]
            camera = stated[i] if stated[i] is not None else assumed_intrinsics(*shape)
            frame = camera if net.in_ray_frame else None
            found = _on_photo(maps, row, crops[i], shape, masks[i], frame)
            if beyond is not None:
                found = _joined(found, _on_photo(beyond, row, around[row], shape, masks[i], frame))
            check_frame(found.normals, found.mask, names[i], intrinsics=camera)
            predictions.append(found)
    return predictions


def predict_scene(scene: Scene, net: Estimator, *, wide: bool = True) -> Scene:
    """The scene with normals, their confidence and coordinates for the photos that have no normals. Photos that have some get
    the coordinates alone, where the head has to be located. A network that does not find heads gives no coordinates.

    Warns of photos whose maps cannot be right, and leaves them without.

    Raises:
        InputError: none can be right.
    """
    photos, failures = [], []
    for photo in scene.photos:
        if photo.normals is None or (photo.coordinates is None and scene.head_from_world is None and net.finds_heads):
            try:
                needed = photo.normals is None  # else coordinates alone, from which the head is but located: one look will do
                found = predict_normals(
                    photo.image, net, photo.mask, intrinsics=photo.camera.intrinsics, name=photo.name, wide=wide and needed, flips=needed
                )
                if net.finds_heads:
                    photo = replace(photo, coordinates=found.coordinates)
                if photo.normals is None:
                    photo = replace(photo, normals=found.normals, confidence=found.confidence)
            except InputError as error:
                failures.append(error)
        photos.append(photo)
    if failures and all(photo.normals is None for photo in photos):
        raise failures[0]
    for error in failures:
        warnings.warn(f"Goes on without what this photo shows of the head: {error}", stacklevel=2)
    return replace(scene, photos=tuple(photos))


def head_crops(images: Sequence[Array], net: Estimator, masks: Sequence[Array | None], names: Sequence[str]) -> list[Crop]:
    """Squares around the heads of photos: from the mask and then the coordinates, or in two passes from coarse to fine.

    Raises:
        InputError: no head in a photo, or no mask where the network finds no heads.
    """
    found = []
    for image, mask, name in zip(images, masks, names, strict=True):
        if mask is None and not net.finds_heads:
            raise InputError(f"{name}: has no mask, and this network does not find heads. Give a mask (white on the subject).")
        crop = whole_photo(*image.shape[:2]) if mask is None else crop_from_mask(mask)
        if not net.finds_heads:
            found.append(crop)
            continue
        for size in [max(_COARSE_PX, net.crop_px), net.crop_px] if mask is None else [net.crop_px]:
            maps = forward(net, [crop.cut(image, size)], flips=False)
            foreground = torch.sigmoid(maps.foreground[0]).numpy()
            if mask is not None:
                foreground = foreground * (crop.cut(mask.astype(np.float32), size) > 0.5)
            better = crop_from_coordinates(maps.coordinates[0].permute(1, 2, 0).numpy(), foreground, crop)
            if better is None and mask is None:
                raise InputError(f"{name}: no head found. Give a mask (white on the subject), or a photo with a larger head.")
            crop = better or crop
        found.append(crop)
    return found


@torch.inference_mode()
def forward(net: Estimator, crops: Sequence[Array], *, flips: bool) -> NormalMaps:
    """Maps of crops (S, S, 3), on the CPU; with `flips`, means with those of the mirrored crops, whose disagreement costs confidence."""
    batch = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float().to(getattr(net, "device", "cpu"))
    maps = NormalMaps(*(values.cpu() for values in net(batch)))
    if not flips:
        return maps
    other = mirrored(NormalMaps(*(values.cpu() for values in net(batch.flip(-1)))))
    total = maps.normals + other.normals
    normals = torch.nn.functional.normalize(total, dim=1, eps=1e-6)
    disagreement = 2 * torch.acos((total.norm(dim=1) / 2).clamp(0, 1))  # angle between the two
    expected = torch.hypot((-(maps.log_concentration + other.log_concentration) / 2).exp() * 2, disagreement / 2)
    return NormalMaps(
        normals, (maps.foreground + other.foreground) / 2, (maps.coordinates + other.coordinates) / 2, torch.log(2 / expected)
    )


def mirrored(maps: NormalMaps) -> NormalMaps:
    """The maps of the mirrored crop: x changes sign in the camera frame and in the head frame."""
    sign = torch.tensor([-1.0, 1.0, 1.0]).reshape(3, 1, 1)
    return NormalMaps(
        maps.normals.flip(-1) * sign, maps.foreground.flip(-1), maps.coordinates.flip(-1) * sign, maps.log_concentration.flip(-1)
    )


def _joined(near: Prediction, far: Prediction) -> Prediction:
    """The closer look where it reaches, the wider one around it, which counts half; along the closer one's rim they go over into each
    other."""
    height, width = near.foreground.shape
    share = near.crop.paste(rim_ramp(64), height, width)
    foreground = share * near.foreground + (1 - share) * far.foreground
    on = foreground > 0.5
    weights = [part * (each.foreground > 0.5) for part, each in ((share, near), (1 - share, far))]  # off its subject a look says nothing
    weights = [part * on / np.maximum(sum(weights), 1e-6) for part in weights]

    def join(a: Array, b: Array) -> Array:
        return weights[0][..., None] * a + weights[1][..., None] * b

    normals = join(near.normals, far.normals)
    return Prediction(
        normals=normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6) * (weights[0] + weights[1] > 0)[..., None],
        foreground=foreground,
        coordinates=join(near.coordinates, far.coordinates),
        confidence=weights[0] * near.confidence + weights[1] * 0.5 * far.confidence,
        crop=near.crop,
    )


def _on_photo(maps: NormalMaps, row: int, crop: Crop, shape: tuple[int, ...], mask: Array | None, intrinsics: Array | None) -> Prediction:
    """The maps of one crop on its photo. `intrinsics`: of the photo, where the normals are in the ray frame."""
    height, width = shape

    def paste(values: Tensor) -> Array:
        return crop.paste(values.numpy() if values.ndim == 2 else values.permute(1, 2, 0).contiguous().numpy(), height, width)

    probability = torch.sigmoid(maps.foreground[row])
    foreground = paste(probability if mask is None else torch.ones_like(probability))
    if mask is not None:
        foreground = foreground * mask
    on = (foreground > 0.5).astype(np.float32)
    normals = maps.normals[row].permute(1, 2, 0).contiguous().numpy()
    if intrinsics is not None:
        size = len(normals)
        normals = to_camera_frame(normals, pixel_rays(crop.intrinsics(intrinsics, size), size, size))
    normals = crop.paste(normals, height, width)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    confidence = 1 / (1 + (2 * torch.exp(-maps.log_concentration[row]) / _GIVEN_ERROR_RAD) ** 2)
    return Prediction(
        normals=normals / np.maximum(length, 1e-6) * on[..., None],
        foreground=foreground,
        coordinates=paste(maps.coordinates[row]) * on[..., None],
        confidence=paste(confidence) * on,
        crop=crop,
    )


def check_frame(normals: Array, mask: Array, name: str, *, intrinsics: Array | None = None) -> None:
    """Refuse maps (H, W, 3) that are not outward normals in the camera frame (x right, y down, z forward).

    Visible surfaces face the camera; along the outline normals point left on the left, right on the right and up on top.
    With `intrinsics` (3, 3) all this is looked at against the rays, which matters for heads off the optical axis.

    Raises:
        InputError: naming the axis at fault.
    """
    if not mask.any():
        return
    if intrinsics is not None:
        normals = to_ray_frame(normals, pixel_rays(intrinsics, *mask.shape))
    facing = float(normals[mask][:, 2].mean())
    across = normals[mask.any(1)][..., 0]
    within = mask[mask.any(1)]
    first, last = within.argmax(1), within.shape[1] - 1 - within[:, ::-1].argmax(1)
    line = np.arange(len(within))
    to_right = float((across[line, last] - across[line, first]).mean())
    highest = mask.argmax(0)[mask.any(0)]
    downwards = float(normals[highest, np.flatnonzero(mask.any(0)), 1].mean())
    tiny = 1e-3  # a map that faces the camera throughout is poor, not wrong
    wrong = [axis for axis, bad in (("x", to_right < -tiny), ("y", downwards > tiny), ("z", facing > 0)) if bad]
    if wrong:
        raise InputError(
            f"{name}: the normals' {' and '.join(wrong)} point the wrong way (mean n . ray {facing:.2f}, must be below 0). "
            "They must point out of the surface, in the frame of x right, y down, z forward. For an .onnx network, give --axes."
        )


def preview(image: Array, prediction: Prediction) -> Array:
    """Photo, normals (y up, z to the viewer), mask and expected error side by side, (h, 4 w, 3) uint8, at most 512 px high.

    The error is white at 0 and black from 30 degrees on.
    """
    normals = (prediction.normals * (1, -1, -1) + 1) / 2 * prediction.mask[..., None]
    sure = np.clip(1 - prediction.expected_error_deg / _SHOWN_ERROR_DEG, 0, 1)
    grey = [np.repeat(values[..., None], 3, axis=-1) for values in (prediction.foreground, sure)]
    height, width = image.shape[:2]
    scale = min(1.0, 512 / height)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    panels = [cv2.resize(np.asarray(panel, np.float32), size, interpolation=cv2.INTER_AREA) for panel in (image, normals, *grey)]
    return np.round(np.clip(np.concatenate(panels, axis=1), 0, 1) * 255).astype(np.uint8)

"""What is estimated of a photo, on the photo: from crops, checked, and as a picture."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from avatar_kit.normals.crop import Crop, rim_ramp
from avatar_kit.normals.network import NormalMaps
from avatar_kit.normals.ray_frame import pixel_rays, to_camera_frame, to_ray_frame
from avatar_kit.types import Array, InputError

_SHOWN_ERROR_DEG = 30.0  # is drawn black
_GIVEN_ERROR_RAD = 0.05  # how far normals that are given count as wrong: against their precision ours is measured


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


def on_photo(maps: NormalMaps, row: int, crop: Crop, shape: tuple[int, ...], mask: Array | None, intrinsics: Array | None) -> Prediction:
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


def joined(near: Prediction, far: Prediction) -> Prediction:
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


def check_frame(normals: Array, mask: Array, name: str, *, intrinsics: Array | None = None) -> None:
    """Refuse maps (H, W, 3) that are not outward normals in the camera frame (x right, y down, z forward).

    Visible surfaces face the camera; along the outline normals point left on the left, right on the right and up on top. Where the
    photo's border cuts the subject there is no outline.
    With `intrinsics` (3, 3) all this is looked at against the rays, which matters for heads off the optical axis.

    Raises:
        InputError: naming the axis at fault.
    """
    if not mask.any():
        return
    if intrinsics is not None:
        normals = to_ray_frame(normals, pixel_rays(intrinsics, *mask.shape))
    facing = float(normals[mask][:, 2].mean())
    whole = np.flatnonzero(mask.any(1) & ~mask[:, 0] & ~mask[:, -1])  # rows
    first, last = mask[whole].argmax(1), mask.shape[1] - 1 - mask[whole, ::-1].argmax(1)
    to_right = float((normals[whole, last, 0] - normals[whole, first, 0]).mean()) if len(whole) else 0.0
    topped = np.flatnonzero(mask.any(0) & ~mask[0])  # columns
    downwards = float(normals[mask.argmax(0)[topped], topped, 1].mean()) if len(topped) else 0.0
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

"""What estimates normals, and how it is asked: on crops around heads, mirrored too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from avatar_kit.normals.crop import Crop, crop_from_coordinates, crop_from_mask, whole_photo
from avatar_kit.normals.network import NormalMaps
from avatar_kit.types import Array, InputError

_COARSE_PX = 256  # of the whole photo, in which a head may be small


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

"""Prediction: photos in, maps of the photo's size out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

from avatar_kit.normals.crop import WIDE
from avatar_kit.normals.estimator import Estimator, forward, head_crops
from avatar_kit.normals.prediction import Prediction, check_frame, joined, on_photo
from avatar_kit.normals.ray_frame import assumed_intrinsics
from avatar_kit.types import Array, InputError, Scene

_BATCH = 4  # crops at once: bounds the memory


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
            found = on_photo(maps, row, crops[i], shape, masks[i], frame)
            if beyond is not None:
                found = joined(found, on_photo(beyond, row, around[row], shape, masks[i], frame))
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

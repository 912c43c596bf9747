"""Plain photos of one head become a scene: which are used, cameras in one frame, and what was made of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from avatar_kit.conventions import MM_PER_UNIT
from avatar_kit.normals.predict import Estimator
from avatar_kit.normals.storage import load_estimator
from avatar_kit.photos.focal import with_focal_lengths
from avatar_kit.photos.folder import read_plain_photos
from avatar_kit.photos.understand import Understood, understand
from avatar_kit.scene.views import nearest_to_layout
from avatar_kit.types import InputError, Scene

_BEHIND_DEG = 115.0  # of yaw: from further round there is no face to be seen
_SAME = 0.995  # correlation of two heads' pictures, 32 px: one photo twice
_OTHER_TONE = 22.0  # difference of the faces' mean colours (CIE a*, b*): other light, or another person


@dataclass(frozen=True, eq=False)
class PlainScene:
    """A scene and where it comes from.

    Attributes:
        scene: of the photos that are used; its world is the head frame in millimetres.
        understood: the same photos.
        left_out: names of photos that are not used, and why.
        notes: on the photos together.
    """

    scene: Scene
    understood: tuple[Understood, ...]
    left_out: dict[str, str]
    notes: list[str]


def scene_from_photos(
    path: Path | str, net: Estimator | None = None, *, views: int | None = None, masks: Path | None = None, focal_mm: float | None = None,
    person: int | None = None, on_photo: Callable[[], object] | None = None,
) -> PlainScene:  # fmt: skip
    """Read plain photos and estimate what a posed scene states.

    Args:
        path: a photo, or a folder of them.
        net: finds heads and predicts normals; the shipped network by default.
        views: use so many, those nearest the paper's layout; None uses all.
        masks: a folder with NAME.png for the photos, white on the subject.
        focal_mm: of all photos, 35 mm equivalent, where EXIF is silent or wrong.
        person: which head of each photo, counted from the largest, from 1.

    Raises:
        InputError: no photo can be used; the message says why, of each.
    """
    path, net = Path(path), net or load_estimator(None)
    found: list[Understood] = []
    left_out: dict[str, str] = {}
    for plain in read_plain_photos(path, masks=masks, focal_mm=focal_mm):
        try:
            seen = understand(plain, net, person=person)
            twin = next((other.name for other in found if _same_picture(other, seen)), None)
            if twin is not None:
                left_out[plain.name] = f"is the same photo as {twin}"
            elif abs(seen.yaw_deg) > _BEHIND_DEG:
                left_out[plain.name] = "shows the back of the head"
            else:
                found.append(seen)
        except InputError as error:
            left_out[plain.name] = str(error).removeprefix(f"{plain.name}: ")
        if on_photo:
            on_photo()
    found = with_focal_lengths(found)
    if not found:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise InputError(f"{path}: no photo can be used. {reasons}")
    if views is not None and views > len(found):
        raise InputError(f"{path}: {len(found)} photos can be used, --views asks for {views}. {_listed(left_out)}Use --views {len(found)}.")
    if views is not None and views < len(found):
        chosen = nearest_to_layout(np.array([[seen.yaw_deg, seen.pitch_deg] for seen in found]), views)
        left_out |= {seen.name: "not needed" for number, seen in enumerate(found) if number not in chosen}
        found = [found[number] for number in chosen]
    head_from_world = np.diag([1 / MM_PER_UNIT, 1 / MM_PER_UNIT, 1 / MM_PER_UNIT, 1.0])
    name = path.resolve().stem if path.is_file() else path.resolve().name
    scene = Scene(tuple(seen.photo for seen in found), tuple(range(len(found))), name, head_from_world)
    return PlainScene(scene, tuple(found), left_out, _together(found))


def _listed(left_out: dict[str, str]) -> str:
    return "".join(f"{name}: {reason}. " for name, reason in left_out.items())


def _same_picture(a: Understood, b: Understood) -> bool:
    small = []
    for seen in (a, b):
        picture = cv2.resize(seen.photo.image, (32, 32), interpolation=cv2.INTER_AREA).ravel()
        small.append((picture - picture.mean()) / max(float(picture.std()), 1e-6))
    return float((small[0] * small[1]).mean()) > _SAME


def _together(found: Sequence[Understood]) -> list[str]:
    """What the photos do not agree on."""
    notes = []
    tones = [_face_tone(seen) for seen in found]
    for seen, tone in zip(found, tones, strict=True):
        others = [other for other in tones if other is not tone]
        if others and np.median([np.linalg.norm(tone - other) for other in others]) > _OTHER_TONE:
            notes.append(f"{seen.name}: the face has another colour than in the other photos: other light, or another person?")
    spread = np.array([seen.yaw_deg for seen in found])
    if len(found) > 1 and np.ptp(spread) < 20:
        notes.append("all photos are from nearly one direction: views from the sides would say more about the shape")
    return notes


def _face_tone(seen: Understood) -> np.ndarray:
    """Mean a* and b* (CIE) of the face's pixels, (2,)."""
    at = seen.photo.coordinates
    assert at is not None
    face = seen.photo.mask & (at[..., 2] > 0.25) & (np.abs(at[..., 1]) < 0.3)
    if not face.any():
        face = seen.photo.mask
    return cv2.cvtColor(seen.photo.image, cv2.COLOR_RGB2LAB)[face][:, 1:].mean(0)

"""Plain photos of one head become a scene: which are used, cameras in one frame, and what was made of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from avatar_kit.conventions import MM_PER_UNIT
from avatar_kit.normals.estimator import Estimator
from avatar_kit.normals.pose import CLEAR_SHARE
from avatar_kit.normals.storage import load_estimator
from avatar_kit.photos.bodies import down_to_the_neck
from avatar_kit.photos.focal import with_focal_lengths
from avatar_kit.photos.folder import mask_folder, read_plain_photos
from avatar_kit.photos.together import pose_together
from avatar_kit.photos.understand import Understood, from_its_camera, thumbnail, understand
from avatar_kit.scene.views import nearest_to_layout
from avatar_kit.types import Array, InputError, Scene

_BEHIND_DEG = 115.0  # of yaw: from further round there is no face to be seen
_SAME = 0.995  # correlation of two whole photos, or of two heads, 32 px: one photo twice, however it was saved
_SAME_DEG = 8.0  # ... if the heads' yaws differ by no more: before a background that stays, a head that turns is little of a photo
_OTHER_TONE = 22.0  # difference of the faces' mean colours (CIE a*, b*): other light, or another person
_YAW_OFF_DEG = 30.0  # between what the user says and what the photo shows


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
    person: int | None = None, yaws_deg: Sequence[float] | None = None, on_photo: Callable[[], object] | None = None,
) -> PlainScene:  # fmt: skip
    """Read plain photos and estimate what a posed scene states.

    Args:
        path: a photo, or a folder of them.
        net: finds heads and predicts normals; the shipped network by default.
        views: use so many, those nearest the paper's layout; None uses all.
        masks: a folder with NAME.png for the photos, white on the subject.
        focal_mm: of all photos, 35 mm equivalent, where EXIF is silent or wrong.
        person: which head of each photo, counted from the largest, from 1.
        yaws_deg: of the camera around the head, one a photo in the order of their names: 0 before the face, positive where
            it sees the subject's left side. A help where photos are unclear; clear ones overrule it.

    Raises:
        InputError: no photo can be used, the message says why, of each; or another number of yaws than of photos.
    """
    path, net = Path(path), net or load_estimator(None)
    found: list[Understood] = []
    left_out: dict[str, str] = {}
    predicted: set[str] = set()  # of photos whose mask nobody gave

    def leave_out(file: Path, error: Exception) -> None:
        left_out[file.name] = str(error).removeprefix(f"{file}: ")

    for plain in read_plain_photos(path, masks=masks, focal_mm=focal_mm, yaws_deg=yaws_deg, on_unreadable=leave_out):
        predicted |= {plain.name} if plain.mask is None else set()
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
    found = down_to_the_neck([_with_doubts(seen) for seen in _together(found)], predicted)
    head_from_world = np.diag([1 / MM_PER_UNIT, 1 / MM_PER_UNIT, 1 / MM_PER_UNIT, 1.0])
    name = path.resolve().stem if path.is_file() else path.resolve().name
    scene = Scene(tuple(seen.photo for seen in found), tuple(range(len(found))), name, head_from_world)
    given = mask_folder(path, masks)
    lacking = [seen.name for seen in found if given and seen.name in predicted]
    notes = [f"no mask in {given} for {', '.join(lacking)}: predicted"] * bool(lacking)
    return PlainScene(scene, tuple(found), left_out, [*notes, *_disagreements(found)])


def _together(found: list[Understood]) -> list[Understood]:
    """With cameras that agree, of those whose coordinates are clear."""
    clear = [number for number, seen in enumerate(found) if seen.agreement >= CLEAR_SHARE]
    out = list(found)
    for number, photo in zip(clear, pose_together([found[number].photo for number in clear]), strict=True):
        out[number] = from_its_camera(replace(found[number], photo=photo))
    return out


def _with_doubts(seen: Understood) -> Understood:
    """With a note where the photo does not show what the user says of it."""
    stated = seen.stated_yaw_deg
    if stated is None or abs((seen.yaw_deg - stated + 180.0) % 360.0 - 180.0) <= _YAW_OFF_DEG:
        return seen
    note = (
        f"--yaw says {stated:+.0f} deg, the photo shows {seen.yaw_deg:+.0f}: are the angles in the order of the file names, and positive "
        "where the subject's left side is seen?"
    )
    return replace(seen, notes=[*seen.notes, note])


def _listed(left_out: dict[str, str]) -> str:
    return "".join(f"{name}: {reason}. " for name, reason in left_out.items())


def _same_picture(a: Understood, b: Understood) -> bool:
    whole = abs(a.yaw_deg - b.yaw_deg) < _SAME_DEG and _alike(a.thumbnail, b.thumbnail)
    return whole or _alike(thumbnail(a.photo.image), thumbnail(b.photo.image))


def _alike(a: Array, b: Array) -> bool:
    a, b = ((small - small.mean()) / max(float(small.std()), 1e-6) for small in (a, b))
    return float((a * b).mean()) > _SAME


def _disagreements(found: Sequence[Understood]) -> list[str]:
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

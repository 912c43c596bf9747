"""From a plain photo to a posed one: whose head, which mask, which camera; and in words why a photo cannot be used."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from avatar_kit.conventions import MM_PER_UNIT
from avatar_kit.normals.crop import WIDE, Crop
from avatar_kit.normals.estimator import Estimator
from avatar_kit.normals.pose import CLEAR_SHARE, head_pose
from avatar_kit.normals.predict import predict_normals
from avatar_kit.normals.ray_frame import pixel_rays, to_camera_frame, to_ray_frame
from avatar_kit.photos.find import closer_look, find_heads, head_px, subject_mask
from avatar_kit.photos.folder import PlainPhoto
from avatar_kit.types import Array, Camera, InputError, Photo

ASSUMED_FOCAL = 1.2  # of the longer side: between a phone's and a portrait lens's
_SMALLEST_HEAD_PX = 64
_DARK = 0.05  # mean luminance of the head
_BLURRED = 2e-4  # variance of the Laplacian over that of a head 128 px long, times 0.02; sharp photos have ten times that
_BLUR_PX = 128
_CUT_SHARE = 0.25  # of the head's outline that lies on the photo's border
_THUMBNAIL_PX = 32
_LARGEST_PX = 640  # of the part of the photo that is used


@dataclass(frozen=True, eq=False)
class Understood:
    """What is believed of a photo.

    Attributes:
        name: of the file.
        photo: the part around the head, with mask, camera, normals, confidence and coordinates; its world is the head frame
            in millimetres.
        crop: of the head, in the whole photo.
        people: heads in the photo.
        yaw_deg, pitch_deg, roll_deg: of the camera around the head: yaw is positive when it sees the subject's left side, pitch
            from above.
        distance_mm: from the camera to the head's centre.
        focal_px, focal_source: in pixels of the whole photo; "exif", "stated", "estimated" or "cropped".
        agreement: share of the head's pixels that agree with the pose within 10 mm.
        thumbnail: of the whole photo.
        notes: what the user should know, in words.
        stated_yaw_deg: what the user says of the yaw, or None.
    """

    name: str
    photo: Photo
    crop: Crop
    people: int
    yaw_deg: float
    pitch_deg: float
    roll_deg: float
    distance_mm: float
    focal_px: float
    focal_source: str
    agreement: float
    thumbnail: Array
    notes: list[str] = field(default_factory=list)
    stated_yaw_deg: float | None = None


def understand(plain: PlainPhoto, net: Estimator, *, person: int | None = None) -> Understood:
    """Find the head of a photo, its mask and its camera.

    Args:
        person: which head, counted from the largest, from 1.

    Raises:
        InputError: no head, or one that cannot be used: too small, too dark, cut off, or hidden.
    """
    notes: list[str] = []
    crops = find_heads(plain.image if plain.mask is None else _masked(plain), net, name=plain.name)
    if len(crops) > 1 and person is None:
        notes.append(f"shows {len(crops)} people; the largest head is used (--person N picks another)")
    if person is not None and not 1 <= person <= len(crops):
        shown = "1 head" if len(crops) == 1 else f"{len(crops)} heads"
        raise InputError(f"{plain.name}: shows {shown}, --person asks for number {person}. 1 is the largest.")
    first = crops[(person or 1) - 1]
    head = closer_look(plain.image, net, first, name=plain.name, mask=plain.mask, alone=len(crops) == 1)
    notes += _look(plain, head)
    mask = subject_mask(plain.image, net, head) if plain.mask is None else plain.mask
    if not mask.any():
        raise InputError(f"{plain.name}: the head cannot be told from what is behind it. Use a sharper or a lighter photo, or give a mask.")
    height, width = plain.image.shape[:2]
    if plain.focal_px is not None:
        focal, source = plain.focal_px, plain.focal_source
    else:
        focal, source = ASSUMED_FOCAL * max(height, width), "estimated"
    shown = _used(replace(plain, mask=mask), head.larger(WIDE), focal)
    maps = predict_normals(shown.image, net, shown.mask, intrinsics=shown.camera.intrinsics, name=plain.name, wide=True)
    shown = replace(shown, normals=maps.normals, confidence=maps.confidence, coordinates=maps.coordinates)
    seen = Understood(plain.name, shown, head, len(crops), 0, 0, 0, 0, focal, source, 0, thumbnail(plain.image), notes, plain.yaw_deg)
    posed = pose_again(seen, focal)
    if posed.agreement < CLEAR_SHARE:
        notes.append(f"only {posed.agreement:.0%} of the head's pixels agree on how it stands: an unusual view, or something before it")
    return posed


def thumbnail(image: Array) -> Array:
    """In grey, (32, 32)."""
    return cv2.resize(image, (_THUMBNAIL_PX, _THUMBNAIL_PX), interpolation=cv2.INTER_AREA).mean(-1)


def pose_again(seen: Understood, focal_px: float, *, normals: bool = True) -> Understood:
    """The same with another focal length: the normals, which are known against the rays, turn with them, and the head moves.

    Args:
        normals: False leaves them, and the photo's normals do not match its camera.

    Raises:
        InputError: no pose explains the coordinates.
    """
    photo, ratio = seen.photo, focal_px / seen.focal_px
    intrinsics = np.diag([ratio, ratio, 1.0]) @ photo.camera.intrinsics
    intrinsics[:2, 2] = photo.camera.intrinsics[:2, 2]
    assert photo.coordinates is not None
    assert photo.normals is not None
    known = photo.mask & (photo.coordinates != 0).any(-1)
    try:
        pose = head_pose(photo.coordinates, known, intrinsics, confidence=photo.confidence, yaw_deg=seen.stated_yaw_deg)
    except InputError as error:
        raise InputError(f"{seen.name}: shows no face that can be understood ({error})") from error
    turned = photo.normals
    if normals:
        before, after = (pixel_rays(k, *photo.mask.shape) for k in (photo.camera.intrinsics, intrinsics))
        turned = to_camera_frame(to_ray_frame(turned, before), after).astype(np.float32)
    world_from_camera = np.linalg.inv(pose.camera_from_head)
    world_from_camera[:3, 3] *= MM_PER_UNIT
    camera = Camera(intrinsics, world_from_camera, photo.camera.width, photo.camera.height)
    return from_its_camera(
        replace(seen, photo=replace(photo, camera=camera, normals=turned), focal_px=focal_px, agreement=pose.inlier_share)
    )


def from_its_camera(seen: Understood) -> Understood:
    """The same with angles and distance read off the photo's camera."""
    camera = seen.photo.camera
    yaw, pitch, roll = view_angles_deg(camera.world_from_camera)
    return replace(seen, yaw_deg=yaw, pitch_deg=pitch, roll_deg=roll, distance_mm=float(camera.camera_from_world[2, 3]))


def view_angles_deg(world_from_camera: Array) -> tuple[float, float, float]:
    """Yaw, pitch and roll of a camera around the head frame (`scene.cameras.orbit_camera`'s); 0, 0, 0 looks straight at the face."""
    facing = np.diag([1.0, -1.0, -1.0])  # axes of a camera before the face: x right (to the subject's left), y down, z into it
    yaw, minus_pitch, roll = Rotation.from_matrix(world_from_camera[:3, :3] @ facing).as_euler("YXZ", degrees=True)
    return float(yaw), float(-minus_pitch), float(-roll)


def _used(plain: PlainPhoto, crop: Crop, focal_px: float) -> Photo:
    """The part of a photo in `crop`, at most `_LARGEST_PX` long, with the camera that a focal length and a pinhole say."""
    part, (left, top) = _part(plain, crop)
    height, width = part.image.shape[:2]
    scale = min(1.0, _LARGEST_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = cv2.resize(part.image, size, interpolation=cv2.INTER_AREA)
    assert part.mask is not None
    mask = cv2.resize(part.mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.5
    across, down = size[0] / width, size[1] / height
    middle = np.array(plain.image.shape[1::-1]) / 2 - (left, top)
    intrinsics = np.array([[focal_px * across, 0, middle[0] * across], [0, focal_px * down, middle[1] * down], [0, 0, 1.0]])
    return Photo(image, mask, Camera(intrinsics, np.eye(4), *size), name=plain.name)


def _part(plain: PlainPhoto, crop: Crop) -> tuple[PlainPhoto, tuple[int, int]]:
    """What of a photo lies in a crop, and the pixel (x, y) at which it begins."""
    rows, columns = crop.window
    mask = None if plain.mask is None else plain.mask[rows, columns]
    return replace(plain, image=np.ascontiguousarray(plain.image[rows, columns]), mask=mask), (columns.start, rows.start)


def _masked(plain: PlainPhoto) -> Array:
    """The photo with grey where the mask is black: nobody else is to be found there."""
    assert plain.mask is not None
    return np.where(plain.mask[..., None], plain.image, np.float32(0.5))


def _look(plain: PlainPhoto, crop: Crop) -> list[str]:
    """Refuse photos on which nothing can be seen; notes on those that are poor."""
    size = head_px(crop)
    if size < _SMALLEST_HEAD_PX:
        raise InputError(
            f"{plain.name}: the head is {size:.0f} px long; at least {_SMALLEST_HEAD_PX} are needed. Use a closer or larger photo."
        )
    inner = Crop.around(crop.left + crop.side / 2, crop.top + crop.side / 2, size)
    part, _ = _part(plain, inner)
    grey = cv2.cvtColor(part.image, cv2.COLOR_RGB2GRAY)
    brightness = float(grey.mean())
    if brightness < _DARK:
        raise InputError(f"{plain.name}: is too dark to see a face (mean brightness {brightness:.2f}). Use a brighter photo.")
    notes = []
    scale = _BLUR_PX / max(grey.shape)
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    detail = float(cv2.Laplacian(small, cv2.CV_32F).var()) / max(float(small.var()), 1e-4) * 0.02
    if detail < _BLURRED:
        notes.append("is blurred: expect a smooth head")
    height, width = plain.image.shape[:2]
    beyond = [-inner.left, -inner.top, inner.left + inner.side - width, inner.top + inner.side - height]
    if max(beyond) > _CUT_SHARE * inner.side:
        raise InputError(f"{plain.name}: the head is cut off at the photo's border. Use a photo that shows all of it.")
    if max(beyond) > 0.03 * inner.side:
        notes.append("the head touches the photo's border: what is cut off is guessed")
    return notes

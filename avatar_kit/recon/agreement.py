"""How well each photo agrees with the head that was made of all of them: what shows a wrong camera, mask or person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from avatar_kit.conventions import BOX_MIN, transform_points
from avatar_kit.kernels.ray_search import clip_to_box
from avatar_kit.recon.fit import FittedHead
from avatar_kit.recon.rays import shrink
from avatar_kit.render.renderer import Renderer
from avatar_kit.types import Array, Camera, Mesh, Scene

_SIZE_PX = 192  # longer side to which photos are shrunk
_LEAST_SHARED = 0.25  # of twelve synthetic subjects, 0.4 and more where cameras end less than 11 degrees off, 0 to 0.23 where 12 to 29
_LEAST_IOU = 0.85  # of a photo that fits: 0.93 and more; a mirrored mask, or another photo's camera, leaves 0.81 and 0.67


@dataclass(frozen=True)
class Agreement:
    """Of one photo.

    Attributes:
        name: the photo's.
        mask_iou: of the head's outline and the mask, where rays pass the part of the box that was reconstructed.
        normals_deg: mean angle between the surface's normals and the photo's; None where it has none.
    """

    name: str
    mask_iou: float
    normals_deg: float | None

    def doubt(self, *, alone: bool) -> str | None:
        """What to say about a photo that does not fit, or None; `alone` if it is the only one."""
        if self.mask_iou >= _LEAST_IOU:
            return None
        what = f"{self.name}: the head covers its mask badly (IoU {self.mask_iou:.2f})."
        if alone:
            return f"{what} Check the mask; if it is right, hair or clothes have a shape that the prior does not know: more photos help."
        return f"{what} Check its camera and mask in preview.png, and that it shows the same head; leave it out if it does not."


def doubt_about_cameras(shared: float | None) -> str | None:
    """What to say where estimated cameras do not agree, or None; `shared` is that of `recon.posed_head.Start`."""
    if shared is None or shared >= _LEAST_SHARED:
        return None
    return (
        f"the cameras may be more than 10 degrees off: of the spots that two photos seem to share, {100 * shared:.0f} % lie on one head. "
        "Sharper photos in one light, with the hair out of the face, help."
    )


def agreements(mesh: Mesh, fitted: FittedHead, scene: Scene, device: str) -> list[Agreement]:
    """One per photo of the scene.

    Args:
        mesh: the result in the scene's world.
        fitted: where the head is, and down to which height it was seen.
        device: of the rendering, "cpu" or "cuda".
    """
    renderer, found = Renderer(mesh, device=device), []
    for photo in scene.photos:
        small = shrink(photo, _SIZE_PX)
        seen = renderer.render(small.camera)
        about = _passes(small.camera, fitted.head_from_world, fitted.lowest_seen)
        either, both = (seen.mask | small.mask) & about, seen.mask & small.mask
        degrees = None
        if small.normals is not None:
            known = both & (np.linalg.norm(small.normals, axis=-1) > 0.5)
            cosine = np.clip((small.normals * seen.normals).sum(-1)[known], -1.0, 1.0)
            degrees = float(np.degrees(np.arccos(cosine)).mean()) if known.any() else None
        found.append(Agreement(photo.name, float((both & about).sum() / max(either.sum(), 1)), degrees))
    return found


def _passes(camera: Camera, head_from_world: Array, lowest: float) -> Array:
    """Which pixels' rays pass the box above the height `lowest`, (H, W) bool."""
    origins, directions = camera.rays(camera.pixel_grid().reshape(-1, 2))
    ends = transform_points(head_from_world, np.stack([origins, origins + directions]))
    start, along = torch.from_numpy(ends[0]), torch.nn.functional.normalize(torch.from_numpy(ends[1] - ends[0]), dim=-1)
    entry, leave = clip_to_box(start, along)
    highest = torch.maximum((start + entry[:, None] * along)[:, 1], (start + leave[:, None] * along)[:, 1])
    return ((entry < leave) & (highest > max(lowest, BOX_MIN))).numpy().reshape(camera.height, camera.width)

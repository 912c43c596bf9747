"""Fresh looks for pairs that are used again: mirrored, turned, closer, elsewhere, and photographed by a worse camera.

Every draw comes from the generator that is passed in, which is on the batch's device. Photos (B, 3, S, S) in sRGB, [0, 1].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from avatar_kit.normals.collage import other_backdrops, other_clothes
from avatar_kit.normals.losses import Targets

_MOVED_SHARE = 0.6  # of the pairs are turned and brought closer; resampling costs a little sharpness
_TURN_DEG = 15.0
_ZOOM = 1.4
_RELIT_SHARE, _RELIT = 0.4, 0.8  # of the pairs; at most e to this between surfaces that face the light and those at right angles to it
_DRESSED_SHARE, _COLLAGE_SHARE = 0.4, 0.5  # of the pairs, with other clothes and with another background


def augment(batch: Targets, generator: torch.Generator) -> Targets:
    """All of the below, each for a random part of the batch."""
    count = len(batch.image)
    batch = mirror(batch, _chance(count, 0.5, generator))
    moved = _chance(count, _MOVED_SHARE, generator)
    turn = _uniform(count, -_TURN_DEG, _TURN_DEG, generator) * moved * math.pi / 180
    zoom = torch.where(moved, _uniform(count, 1.0, _ZOOM, generator), 1.0)
    shift = _uniform(2 * count, -1.0, 1.0, generator).reshape(count, 2)
    batch = move(batch, turn, zoom, shift)
    batch = relight(batch, _chance(count, _RELIT_SHARE, generator), generator)
    batch = other_clothes(batch, _chance(count, _DRESSED_SHARE, generator), generator)
    batch = other_backdrops(batch, _chance(count, _COLLAGE_SHARE, generator), generator)
    return batch._replace(image=photograph(batch.image, generator))


def mirror(batch: Targets, which: Tensor) -> Targets:
    """Left and right exchanged where `which` (B,): the camera's x and the head's x change sign."""
    which = which.reshape(-1, 1, 1, 1)
    sign = torch.tensor([-1.0, 1.0, 1.0], device=which.device).reshape(3, 1, 1)

    def flip(maps: Tensor) -> Tensor:
        return torch.where(which if maps.ndim == 4 else which[:, 0], maps.flip(-1), maps)

    signs = torch.where(which, sign, 1.0)
    return Targets(
        flip(batch.image), flip(batch.normals) * signs, flip(batch.foreground), flip(batch.face), flip(batch.coordinates) * signs,
        flip(batch.hidden),
    )  # fmt: skip


def move(batch: Targets, turn: Tensor, zoom: Tensor, shift: Tensor) -> Targets:
    """The crops turned and enlarged about a point; what comes in from outside repeats the edge.

    Turning a photo is turning the camera about its optical axis and moving its principal point, whatever the point that
    it is turned about, so the normals turn along, in the camera frame and in the ray frame.

    Args:
        turn: clockwise in the picture, rad, (B,).
        zoom: at least 1, (B,).
        shift: of the centre, in [-1, 1] of the room that the zoom leaves, (B, 2).
    """
    cos, sin = torch.cos(turn), torch.sin(turn)
    room = shift * (1 - 1 / zoom)[:, None]
    inverse = torch.stack([cos, sin, room[:, 0] * zoom, -sin, cos, room[:, 1] * zoom], dim=1).reshape(-1, 2, 3) / zoom[:, None, None]
    flags = torch.stack([batch.foreground, batch.face, batch.hidden], dim=1)
    maps = torch.cat([batch.image, batch.normals, batch.coordinates, flags], dim=1)
    grid = F.affine_grid(inverse, list(maps.shape), align_corners=False)
    maps = F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
    image, normals, coordinates, cover, face, hidden = maps.split([3, 3, 3, 1, 1, 1], dim=1)
    foreground = (cover > 0.5).float()
    x, y, z = normals.unbind(1)
    cos, sin = cos.reshape(-1, 1, 1), sin.reshape(-1, 1, 1)
    normals = F.normalize(torch.stack([cos * x - sin * y, sin * x + cos * y, z], dim=1), dim=1, eps=1e-6)
    return Targets(
        image, normals * foreground, foreground[:, 0], ((face > 0.5) * foreground)[:, 0], coordinates / cover.clamp(min=0.5) * foreground,
        (hidden > 0.5).float()[:, 0],
    )  # fmt: skip


def relight(batch: Targets, which: Tensor, generator: torch.Generator) -> Targets:
    """One more light, soft and coloured, on the subjects of some photos, `which` (B,); it casts no shadows.

    A photo times the ratio of two diffuse shadings is the same surface in other light (Riklin-Raviv and Shashua, "The
    quotient image", 2001).
    """
    count, device = len(batch.image), batch.image.device
    towards = torch.randn(count, 3, generator=generator, device=device) - torch.tensor([0.0, 0.3, 0.7], device=device)
    towards = F.normalize(towards, dim=1).reshape(-1, 3, 1, 1)
    strength = _uniform(count * 3, 0.8, 1.2, generator).reshape(-1, 3, 1, 1) * _uniform(count, 0.0, _RELIT, generator).reshape(-1, 1, 1, 1)
    cosine = (batch.normals * towards).sum(1, keepdim=True)
    gain = torch.exp(strength * (cosine - 0.5) * batch.foreground[:, None])
    return batch._replace(image=torch.where(which.reshape(-1, 1, 1, 1), (batch.image * gain).clamp(max=1), batch.image))


def photograph(image: Tensor, generator: torch.Generator) -> Tensor:
    """Other light, colours, sharpness and noise; a patch hidden now and then. The truth stays."""
    count = len(image)

    def draw(low: float, high: float) -> Tensor:
        return _uniform(count, low, high, generator).reshape(-1, 1, 1, 1)

    def some(share: float) -> Tensor:
        return _chance(count, share, generator).reshape(-1, 1, 1, 1)

    grey = image.mean(1, keepdim=True)
    image = torch.where(some(0.1), grey, grey + (image - grey) * draw(0.6, 1.4))
    image = image.clamp(min=1e-4) ** torch.exp(draw(-0.4, 0.4))
    tint = _uniform(count * 3, 0.88, 1.12, generator).reshape(-1, 3, 1, 1)
    image = (image - 0.5) * draw(0.75, 1.25) + 0.5
    image = image * draw(0.75, 1.25) * tint
    image = torch.where(some(0.25), _blurred(image, float(_uniform(1, 0.5, 1.5, generator))), image)
    noise = torch.randn(image.shape, generator=generator, device=generator.device) * draw(0.0, 0.05) * some(0.5)
    return _hide(image + noise, generator).clamp(0, 1)


def _blurred(image: Tensor, sigma: float) -> Tensor:
    offsets = torch.arange(-3, 4, dtype=torch.float32, device=image.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, 7)
    padded = F.pad(image, (3, 3, 3, 3), mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel, groups=3), kernel.transpose(2, 3), groups=3)


def _hide(image: Tensor, generator: torch.Generator) -> Tensor:
    """A rectangle of one colour in a tenth of the photos: the network must guess from what surrounds it."""
    size = image.shape[-1]
    for row in torch.nonzero(_chance(len(image), 0.1, generator)).flatten():
        height, width = (int(v) for v in torch.randint(size // 16, size // 4, (2,), generator=generator, device=generator.device))
        top, left = (int(v) for v in torch.randint(0, size - size // 4, (2,), generator=generator, device=generator.device))
        image[row, :, top : top + height, left : left + width] = torch.rand(3, 1, 1, generator=generator, device=generator.device)
    return image


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator, device=generator.device)


def _chance(count: int, share: float, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device) < share

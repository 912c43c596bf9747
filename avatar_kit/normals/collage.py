"""Other backgrounds behind the subjects of pairs, and other clothes on them: pieces of other photos, folds, patches of colour.

Rendered scenes are tidier than rooms, and rendered clothes plainer than suits: a network that knows no others takes curtains for hair
and leaves holes in jackets. Every draw comes from the generator that is passed in, which is on the batch's device.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from avatar_kit.normals.crop import NECK
from avatar_kit.normals.losses import Targets

_ZOOM = 1.2, 5.0  # of the piece of another photo that is put behind
_SHARPEST, _SOFTEST = 1.0, 12.0  # pixels over which it is blurred
_PATCHES = 4  # of cloth


def other_backdrops(batch: Targets, which: Tensor, generator: torch.Generator) -> Targets:
    """What lies behind the subjects of `which` (B,) photos: enlarged pieces of other photos, recoloured, blurred or not, some in folds."""
    count, size, device = len(batch.image), batch.image.shape[-1], batch.image.device

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator, device=device)

    # pieces: turned and enlarged about anywhere, mirrored at the edges
    turn, zoom = draw(-math.pi, math.pi), torch.exp(draw(math.log(_ZOOM[0]), math.log(_ZOOM[1])))
    cos, sin, about = torch.cos(turn) / zoom, torch.sin(turn) / zoom, draw(-1, 1, 2)
    affine = torch.stack([cos, sin, about[:, 0], -sin, cos, about[:, 1]], 1).reshape(-1, 2, 3)
    others = batch.image[torch.randperm(count, generator=generator, device=device)]
    others = others[:, torch.randperm(3, generator=generator, device=device)]
    grid = F.affine_grid(affine, list(others.shape), align_corners=False)
    behind = F.grid_sample(others, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    # out of focus: one size for all of the batch, as long as it is small
    soft = float(torch.exp(draw(math.log(_SHARPEST), math.log(_SOFTEST))[0]))
    few = max(4, round(size / soft))
    behind = F.interpolate(F.interpolate(behind, few, mode="area"), size, mode="bicubic", align_corners=False)
    # folds of curtains, bars of windows, shelves: waves along one direction, which a second one bends
    axis = torch.linspace(-1, 1, size, device=device)
    x, y = axis.reshape(1, 1, -1), axis.reshape(1, -1, 1)
    bend = draw(0, 0.3, 1, 1) * torch.sin(draw(1, 6, 1, 1) * y + draw(0, 6, 1, 1))
    wave = torch.sin(draw(6, 60, 1, 1) * (x + bend) + draw(0, 6, 1, 1))
    wave = torch.where(_chance(count, 0.3, generator), torch.sign(wave), wave)
    upright = torch.where(_chance(count, 0.3, generator), wave.transpose(1, 2), wave)
    behind = behind * (1 + _chance(count, 0.5, generator) * draw(0.1, 0.7, 1, 1) * upright)[:, None]
    behind = (behind * draw(0.4, 1.6, 1, 1, 1) * draw(0.8, 1.2, 3, 1, 1)).clamp(0, 1)

    inside = F.avg_pool2d(batch.foreground[:, None], 3, stride=1, padding=1, count_include_pad=False).square()  # no rim of what was behind
    collage = inside * batch.image + (1 - inside) * behind
    return batch._replace(image=torch.where(which.reshape(-1, 1, 1, 1), collage, batch.image))


def other_clothes(batch: Targets, which: Tensor, generator: torch.Generator) -> Targets:
    """Below the necks of `which` (B,) photos: patches of other colours with straight edges, in the light that falls there."""
    count, size, device = len(batch.image), batch.image.shape[-1], batch.image.device
    image, body = batch.image, ((batch.coordinates[:, 1] < NECK) & (batch.foreground > 0.5)) & which.reshape(-1, 1, 1)
    axis = torch.linspace(-1, 1, size, device=device)
    light = image.mean(1, keepdim=True)
    light = light / ((light * body[:, None]).sum((2, 3), keepdim=True) / body.sum((1, 2)).clamp(min=1).reshape(-1, 1, 1, 1)).clamp(min=0.02)
    for patch in range(_PATCHES):
        within = body & (_chance(count, 0.7, generator) if patch else torch.ones(count, 1, 1, dtype=torch.bool, device=device))
        for _ in range(2 if patch else 0):  # the first is all of the cloth
            turn = 2 * math.pi * torch.rand(count, 1, 1, generator=generator, device=device)
            far = torch.rand(count, 1, 1, generator=generator, device=device) * 0.8 - 0.4
            within = within & (torch.cos(turn) * axis.reshape(1, 1, -1) + torch.sin(turn) * (axis.reshape(1, -1, 1) - 0.7) > far)
        grey = torch.rand(count, 1, 1, 1, generator=generator, device=device).square()  # mostly dark
        color = (grey + 0.15 * torch.randn(count, 3, 1, 1, generator=generator, device=device)).clamp(0.01, 1)
        image = torch.where(within[:, None], (color * light).clamp(0, 1), image)
    return batch._replace(image=image)


def _chance(count: int, share: float, generator: torch.Generator) -> Tensor:
    return torch.rand(count, 1, 1, generator=generator, device=generator.device) < share

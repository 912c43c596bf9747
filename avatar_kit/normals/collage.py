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
    behind = _folded(_pieces(_without_heads(batch), generator), generator)
    draw = _Draws(len(behind), generator)
    behind = (behind * draw(0.4, 1.6, 1, 1, 1) * draw(0.8, 1.2, 3, 1, 1)).clamp(0, 1)
    before = torch.maximum(batch.foreground, batch.hidden)[:, None]
    inside = F.avg_pool2d(before, 3, stride=1, padding=1, count_include_pad=False).square()  # no rim of what was behind
    collage = inside * batch.image + (1 - inside) * behind
    return batch._replace(image=torch.where(which.reshape(-1, 1, 1, 1), collage, batch.image))


def _without_heads(batch: Targets) -> Tensor:
    """The photos (B, 3, S, S) with the mean colour of all that is no head where there is one: heads behind the subject would be none."""
    head = ((batch.coordinates[:, 1] > NECK) & (batch.foreground > 0.5))[:, None].float()
    head = F.max_pool2d(head, 5, stride=1, padding=2)
    mean = (batch.image * (1 - head)).sum((2, 3), keepdim=True) / (1 - head).sum((2, 3), keepdim=True).clamp(min=1)
    return torch.lerp(batch.image, mean, head)


class _Draws:
    """Even draws for each of `count` photos."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count, self.generator = count, generator

    def __call__(self, low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(self.count, *shape, generator=self.generator, device=self.generator.device)

    def chance(self, share: float) -> Tensor:
        return self(0, 1, 1, 1) < share


def _pieces(image: Tensor, generator: torch.Generator) -> Tensor:
    """Of each photo (B, 3, S, S) a part of another one: turned, enlarged, mirrored at the edges, all equally out of focus."""
    draw, size, device = _Draws(len(image), generator), image.shape[-1], image.device
    turn, zoom = draw(-math.pi, math.pi), torch.exp(draw(math.log(_ZOOM[0]), math.log(_ZOOM[1])))
    cos, sin, about = torch.cos(turn) / zoom, torch.sin(turn) / zoom, draw(-1, 1, 2)
    affine = torch.stack([cos, sin, about[:, 0], -sin, cos, about[:, 1]], 1).reshape(-1, 2, 3)
    others = image.roll(1, dims=0)  # which are of no order
    others = others[:, torch.randperm(3, generator=generator, device=device)]
    grid = F.affine_grid(affine, list(others.shape), align_corners=False)
    pieces = F.grid_sample(others, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    soft = float(torch.exp(draw(math.log(_SHARPEST), math.log(_SOFTEST))[0]))
    few = max(4, round(size / soft))
    return F.interpolate(F.interpolate(pieces, few, mode="area"), size, mode="bicubic", align_corners=False)


def _folded(image: Tensor, generator: torch.Generator) -> Tensor:
    """Half of the photos (B, 3, S, S) with folds as of curtains, or bars as of windows and shelves: waves, which others bend."""
    draw = _Draws(len(image), generator)
    axis = torch.linspace(-1, 1, image.shape[-1], device=image.device)
    x, y = axis.reshape(1, 1, -1), axis.reshape(1, -1, 1)
    bend = draw(0, 0.3, 1, 1) * torch.sin(draw(1, 6, 1, 1) * y + draw(0, 6, 1, 1))
    wave = torch.sin(draw(6, 60, 1, 1) * (x + bend) + draw(0, 6, 1, 1))
    wave = torch.where(draw.chance(0.3), torch.sign(wave), wave)
    wave = torch.where(draw.chance(0.3), wave.transpose(1, 2), wave)
    return image * (1 + draw.chance(0.5) * draw(0.1, 0.7, 1, 1) * wave)[:, None]


def other_clothes(batch: Targets, which: Tensor, generator: torch.Generator) -> Targets:
    """Below the necks of `which` (B,) photos: patches of other colours with straight edges, in the light that falls there."""
    draw, size, device = _Draws(len(batch.image), generator), batch.image.shape[-1], batch.image.device
    image, body = batch.image, ((batch.coordinates[:, 1] < NECK) & (batch.foreground > 0.5)) & which.reshape(-1, 1, 1)
    axis = torch.linspace(-1, 1, size, device=device)
    light = image.mean(1, keepdim=True)
    light = light / ((light * body[:, None]).sum((2, 3), keepdim=True) / body.sum((1, 2)).clamp(min=1).reshape(-1, 1, 1, 1)).clamp(min=0.02)
    for patch in range(_PATCHES):
        within = body & draw.chance(0.7) if patch else body  # the first is all of the cloth
        for _ in range(2 if patch else 0):
            turn, far = draw(0, 2 * math.pi, 1, 1), draw(-0.4, 0.4, 1, 1)
            within = within & (torch.cos(turn) * axis.reshape(1, 1, -1) + torch.sin(turn) * (axis.reshape(1, -1, 1) - 0.7) > far)
        grey = draw(0, 1, 1, 1, 1).square()  # mostly dark
        color = (grey + 0.15 * torch.randn(draw.count, 3, 1, 1, generator=generator, device=device)).clamp(0.01, 1)
        image = torch.where(within[:, None], (color * light).clamp(0, 1), image)
    return batch._replace(image=image)

"""Pieces of other photos and other clothes: what changes, and what must not."""

from __future__ import annotations

import pytest
import torch
from sphere_pairs import SphereRequest

from avatar_kit.normals.collage import other_backdrops, other_clothes
from avatar_kit.normals.crop import NECK
from avatar_kit.normals.losses import Targets
from avatar_kit.normals.pool import pack, unpack

BOTH = torch.tensor([True, True, False, True])


@pytest.fixture(scope="module")
def batch() -> Targets:
    pairs = SphereRequest().open(64)
    return unpack([pack(pairs.pair(i)) for i in range(4)])


def eroded(foreground: torch.Tensor) -> torch.Tensor:
    return -torch.nn.functional.max_pool2d(-foreground[:, None], 3, stride=1, padding=1)[:, 0] > 0.5


def same_truth(a: Targets, b: Targets) -> bool:
    return all(x is y for x, y in zip(a[1:], b[1:], strict=True))


def test_another_background_leaves_the_subject_and_the_truth(batch: Targets) -> None:
    found = other_backdrops(batch, BOTH, torch.Generator().manual_seed(1))
    assert same_truth(found, batch)
    inside, outside = eroded(batch.foreground), eroded(1 - batch.foreground)
    for row, changed in enumerate(BOTH):
        assert torch.equal(found.image[row][:, inside[row]], batch.image[row][:, inside[row]])
        off = (found.image[row] - batch.image[row]).abs().amax(0)[outside[row]]
        assert (off > 0.02).float().mean() > 0.5 if changed else off.max() == 0
    assert found.image.min() >= 0
    assert found.image.max() <= 1


def test_backgrounds_differ_from_photo_to_photo_and_follow_the_generator(batch: Targets) -> None:
    once, again, other = (other_backdrops(batch, BOTH, torch.Generator().manual_seed(seed)).image for seed in (1, 1, 2))
    assert torch.equal(once, again)
    outside = eroded(1 - batch.foreground)[0]
    assert (once[0] - other[0]).abs()[:, outside].mean() > 0.02
    assert (once[0] - once[1]).abs()[:, outside].mean() > 0.02


def test_other_clothes_lie_below_the_neck_and_in_the_same_light(batch: Targets) -> None:
    """Balls whose lower half is the body, under light that falls off to the right: each patch is one colour times that light."""
    low = batch.coordinates.clone()
    low[:, 1] += NECK
    light = torch.linspace(1.0, 0.5, 64).expand(4, 3, 64, 64).clone() * 0.3
    dressed = batch._replace(coordinates=low, image=light)
    found = other_clothes(dressed, BOTH, torch.Generator().manual_seed(4))
    assert same_truth(found, dressed)
    body = (low[:, 1] < NECK) & (batch.foreground > 0.5)
    for row, changed in enumerate(BOTH):
        assert torch.equal(found.image[row][:, ~body[row]], light[row][:, ~body[row]])
        if not changed:
            assert torch.equal(found.image[row], light[row])
            continue
        unsaturated = found.image[row].amax(0) < 0.999
        cloth = (found.image[row] / light[row])[:, body[row] & unsaturated]
        assert 1 <= len(torch.unique((cloth * 1000).round(), dim=1).T) <= 4 * 4  # patches, and rounding
        assert (found.image[row] - light[row]).abs()[:, body[row]].max() > 0.02


def test_no_body_is_no_clothes(batch: Targets) -> None:
    above = batch._replace(coordinates=batch.coordinates * 0)
    assert torch.equal(other_clothes(above, BOTH, torch.Generator().manual_seed(4)).image, batch.image)


def test_what_stands_before_a_subject_stays_and_no_head_stands_behind_it(batch: Targets) -> None:
    hidden = torch.zeros_like(batch.foreground)
    hidden[:, 40:, :8] = 1.0
    with_hands = batch._replace(hidden=hidden)
    found = other_backdrops(with_hands, BOTH, torch.Generator().manual_seed(1)).image
    assert torch.equal(found[:, :, 42:, :6], batch.image[:, :, 42:, :6])
    glowing = batch._replace(image=torch.where(batch.foreground[:, None] > 0.5, 1.0, torch.zeros_like(batch.image)))
    behind = other_backdrops(glowing, BOTH, torch.Generator().manual_seed(1)).image
    outside = eroded(1 - batch.foreground)
    high = batch.coordinates[:, 1] > NECK  # the balls are all head
    assert high[batch.foreground > 0.5].all()
    assert behind.movedim(1, 0)[:, outside].max() < 0.2

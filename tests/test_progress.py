"""What the bar of the fit says."""

from __future__ import annotations

import math

import pytest
import torch
from avatar_kit_cli.maker import _progress

from avatar_kit.recon import losses


@pytest.mark.parametrize("confidence", [1.0, 0.1])
def test_the_bar_shows_the_angle_whatever_the_confidence(confidence: float) -> None:
    angle = math.radians(28.6)
    normals = torch.tensor([[0.0, math.sin(angle), math.cos(angle)], [0.0, 0.0, 1.0]])
    target, slope = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]), torch.tensor([-1.0, -1.0])
    trust, count = torch.full((2,), confidence), 10
    loss = losses.normal_loss(normals, target, trust, slope, count)
    with _progress() as progress:
        weight = losses.normal_weight(target, trust, slope).sum() / count
        progress.step(0, {"terms": {"normal": loss}, "normal_weight": weight, "steps": 7})
        assert progress._bar.postfix == "normals 28.6 deg"
        assert progress._bar.total == 7


def test_the_bar_is_silent_where_there_are_no_normals() -> None:
    with _progress() as progress:
        progress.step(0, {"terms": {"normal": torch.zeros(())}, "normal_weight": torch.zeros(()), "steps": 7})
        assert not progress._bar.postfix

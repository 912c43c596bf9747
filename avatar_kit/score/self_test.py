"""A short reconstruction of the bundled head with a known outcome: does everything work here, end to end?"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from avatar_kit.config import PRESETS
from avatar_kit.prior.storage import load_prior
from avatar_kit.recon.pipeline import reconstruct
from avatar_kit.scene.h3ds import read_reference
from avatar_kit.scene.views import load_scene
from avatar_kit.score.protocols import metric_score

EXPECTED_FACE_MM = 0.85  # point to surface, nothing moved; measured with these settings (the mean head: 2.13)
_TOLERANCE_MM = 0.35  # between seeds and machines
_STEPS, _RESOLUTION = 20, 128


@dataclass(frozen=True)
class SelfTest:
    """What came out: error of the face in millimetres, seconds by stage, and whether that is as expected."""

    face_mm: float
    expected_mm: float
    passed: bool
    seconds: dict[str, float]


def self_test(device: str = "cpu") -> SelfTest:
    """Load the demo's photos and the prior, fit a few steps, extract, score."""
    started = time.perf_counter()
    demo = Path(str(resources.files("avatar_kit") / "weights" / "demo"))
    fast = PRESETS["fast"]
    config = replace(fast, fit=replace(fast.fit, steps=_STEPS), mesh=replace(fast.mesh, resolution=_RESOLUTION, refine=False))
    scene, truth = load_scene(demo, views=3), read_reference(demo)
    assert truth is not None
    result = reconstruct(scene, prior=load_prior("default", device), config=config, device=device)
    score = metric_score(result.mesh, truth, mm_per_unit=scene.mm_per_world_unit)
    seconds = {name: round(value, 2) for name, value in result.seconds.items() if name != "total"}
    seconds["total"] = round(time.perf_counter() - started, 2)
    return SelfTest(round(score.face_mm, 2), EXPECTED_FACE_MM, abs(score.face_mm - EXPECTED_FACE_MM) < _TOLERANCE_MM, seconds)

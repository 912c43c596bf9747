"""Where a training stands: steps or a budget of time, whichever is further, so that it always ends annealed."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from avatar_kit.config import NormalsTrainingConfig

_NEXT_STAGE_SHARE = 0.3  # at the end of a stage, during which pairs are made for the next
_PREDICTED_SHARE = 1.2  # of the size of the crops trained on: where networks trained on 128 and on 192 px predict best
_STEP_PX = 32  # of the network's coarsest level


def predicted_px(sizes: Sequence[int]) -> int:
    """Side of the crops on which a network predicts best that was trained on crops of `sizes`, one after another."""
    return max(1, round(_PREDICTED_SHARE * sizes[-1] / _STEP_PX)) * _STEP_PX


@dataclass(frozen=True)
class Schedule:
    """Of a configuration, and of a budget in seconds where there is one."""

    config: NormalsTrainingConfig
    budget: float | None = None

    def __post_init__(self) -> None:
        config = self.config
        if not len(config.sizes) == len(config.steps) == len(config.batch) == len(config.pool) > 0:
            raise ValueError("normals_training.sizes, steps, batch and pool need one entry per stage each.")
        if len(set(config.sizes)) < len(config.sizes):
            raise ValueError("normals_training.sizes: each stage has its pool by the size of its crops; give every size once.")
        if sum(config.steps) < 1 or min(config.steps) < 0:
            raise ValueError("normals_training.steps must not be below 0, and not all 0.")
        if min(config.batch) < 2:
            raise ValueError("normals_training.batch must be 2 at least: the network normalises over its crops.")
        if config.pool_start < 1 or min(config.pool) < 1 or config.validation_pairs < 1:
            raise ValueError("normals_training.pool, pool_start and validation_pairs must be 1 at least.")

    @property
    def ends(self) -> list[float]:
        """Progress at which each stage ends: its share of the pixels that all stages see."""
        pixels = [s * b * size**2 for s, b, size in zip(self.config.steps, self.config.batch, self.config.sizes)]
        return [done / sum(pixels) for done in itertools.accumulate(pixels)]

    def progress(self, steps: list[int], seconds: float) -> float:
        """0 at the start, 1 at the end, from the steps done in each stage and the seconds spent."""
        starts = [0.0, *self.ends[:-1]]
        current = self._last_started(steps)
        share = min(steps[current] / self.config.steps[current], 1.0) if self.config.steps[current] else 1.0
        by_steps = starts[current] + share * (self.ends[current] - starts[current])
        return max(by_steps, min(seconds / self.budget, 1.0) if self.budget else 0.0)

    def _last_started(self, steps: list[int]) -> int:
        return max((stage for stage, done in enumerate(steps) if done), default=0)

    def stage(self, progress: float) -> int:
        """The stage at a progress."""
        return min(bisect.bisect_right(self.ends, progress + 1e-9), len(self.ends) - 1)

    def made_for(self, progress: float) -> int:
        """The stage for which pairs are made: near a stage's end, the one after it."""
        stage = self.stage(progress)
        start = self.ends[stage - 1] if stage else 0.0
        late = progress > self.ends[stage] - _NEXT_STAGE_SHARE * (self.ends[stage] - start)
        return min(stage + int(late), len(self.ends) - 1)

    def learning_rate(self, progress: float) -> float:
        """A linear rise, then a cosine to nothing."""
        config = self.config
        if progress < config.warm_up:
            return config.learning_rate * (0.02 + 0.98 * progress / config.warm_up)
        return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (progress - config.warm_up) / (1 - config.warm_up)))

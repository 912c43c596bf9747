"""Training of the prior: an auto-decoder, coarse to fine (section 3.1).

Stage 1 trains Z4 with the decoder and the latents, stage 2 adds Z5, stage 3 adds Z6; with ``freeze_earlier``, as in the
paper, each later stage trains its grid alone. Stops at any moment and goes on from the last checkpoint.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from avatar_kit.config import Config
from avatar_kit.conventions import MM_PER_UNIT
from avatar_kit.field.head_field import HeadField
from avatar_kit.prior.losses import Batch, prior_loss
from avatar_kit.prior.samples import SampleFolder
from avatar_kit.prior.storage import HeadPrior
from avatar_kit.types import InputError

_SURFACE_SHARE = 4  # surface points per step are a quarter of the space points: they carry four rows, see tangents.py
_LATENT_RATE = 10.0  # latents learn this much faster than the decoder


class PriorTrainer:
    """State of one training: field, latents, optimisers and position, saved together.

    Args:
        start: a prior to go on from; every head then begins as its mean head.

    Raises:
        InputError: `start` is of another size than `config.field`.
    """

    def __init__(self, samples: SampleFolder, config: Config, *, seed: int, device: str = "cpu", start: HeadPrior | None = None) -> None:
        self.samples, self.config, self.device = samples, config, torch.device(device)
        self.generator = torch.Generator().manual_seed(seed)
        self.field = HeadField(config.field)
        self.field.initialise(self.generator)
        latents = torch.empty(len(samples), config.field.latent).normal_(0.0, 0.01, generator=self.generator)
        if start is not None:
            _take_over(self.field, start)
            latents += start.mean_latent.cpu()
        self.field.to(self.device)
        self.latents = nn.Parameter(latents.to(self.device))
        self.epoch = 0
        self.seconds = 0.0
        self._optimizer = torch.optim.Adam(self.field.parameters(), lr=config.prior.learning_rate, fused=True)
        self._moments = [torch.zeros_like(self.latents.data) for _ in range(2)]  # Adam's, of the latents
        self._visits = torch.zeros(len(samples), 1, device=self.device)

    @property
    def epochs(self) -> int:
        """Epochs of all stages together."""
        return sum(self.config.prior.epochs)

    def learning_rate(self, epoch: float) -> float:
        """At a (fractional) epoch: halved in steps, or a cosine to a twentieth."""
        prior = self.config.prior
        if prior.decay_epochs:
            return prior.learning_rate * 0.5 ** (int(epoch) // prior.decay_epochs)
        return prior.learning_rate * (0.05 + 0.95 * 0.5 * (1.0 + math.cos(math.pi * min(epoch / self.epochs, 1.0))))

    def train(
        self, *, checkpoint: Path, on_epoch: Callable[[int, dict[str, float]], None] | None = None, save_every: float = 180.0
    ) -> None:
        """Train to the end, saving to `checkpoint` every `save_every` seconds and at the end."""
        saved = time.perf_counter()
        while self.epoch < self.epochs:
            started = time.perf_counter()
            terms = self._train_epoch()
            self.epoch += 1
            self.seconds += time.perf_counter() - started
            if on_epoch:
                on_epoch(self.epoch, terms)
            if time.perf_counter() - saved > save_every or self.epoch == self.epochs:
                self.save(checkpoint)
                saved = time.perf_counter()

    def _enter_stage(self) -> None:
        """Say which parameters are trained in this epoch, and how far the positional encoding is open."""
        prior = self.config.prior
        stage = int(np.searchsorted(np.cumsum(prior.epochs), self.epoch, side="right"))
        for level, grid in enumerate(self.field.grids):
            grid.requires_grad_(level == stage or (level < stage and not prior.freeze_earlier))
        decoder = stage == 0 or not prior.freeze_earlier
        self.latents.requires_grad_(decoder)
        for name, parameter in self.field.named_parameters():
            if not name.startswith("grids."):
                parameter.requires_grad_(decoder)
        self.field.opened = self.config.field.frequencies * min(1.0, self.epoch / max(prior.mask_epochs, 1))

    def _train_epoch(self) -> dict[str, float]:
        self._enter_stage()
        prior = self.config.prior
        order = torch.randperm(len(self.samples), generator=self.generator)
        batches = order.split(prior.heads_per_step)
        totals: dict[str, float] = {}
        for number, rows in enumerate(batches):
            rate = self.learning_rate(self.epoch + number / len(batches))
            for group in self._optimizer.param_groups:
                group["lr"] = rate
            latents = self.latents[rows]
            if latents.requires_grad:
                latents.retain_grad()
            loss, terms = prior_loss(self.field, self._batch(rows, latents), prior)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()
            if latents.grad is not None:
                self._step_latents(rows, latents.grad, rate * _LATENT_RATE)
            for name, value in terms.items():
                totals[name] = totals.get(name, 0.0) + float(value.detach()) / len(batches)
        self.field.opened = float(self.config.field.frequencies)
        totals["surface_mm"] = totals["surface"] * MM_PER_UNIT
        return totals

    def _batch(self, rows: Tensor, latents: Tensor) -> Batch:
        """Random runs of the (already shuffled) samples of `rows`."""
        n = self.config.prior.points_per_head
        parts: list[Tensor] = []
        for array, count in ((self.samples.surface, max(n // _SURFACE_SHARE, 1)), (self.samples.space, n)):
            start = int(torch.randint(array.shape[1] - count + 1, (1,), generator=self.generator))
            parts.append(torch.from_numpy(array[rows.numpy(), start : start + count]).to(self.device))
        return Batch(latents, parts[0], parts[1])

    @torch.no_grad()
    def _step_latents(self, rows: Tensor, grad: Tensor, rate: float) -> None:
        """Adam on the visited rows alone: a head that is not in the batch must not drift by its old momentum."""
        first, second = self._moments
        grad = grad * len(rows)  # the loss is a mean over heads
        self._visits[rows] += 1
        first[rows] = 0.9 * first[rows] + 0.1 * grad
        second[rows] = 0.99 * second[rows] + 0.01 * grad**2
        visits = self._visits[rows]
        mean, spread = first[rows] / (1 - 0.9**visits), second[rows] / (1 - 0.99**visits)
        self.latents[rows] -= rate * mean / (spread.sqrt() + 1e-8)
        self.latents.grad = None

    def save(self, path: Path) -> None:
        """Write everything a resumed run needs, whole or not at all."""
        state: dict[str, Any] = {
            "field": self.field.state_dict(), "latents": self.latents.data, "optimizer": self._optimizer.state_dict(),
            "moments": self._moments, "visits": self._visits, "generator": self.generator.get_state(),
            "epoch": self.epoch, "seconds": self.seconds,
        }  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        torch.save(state, part)
        os.replace(part, path)

    def load(self, path: Path) -> None:
        """Go on where `save` left off."""
        state = torch.load(path, weights_only=True, map_location="cpu")  # Adam keeps its step counts there
        self.field.load_state_dict(state["field"])
        self.latents.data.copy_(state["latents"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._moments = tuple(moment.to(self.device) for moment in state["moments"])
        self._visits = state["visits"].to(self.device)
        self.generator.set_state(state["generator"])
        self.epoch, self.seconds = state["epoch"], state["seconds"]


def _take_over(field: HeadField, start: HeadPrior) -> None:
    """Copy the parameters of `start`; local features that it lacks begin at zero."""
    theirs, ours = start.field.state_dict(), field.state_dict()
    wrong = [name for name, value in theirs.items() if name not in ours or ours[name].shape != value.shape]
    missing = [name for name in ours if name not in theirs and not name.startswith("local_")]
    if wrong or missing:
        raise InputError(
            f"the prior to start from has another field: {', '.join(wrong + missing)} differ. "
            f"Its settings are {start.field.config}; give the same by --set field.NAME=VALUE, or train without --start."
        )
    field.load_state_dict(theirs, strict=False)

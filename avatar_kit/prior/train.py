"""Training of the prior: an auto-decoder, coarse to fine (section 3.1).

Stage 1 trains Z4 with the decoder and the latents, stage 2 adds Z5, stage 3 adds Z6; with ``freeze_earlier``, as in the
paper, each later stage trains its grid alone. Stops at any moment and goes on from the last checkpoint, to the step.
Several processes train as one would (see `prior.processes`), and any number of them goes on where any other number stopped.
"""

from __future__ import annotations

import math
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from avatar_kit.config import Config
from avatar_kit.conventions import MM_PER_UNIT
from avatar_kit.field.head_field import HeadField
from avatar_kit.prior import processes
from avatar_kit.prior.losses import Batch, prior_loss
from avatar_kit.prior.samples import SampleFolder
from avatar_kit.prior.storage import HeadPrior
from avatar_kit.types import InputError

_SURFACE_SHARE = 4  # surface points per step are a quarter of the space points: they carry four rows, see tangents.py
_LATENT_RATE = 10.0  # latents learn this much faster than the decoder


class PriorTrainer:
    """State of one training: field, latents, optimisers and position, saved together.

    Args:
        device: of this process.
        start: a prior to go on from; every head then begins as its mean head.

    Attributes:
        latents: of this process's heads, (M, L); of all of them, in a single process.

    Raises:
        InputError: `start` is of another size than `config.field`, or there are more processes than heads in a step.
    """

    def __init__(self, samples: SampleFolder, config: Config, *, seed: int, device: str = "cpu", start: HeadPrior | None = None) -> None:
        self.samples, self.config, self.device = samples, config, torch.device(device)
        processes.check_sizes(len(samples), config.prior.heads_per_step)
        self.generator = torch.Generator().manual_seed(seed)  # the same in every process
        self.field = HeadField(config.field)
        self.field.initialise(self.generator)
        latents = torch.empty(len(samples), config.field.latent).normal_(0.0, 0.01, generator=self.generator)
        if start is not None:
            _take_over(self.field, start)
            latents += start.mean_latent.cpu()
        self.field.to(self.device)
        self.latents = nn.Parameter(latents[processes.mine()].clone().to(self.device))
        self.epoch = 0
        self.seconds = 0.0
        self._optimizer = torch.optim.Adam(self.field.parameters(), lr=config.prior.learning_rate, fused=True)
        self._moments = [torch.zeros_like(self.latents.data) for _ in range(2)]  # Adam's, of the latents
        self._visits = torch.zeros(len(self.latents), 1, device=self.device)
        self._order: Tensor | None = None  # of the heads in the epoch that has begun
        self._step = 0  # steps done in it
        self._totals: dict[str, float] = {}  # this process's part of its mean losses

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
        """Train to the end, saving to `checkpoint` every `save_every` seconds, between any two steps, and at the end."""
        saved = time.perf_counter()

        def save_in_time() -> None:
            nonlocal saved
            if processes.first_says(time.perf_counter() - saved > save_every):
                self.save(checkpoint)
                saved = time.perf_counter()

        while self.epoch < self.epochs:
            terms = self._train_epoch(save_in_time)
            self.epoch += 1
            if on_epoch:
                on_epoch(self.epoch, terms)
        self.save(checkpoint)

    def all_latents(self) -> Tensor:
        """Latents of all heads, (M, L). All processes call this."""
        return processes.assembled(self.latents.data, len(self.samples))

    def _enter_stage(self) -> None:
        """Say which parameters are trained in this epoch, and how far the positional encoding is open."""
        prior = self.config.prior
        stage = int(np.searchsorted(np.cumsum(prior.epochs), self.epoch, side="right"))
        for level, grid in enumerate(self.field.grids):
            grid.requires_grad_(level == stage or (level < stage and not prior.freeze_earlier))
        decoder = stage == 0 or not prior.freeze_earlier or stage >= len(self.field.grids)  # something must be trained
        self.latents.requires_grad_(decoder)
        for name, parameter in self.field.named_parameters():
            if not name.startswith("grids."):
                parameter.requires_grad_(decoder)
        self.field.opened = self.config.field.frequencies * min(1.0, self.epoch / max(prior.mask_epochs, 1))

    def _train_epoch(self, on_step: Callable[[], None] | None = None) -> dict[str, float]:
        """What is left of this epoch; its mean losses."""
        self._enter_stage()
        if self._order is None:
            self._order, self._step, self._totals = torch.randperm(len(self.samples), generator=self.generator), 0, {}
        batches = self._order.split(self.config.prior.heads_per_step)
        while self._step < len(batches):
            started = time.perf_counter()
            terms = self._train_step(batches[self._step], self.learning_rate(self.epoch + self._step / len(batches)))
            for name, value in terms.items():
                self._totals[name] = self._totals.get(name, 0.0) + value / len(batches)
            self._step += 1
            self.seconds += time.perf_counter() - started
            if on_step:
                on_step()
        self._order = None
        self.field.opened = float(self.config.field.frequencies)
        totals = self._all_totals()
        totals["surface_mm"] = totals["surface"] * MM_PER_UNIT
        return totals

    def _train_step(self, rows: Tensor, rate: float) -> dict[str, float]:
        """One step on the heads `rows`, of which each process takes its share; its part of their mean losses."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        latents = processes.looked_up(self.latents.data, rows).requires_grad_(self.latents.requires_grad)
        batch = self._batch(rows[processes.mine()], latents[processes.mine()])
        share = len(batch.latents) / len(rows)  # the losses are means over heads, and processes may have unequally many
        terms: dict[str, Tensor] = {}
        self._optimizer.zero_grad(set_to_none=True)
        if share:  # an epoch's last step can have fewer heads than there are processes
            loss, terms = prior_loss(self.field, batch, self.config.prior)
            (loss * share).backward()
        processes.add_up_gradients([*self.field.parameters(), latents])
        self._optimizer.step()
        if latents.grad is not None:
            self._step_latents(rows, latents.grad, rate * _LATENT_RATE)
        return {name: float(value.detach()) * share for name, value in terms.items()}

    def _all_totals(self) -> dict[str, float]:
        """Mean losses over all processes; only "near", a mean over points, then differs a little from one process's."""
        sums = torch.tensor(list(self._totals.values()), dtype=torch.float64, device=self.device)
        processes.add_up([sums])
        return dict(zip(self._totals, sums.tolist(), strict=True))

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
        here, at = processes.owned(rows)
        grad = grad[here] * len(rows)  # the loss is a mean over heads
        self._visits[at] += 1
        first[at] = 0.9 * first[at] + 0.1 * grad
        second[at] = 0.99 * second[at] + 0.01 * grad**2
        visits = self._visits[at]
        mean, spread = first[at] / (1 - 0.9**visits), second[at] / (1 - 0.99**visits)
        self.latents[at] -= rate * mean / (spread.sqrt() + 1e-8)

    def save(self, path: Path) -> None:
        """Write everything a resumed run needs, whole or not at all. All processes call this, the first one writes."""
        count = len(self.samples)
        state: dict[str, Any] = {
            "field": self.field.state_dict(), "latents": self.all_latents(), "optimizer": self._optimizer.state_dict(),
            "moments": [processes.assembled(moment, count) for moment in self._moments],
            "visits": processes.assembled(self._visits, count), "generator": self.generator.get_state(),
            "epoch": self.epoch, "order": self._order, "step": self._step, "totals": self._all_totals(), "seconds": self.seconds,
        }  # fmt: skip
        if processes.rank() > 0:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        torch.save(state, part)
        os.replace(part, path)

    def load(self, path: Path) -> None:
        """Go on where `save` left off.

        Raises:
            InputError: damaged, or of a training with other heads or another field.
        """
        try:
            with zipfile.ZipFile(path) as pack:  # torch reads over wrong checksums
                if pack.testzip():
                    raise ValueError("wrong checksum")
            state = torch.load(path, weights_only=True, map_location="cpu")  # Adam keeps its step counts there
            theirs, epoch = {**state["field"], "latents": state["latents"]}, state["epoch"]
        except Exception as error:  # torch and zipfile raise whatever the damage leads them to
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"{path}: is no checkpoint of a training, or damaged ({reason}). Remove it to train from the start."
            ) from error
        ours = {**self.field.state_dict(), "latents": torch.empty(len(self.samples), self.config.field.latent, device="meta")}
        wrong = _differing(theirs, ours) + [name for name in ours if name not in theirs]
        if wrong:
            raise InputError(
                f"{path}: is of another training: {', '.join(wrong)} differ. Give the --heads and the --set field.NAME=VALUE that it was "
                "begun with, or another --work."
            )
        part = processes.mine()
        self.field.load_state_dict(state["field"])
        self.latents.data.copy_(state["latents"][part])
        self._optimizer.load_state_dict(state["optimizer"])
        self._moments = [moment[part].clone().to(self.device) for moment in state["moments"]]
        self._visits = state["visits"][part].clone().to(self.device)
        self.generator.set_state(state["generator"])
        self.epoch, self.seconds = epoch, state["seconds"]
        self._order, self._step = state.get("order"), state.get("step", 0)  # older checkpoints lie between epochs
        self._totals = {name: value if processes.rank() == 0 else 0.0 for name, value in state.get("totals", {}).items()}


def _differing(theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> list[str]:
    """Names in `theirs` that are not in `ours`, or there of another shape."""
    return [name for name, value in theirs.items() if name not in ours or ours[name].shape != value.shape]


def _take_over(field: HeadField, start: HeadPrior) -> None:
    """Copy the parameters of `start`; local features that it lacks begin at zero."""
    theirs, ours = start.field.state_dict(), field.state_dict()
    wrong = _differing(theirs, ours)
    missing = [name for name in ours if name not in theirs and not name.startswith("local_")]
    if wrong or missing:
        raise InputError(
            f"the prior to start from has another field: {', '.join(wrong + missing)} differ. "
            f"Its settings are {start.field.config}; give the same by --set field.NAME=VALUE, or train without --start."
        )
    field.load_state_dict(theirs, strict=False)

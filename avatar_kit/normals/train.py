"""Training of the normal network on a stream of pairs that is made while it trains.

A pool of pairs per crop size is fed by worker processes (or by the trainer itself) and drawn from at random. Everything
lies in one folder: the pools, the held-out pairs, the checkpoint. Stops at any moment and goes on from the checkpoint.
"""

from __future__ import annotations

import copy
import dataclasses
import os
import time
import zipfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from avatar_kit.config import NormalsConfig, NormalsTrainingConfig
from avatar_kit.normals.augment import augment
from avatar_kit.normals.generate import PairWorkers, Stream, StreamRequest
from avatar_kit.normals.losses import normals_loss
from avatar_kit.normals.network import NormalNet, bfloat16_pays
from avatar_kit.normals.pool import PairPool, pack
from avatar_kit.normals.schedule import Schedule
from avatar_kit.types import InputError

_OF_NETWORK = ("encoder", "decoder_channels")  # settings that say what its weights are


class NormalsTrainer:
    """State of one training: network, averaged network, optimiser, pools and position."""

    def __init__(
        self, config: NormalsConfig, training: NormalsTrainingConfig, request: StreamRequest, *, work: Path, seed: int,
        net: NormalNet | None = None, budget: float | None = None, device: str | torch.device = "cpu",
    ) -> None:  # fmt: skip
        self.config, self.training, self.request, self.work = config, training, request, work
        self.schedule = Schedule(training, budget)
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.net = (net or NormalNet(config)).to(self.device)
        self.net.mixed_precision = training.mixed_precision and bfloat16_pays(self.device)
        self.average = copy.deepcopy(self.net).requires_grad_(False).eval()
        self.average.mixed_precision = False
        """The weights that are kept: a running mean of `net`'s, its batch statistics included."""
        self.steps = [0] * len(training.sizes)
        """Done in each stage."""
        self.seconds = 0.0
        self.pools = [
            PairPool(work / f"pool_{size}", size=size, capacity=count, device=self.device)
            for size, count in zip(training.sizes, training.pool, strict=True)
        ]
        self.next_index = max(pool.next_index for pool in self.pools)
        """Pairs below this number have been made already."""
        encoder = {id(parameter) for parameter in self.net.encoder.parameters()}
        groups = [{"params": [], "rate": rate, "weight_decay": decay}
                  for rate in (1.0, training.encoder_rate) for decay in (training.weight_decay, 0.0)]  # fmt: skip
        for parameter in self.net.parameters():
            groups[2 * (id(parameter) in encoder) + (parameter.ndim < 2)]["params"].append(parameter)
        on_gpu = self.device.type == "cuda"
        self._optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=training.learning_rate, fused=on_gpu or None)
        torch.backends.cudnn.benchmark = on_gpu  # crops of a stage are all of one size
        self._streams: dict[int, Stream] = {}

    @property
    def step(self) -> int:
        """Steps done."""
        return sum(self.steps)

    @property
    def progress(self) -> float:
        """0 at the start, 1 at the end."""
        return self.schedule.progress(self.steps, self.seconds)

    def train(
        self,
        *,
        workers: int,
        on_step: Callable[[dict[str, float]], None] | None = None,
        on_pause: Callable[[], None] | None = None,
        pause_every: float = 300.0,
        max_steps: int | None = None,
    ) -> None:
        """Train to the end, or for `max_steps` more; save, and call `on_pause`, every `pause_every` seconds and at the end.

        With 0 `workers` the pairs are made here, and a run that was interrupted ends as one that was not.
        """
        stop = None if max_steps is None else self.step + max_steps
        size = self.training.sizes[self.schedule.made_for(self.progress)]
        making = PairWorkers(self.request, size=size, start=self.next_index, workers=workers) if workers else nullcontext()
        with making as source:
            paused = time.monotonic()
            while self.progress < 1.0 and (stop is None or self.step < stop):
                stage = self.schedule.stage(self.progress)
                self._fill(stage, source)
                started = time.monotonic()
                shown = self._train_step(stage)
                self.seconds += time.monotonic() - started
                if on_step:
                    on_step(shown)
                if time.monotonic() - paused > pause_every:
                    self.save()
                    if on_pause:
                        on_pause()
                    paused = time.monotonic()
        self.save()
        if on_pause:
            on_pause()

    def gather(self, counts: Sequence[int], *, workers: int, on_pair: Callable[[], object] | None = None) -> None:
        """Make pairs until each stage's pool holds its count, and train on none meanwhile; what is there already stays.

        Beside a training, a worker takes a core from it: on two cores it pays to make the pairs first.
        """
        for stage, (pool, count, size) in enumerate(zip(self.pools, counts, self.training.sizes, strict=True)):
            wanted = min(count, pool.capacity)
            making = PairWorkers(self.request, size=size, start=self.next_index, workers=workers) if workers else nullcontext()
            with making as source:
                while len(pool) < wanted:
                    before = pool.added
                    if source is None:
                        self._make(stage)
                    else:
                        self._take(source, wait=True)
                    if on_pair:
                        for _ in range(pool.added - before):
                            on_pair()

    def _take(self, source: PairWorkers, *, wait: bool) -> None:
        arrived = source.take(wait=wait)
        for index, pair in arrived:
            self.pools[self.training.sizes.index(len(pair["image"]))].add(pair, index)
            self.next_index = max(self.next_index, index + 1)
        for pool in self.pools if arrived else ():
            pool.flush()

    def _fill(self, stage: int, source: PairWorkers | None) -> None:
        """Take in the pairs that have arrived; wait where the pool is too small to train on."""
        start = min(self.training.pool_start, self.training.pool[stage])
        made_for = self.schedule.made_for(self.progress)
        started = time.monotonic()
        if source is None:
            made_here = 0
            while len(self.pools[stage]) < start or made_here < self.training.pairs_per_step:
                self._make(stage)
                made_here += 1
        else:
            while True:
                short = len(self.pools[stage]) < start
                source.ask(self.training.sizes[stage if short else made_for])
                self._take(source, wait=short)
                if len(self.pools[stage]) >= start:
                    break
        self.seconds += time.monotonic() - started

    def _make(self, stage: int) -> None:
        size = self.training.sizes[stage]
        if size not in self._streams:
            self._streams = {size: self.request.open(size)}
        self.pools[stage].add(pack(self._streams[size].pair(self.next_index)), self.next_index)
        self.pools[stage].flush()
        self.next_index += 1

    def _train_step(self, stage: int) -> dict[str, float]:
        rate = self.schedule.learning_rate(self.progress)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["rate"]
        pool = self.pools[stage]
        rows = torch.randint(len(pool), (self.training.batch[stage],), generator=self.generator, device=self.device)
        batch = augment(pool.batch(rows), self.generator)
        self.net.train()
        loss, shown = normals_loss(self.net(batch.image), batch, self.config)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.training.clip)
        if torch.isfinite(norm):  # one bad pair must not end a run of hours
            self._optimizer.step()
        self._update_average()
        self.steps[stage] += 1
        return {**shown, "gradient_norm": float(norm), "rate": rate, "stage": stage}

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.training.average, (1 + self.step) / (10 + self.step))
        current, kept = self.net.state_dict(), self.average.state_dict()
        means = [name for name, value in kept.items() if value.is_floating_point()]
        torch._foreach_lerp_([kept[name] for name in means], [current[name] for name in means], 1 - decay)
        for name in kept.keys() - set(means):
            kept[name].copy_(current[name])

    @property
    def checkpoint(self) -> Path:
        """Everything that a resumed training needs besides the pools."""
        return self.work / "training.ckpt"

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        for pool in self.pools:
            pool.flush()
        state: dict[str, Any] = {
            "config": dataclasses.asdict(self.config), "training": dataclasses.asdict(self.training),
            "net": self.net.state_dict(), "average": self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(), "generator": self.generator.get_state(), "device": self.device.type,
            "steps": self.steps,
            "seconds": self.seconds, "next_index": self.next_index,
        }  # fmt: skip
        part = self.checkpoint.with_name(self.checkpoint.name + ".part")
        torch.save(state, part)
        os.replace(part, self.checkpoint)

    def load(self) -> None:
        """Go on where `save` left off.

        Raises:
            InputError: damaged, or of a training of another network or with other stages.
        """
        state = self._read()
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        ours = [(group["rate"], group["weight_decay"]) for group in self._optimizer.param_groups]
        self._optimizer.load_state_dict(state["optimizer"])
        for group, (rate, decay) in zip(self._optimizer.param_groups, ours, strict=True):
            group["rate"], group["weight_decay"] = rate, decay
        if state.get("device", "cpu") == self.device.type:  # generators of other devices have other states
            self.generator.set_state(state["generator"])
        self.steps, self.seconds, self.next_index = state["steps"], state["seconds"], state["next_index"]

    def _read(self) -> dict[str, Any]:
        """The checkpoint, whole and of this training."""
        try:
            with zipfile.ZipFile(self.checkpoint) as pack:  # torch reads over wrong checksums
                if pack.testzip():
                    raise ValueError("wrong checksum")
            state = torch.load(self.checkpoint, weights_only=True, map_location="cpu")  # Adam keeps its step counts there
            theirs = {f"normals.{name}": state["config"][name] for name in _OF_NETWORK}
            theirs["normals_training.sizes"] = state["training"]["sizes"]
        except Exception as error:  # torch and zipfile raise whatever the damage leads them to
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"{self.checkpoint}: is no checkpoint of a training, or damaged ({reason}). Remove it to train from the start."
            ) from error
        ours = {f"normals.{name}": getattr(self.config, name) for name in _OF_NETWORK}
        ours["normals_training.sizes"] = self.training.sizes
        wrong = [f"{name} is {_listed(theirs[name])} there, here {_listed(value)}" for name, value in ours.items() if theirs[name] != value]
        if wrong:
            raise InputError(
                f"{self.checkpoint}: is of another training: {'; '.join(wrong)}. Give the --preset and --set that it was begun with, or "
                "another --work."
            )
        return state


def _listed(value: Any) -> str:
    """A setting as --set takes it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

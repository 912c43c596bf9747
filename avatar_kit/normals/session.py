"""One training from the first pair to the card, with a progress bar, validation and its log: what the command runs."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from avatar_kit.config import Config
from avatar_kit.normals.card import training_card
from avatar_kit.normals.encoder_weights import load_encoder_weights
from avatar_kit.normals.generate import PairStreamRequest
from avatar_kit.normals.pool import PairPool
from avatar_kit.normals.storage import load_normals, save_normals
from avatar_kit.normals.train import NormalsTrainer
from avatar_kit.normals.validate import held_out_pool, validate, write_sheet
from avatar_kit.types import InputError

_SMOOTH = 0.98  # of the numbers that the bar shows
_CONTINUED = ("pairs", "command", "seed", "steps", "training_hours", "scores", "history", "continued_from")  # of an earlier card


class TrainingSession:
    """A trainer with everything around it; `work` holds all files until `finish` writes the network."""

    def __init__(
        self, config: Config, request: PairStreamRequest, *, work: Path, seed: int, held_out: PairStreamRequest,
        budget: float | None, device: str = "cpu",
    ) -> None:  # fmt: skip
        self.trainer = NormalsTrainer(config.normals, config.normals_training, request, work=work, seed=seed, budget=budget, device=device)
        self.request, self.held_out, self.seed = request, held_out, seed
        self._origin: dict[str, Any] = {}
        self._smooth: dict[str, float] = {}
        self._pools: dict[int, PairPool] = {}

    def start(self, *, encoder_weights: str, init: Path | None) -> None:
        """Go on from the checkpoint, or begin from a trained network or from the encoder's weights."""
        trainer, notes = self.trainer, self.trainer.work / "start.json"
        if trainer.checkpoint.is_file():
            trainer.load()
            self._origin = json.loads(notes.read_text())
            return
        if init:
            begun, card = load_normals(init)
            if begun.config.encoder != trainer.config.encoder or begun.config.decoder_channels != trainer.config.decoder_channels:
                raise InputError(f"{init}: has the encoder {begun.config.encoder}, asked is {trainer.config.encoder}. Give its --preset.")
            trainer.net.load_state_dict(begun.state_dict())
            self._origin = {"licences": card["licences"], "continued_from": {name: card[name] for name in _CONTINUED if name in card}}
        else:
            self._origin = {"licences": [f"encoder: {load_encoder_weights(trainer.net, encoder_weights)}"]}
        trainer.average.load_state_dict(trainer.net.state_dict())
        notes.write_text(json.dumps(self._origin))

    def run(self, *, workers: int, pause_every: float, pairs_first: Sequence[int] = ()) -> None:
        """Train to the end with a progress bar on stderr; with `pairs_first` (one count a stage) on pairs made before."""
        if pairs_first:
            have = sum(len(pool) for pool in self.trainer.pools)
            with tqdm(total=sum(pairs_first), initial=have, desc="pairs", unit="pair", leave=False) as made:
                self.trainer.gather(pairs_first, workers=workers, on_pair=lambda: made.update())
            self.trainer.training = dataclasses.replace(self.trainer.training, pairs_per_step=0)
            workers = 0
        self._held_out(self.trainer.training.sizes[0])
        with tqdm(total=1000, bar_format="{l_bar}{bar}| {postfix}", mininterval=1 if sys.stderr.isatty() else 60) as bar:
            started, at_start = time.monotonic(), self.trainer.progress

            def show(terms: dict[str, float]) -> None:
                progress = self.trainer.progress
                for name, value in terms.items():
                    self._smooth[name] = _SMOOTH * self._smooth.get(name, value) + (1 - _SMOOTH) * value
                bar.n = round(1000 * progress)
                left = (time.monotonic() - started) / max(progress - at_start, 1e-6) * (1 - progress)
                bar.set_postfix_str(self._line(terms, left), refresh=False)
                bar.update(0)

            def pause() -> None:
                scores = self._validate()
                words = [f"step {self.trainer.step}", *(f"{name} {value:g}" for name, value in scores.items())]
                bar.write("  ".join(words), file=sys.stderr)  # stdout is for the result's path

            self.trainer.train(workers=workers, on_step=show, on_pause=pause, pause_every=pause_every)

    def _line(self, terms: dict[str, float], left: float) -> str:
        smooth, trainer = self._smooth, self.trainer
        size = trainer.training.sizes[int(terms["stage"])]
        pools = "+".join(str(len(pool)) for pool in trainer.pools)
        return (
            f"step {trainer.step} at {size} px, {smooth['degrees']:.2f} deg, IoU {smooth['iou']:.3f}, "
            f"{smooth['millimetres']:.1f} mm, likelihood {smooth['likelihood']:.2f}, gradient {smooth['gradient']:.3f}, "
            f"{pools} pairs, {left / 60:.0f} min left"
        )

    def _held_out(self, size: int) -> PairPool:
        if size not in self._pools:
            count = self.trainer.training.validation_pairs
            with tqdm(total=count, desc=f"held-out pairs, {size} px", unit="pair", leave=False) as bar:
                self._pools[size] = held_out_pool(self.trainer.work, self.held_out, size=size, count=count, on_pair=lambda: bar.update())
        return self._pools[size]

    def _validate(self) -> dict[str, float]:
        """Score the averaged network at the stage's size; log it and draw the sheet."""
        trainer = self.trainer
        stage = max((stage for stage, done in enumerate(trainer.steps) if done), default=0)
        pool = self._held_out(trainer.training.sizes[stage])
        scores = validate(trainer.average, pool)
        entry = {"step": trainer.step, "size": pool.size, "minutes": round(trainer.seconds / 60, 2), "made": trainer.next_index,
                 "training_degrees": round(self._smooth.get("degrees", 0.0), 3), **scores}  # fmt: skip
        with (trainer.work / "log.jsonl").open("a") as log:
            log.write(json.dumps(entry) + "\n")
        write_sheet(trainer.work / "sheet.png", trainer.average, pool)
        return scores

    def finish(self, out: Path, *, command: str) -> dict[str, Any]:
        """Write the averaged network with its card; scores are those of the file as it will be read back."""
        trainer = self.trainer
        pool = self._held_out(trainer.config.crop_px)
        save_normals(out, trainer.average, {})
        scores = {f"held_out_{name}": value for name, value in validate(load_normals(out)[0], pool).items()}
        card = training_card(
            trainer, self.request, origin=self._origin, command=command, seed=self.seed, scores={**scores, "held_out_pairs": len(pool)}
        )
        save_normals(out, trainer.average, card)
        return card

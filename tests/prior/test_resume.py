"""A training that is stopped, however rudely, goes on to where it would have come; a damaged checkpoint is named."""

from __future__ import annotations

import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

from avatar_kit.config import Config, override
from avatar_kit.prior.samples import SampleFolder
from avatar_kit.prior.train import PriorTrainer
from avatar_kit.types import InputError


@pytest.fixture
def short(tiny_config: Config) -> Config:
    return override(tiny_config, ["prior.epochs=4,2,0"])


def train(samples: Path, config: Config, checkpoint: Path) -> None:
    """In a process of its own: saves after each step."""
    torch.set_num_threads(1)
    PriorTrainer(SampleFolder(samples), config, seed=0).train(checkpoint=checkpoint, save_every=-1.0)


def assert_ends_as(resumed: PriorTrainer, whole: PriorTrainer, path: Path) -> None:
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    resumed.train(checkpoint=path, on_epoch=lambda _, terms: ours.append(terms))
    whole.train(checkpoint=path, on_epoch=lambda _, terms: theirs.append(terms))
    assert ours[-1] == pytest.approx(theirs[-1], rel=1e-5)  # threads add up in an order of their own
    torch.testing.assert_close(resumed.latents, whole.latents, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(resumed.field.state_dict(), whole.field.state_dict(), rtol=1e-4, atol=1e-5)


def test_a_killed_training_goes_on(balls: SampleFolder, short: Config, tmp_path: Path) -> None:
    """Killed while it trains or writes, whichever comes; what is there is whole, and ends where an unbroken training ends."""
    config, checkpoint = override(short, ["prior.epochs=6,6,0"]), tmp_path / "killed.ckpt"
    process = get_context("spawn").Process(target=train, args=(balls.path, config, checkpoint))
    process.start()
    waited = time.monotonic()
    while not (checkpoint.is_file() and torch.load(checkpoint, weights_only=True)["epoch"] >= 3):
        assert process.is_alive()
        assert time.monotonic() - waited < 120
        time.sleep(0.003)
    process.kill()
    process.join()
    assert process.exitcode == -9
    resumed = PriorTrainer(balls, config, seed=99)
    resumed.load(checkpoint)
    assert 3 <= resumed.epoch < resumed.epochs
    assert_ends_as(resumed, PriorTrainer(balls, config, seed=0), tmp_path / "end.ckpt")


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_a_training_goes_on_to_the_step(
    steps: int, balls: SampleFolder, short: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within an epoch of three steps, and where one ends."""
    stopped = PriorTrainer(balls, short, seed=0)
    step = stopped._train_step
    left = [steps]

    def limited(*arguments: Any) -> dict[str, float]:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(stopped, "_train_step", limited)
    with pytest.raises(KeyboardInterrupt):
        stopped.train(checkpoint=tmp_path / "stopped.ckpt", save_every=-1.0)
    resumed = PriorTrainer(balls, short, seed=99)
    resumed.load(tmp_path / "stopped.ckpt")
    assert 3 * resumed.epoch + resumed._step == steps
    assert_ends_as(resumed, PriorTrainer(balls, short, seed=0), tmp_path / "end.ckpt")


def test_checkpoints_of_before_steps_were_saved_are_read(balls: SampleFolder, short: Config, tmp_path: Path) -> None:
    trainer = PriorTrainer(balls, short, seed=0)
    trainer._train_epoch()
    trainer.epoch += 1
    trainer.save(tmp_path / "new.ckpt")
    state = torch.load(tmp_path / "new.ckpt", weights_only=True)
    torch.save({name: value for name, value in state.items() if name not in ("order", "step", "totals")}, tmp_path / "old.ckpt")
    old, new = (PriorTrainer(balls, short, seed=99) for _ in range(2))
    old.load(tmp_path / "old.ckpt")
    new.load(tmp_path / "new.ckpt")
    assert_ends_as(old, new, tmp_path / "end.ckpt")


@pytest.mark.parametrize("damage", ["empty", "nonsense", "cut", "flipped", "other"])
def test_a_damaged_checkpoint_is_named(damage: str, balls: SampleFolder, short: Config, tmp_path: Path) -> None:
    trainer, file = PriorTrainer(balls, short, seed=0), tmp_path / "training.ckpt"
    trainer.save(file)
    whole = file.read_bytes()
    if damage == "other":
        torch.save({"something": torch.zeros(3)}, file)
    else:
        latents = trainer.latents.detach().numpy().tobytes()
        flipped = whole.replace(latents, bytes([latents[0] ^ 255]) + latents[1:])
        assert flipped != whole
        file.write_bytes({"empty": b"", "nonsense": b"nonsense", "cut": whole[: len(whole) // 2], "flipped": flipped}[damage])
    before = trainer.latents.detach().clone()
    with pytest.raises(InputError, match=r"training\.ckpt: is no checkpoint .* Remove it"):
        trainer.load(file)
    assert torch.equal(trainer.latents, before)


@pytest.mark.parametrize(("setting", "name"), [("field.width=16", r"hidden\.0\.weight"), ("field.latent=3", "latents")])
def test_a_checkpoint_of_another_training_is_refused(setting: str, name: str, balls: SampleFolder, short: Config, tmp_path: Path) -> None:
    PriorTrainer(balls, short, seed=0).save(tmp_path / "training.ckpt")
    with pytest.raises(InputError, match=rf"training\.ckpt: is of another training: .*{name}.* differ"):
        PriorTrainer(balls, override(short, [setting]), seed=0).load(tmp_path / "training.ckpt")

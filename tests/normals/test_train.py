"""Training: augmentation, pool, schedule, and that it learns and resumes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sphere_pairs import SphereRequest, sphere_pair

from avatar_kit.config import Config, NormalsConfig, NormalsTrainingConfig
from avatar_kit.normals.augment import augment, mirror, move, relight
from avatar_kit.normals.generate import PairWorkers, indices
from avatar_kit.normals.losses import Targets, angle
from avatar_kit.normals.pool import PackedPair, PairPool, pack, unpack
from avatar_kit.normals.ray_frame import pixel_rays, to_ray_frame
from avatar_kit.normals.schedule import Schedule
from avatar_kit.normals.session import TrainingSession
from avatar_kit.normals.storage import load_normals
from avatar_kit.normals.train import NormalsTrainer
from avatar_kit.normals.validate import held_out_pool, validate
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.types import InputError

NET = NormalsConfig(decoder_channels=(16, 16, 16, 16, 8), crop_px=32)
TINY = NormalsTrainingConfig(
    sizes=(32, 64), steps=(20, 2), batch=(8, 4), pool=(64, 32), pool_start=16, pairs_per_step=2, validation_pairs=4,
    average=0.9, learning_rate=6e-3, encoder_rate=1.0,
)  # fmt: skip


def ball(**view: float) -> Targets:
    """One ball at the middle of the picture."""
    settings = {"yaw_deg": 0.0, "pitch_deg": 0.0, "roll_deg": 0.0, **view}
    camera = orbit_camera(**settings, distance=4.0, target=np.zeros(3), focal_px=128.0, size=64)
    return unpack([pack(sphere_pair(camera))])


def degrees(a: Targets, b: Targets) -> torch.Tensor:
    both = (a.foreground * b.foreground)[0] > 0.5
    return torch.rad2deg(angle(a.normals, b.normals)[0][both])


def test_packing_keeps_a_pair() -> None:
    pair = SphereRequest().open(64).pair(0)
    truth = unpack([pack(pair)])
    on = pair.foreground
    assert np.abs(truth.image[0].permute(1, 2, 0).numpy() - pair.image).max() <= 0.5 / 255 + 1e-6
    expected = to_ray_frame(pair.normals, pixel_rays(pair.camera.intrinsics, 64, 64))
    off = np.degrees(np.arccos(np.clip((truth.normals[0].permute(1, 2, 0).numpy() * expected).sum(-1)[on], -1, 1)))
    assert off.max() < 0.5  # int8: half a step of 1 / 127 on each axis
    assert np.abs(truth.coordinates[0].permute(1, 2, 0).numpy() - pair.coordinates).max() < 5e-4  # 0.1 mm
    assert np.array_equal(truth.face[0].numpy() > 0.5, pair.face)


def test_mirroring_twice_changes_nothing_and_once_is_the_view_from_the_other_side() -> None:
    left, right = ball(yaw_deg=30), ball(yaw_deg=-30)
    all_of_them = torch.tensor([True])
    twice = mirror(mirror(left, all_of_them), all_of_them)
    assert all(torch.equal(a, b) for a, b in zip(twice, left))
    once = mirror(left, all_of_them)
    assert torch.equal(once.foreground, right.foreground)
    assert degrees(once, right).max() < 0.5
    assert (once.coordinates - right.coordinates).abs().max() < 2e-3
    assert torch.equal(mirror(left, torch.tensor([False])).image, left.image)


def test_turning_the_picture_is_rolling_the_camera() -> None:
    # a camera that rolls by +20 degrees (its right towards its down) sees the world turned counter-clockwise
    turned = move(ball(pitch_deg=20), torch.deg2rad(torch.tensor([-20.0])), torch.ones(1), torch.zeros(1, 2))
    rolled = ball(pitch_deg=20, roll_deg=20)
    inner = (turned.foreground * rolled.foreground)[0] > 0.5
    assert inner.sum() > 0.97 * rolled.foreground.sum()
    assert degrees(turned, rolled).mean() < 1.0
    assert (turned.coordinates - rolled.coordinates).abs().amax(1)[0][inner].median() < 0.01  # 2 mm: a tenth of a pixel


def test_zoom_keeps_the_normals_of_the_middle() -> None:
    whole, near = ball(), move(ball(), torch.zeros(1), torch.tensor([1.4]), torch.zeros(1, 2))
    assert near.foreground.sum() / whole.foreground.sum() == pytest.approx(1.4**2, rel=0.05)
    assert degrees(whole._replace(normals=near.normals), near).max() < 0.5
    assert float(angle(near.normals, whole.normals)[0, 31, 31]) < 0.05


def test_a_shift_takes_what_the_zoom_leaves() -> None:
    """Twice as close and moved as far right and up as there is room: the upper right quarter."""
    down, right = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    ramps = torch.stack([right, down, right + down])[None] / 128
    batch = ball()._replace(image=ramps)
    inner = slice(2, 62)  # beyond half a pixel from the edge it repeats
    found = move(batch, torch.zeros(1), torch.full((1,), 2.0), torch.tensor([[1.0, -1.0]])).image[0, :2, inner, inner]
    assert torch.allclose(found, torch.stack([32 + right / 2, down / 2])[:, inner, inner] / 128, atol=1e-5)


def test_moved_coordinates_are_of_the_subject_alone() -> None:
    """Along the outline pixels are mixed with what is behind it, which has none; and no pixel off the subject is a face."""
    batch = ball()
    batch = batch._replace(coordinates=torch.full_like(batch.coordinates, 0.3) * batch.foreground, face=batch.foreground)
    near = move(batch, torch.tensor([0.2]), torch.tensor([1.3]), torch.tensor([[0.5, 0.5]]))
    on = near.foreground[0] > 0.5
    assert torch.allclose(near.coordinates[0][:, on], torch.tensor(0.3), atol=1e-5)
    assert (near.coordinates[0][:, ~on] == 0).all()
    assert torch.equal(near.face, near.foreground)


def test_more_light_is_a_gain_by_the_cosine_to_it_on_the_subject_alone() -> None:
    batch = ball()._replace(image=torch.full((1, 3, 64, 64), 0.02))  # dark, so that nothing is cut off
    lit = relight(batch, torch.tensor([True]), torch.Generator().manual_seed(3))
    on = batch.foreground[0] > 0.5
    gain = torch.log(lit.image / batch.image)[0]
    assert gain[:, ~on].abs().max() == 0
    known = torch.cat([batch.normals[0][:, on].T, torch.ones(int(on.sum()), 1)], dim=1)
    found = torch.linalg.lstsq(known, gain[:, on].T).solution  # the light's direction and what is taken off all
    assert (known @ found - gain[:, on].T).abs().max() < 1e-4
    assert found[:3].norm() > 0.05
    assert torch.allclose(found[3], -0.5 * found[:3].norm(dim=0), atol=1e-4)
    assert torch.equal(relight(batch, torch.tensor([False]), torch.Generator()).image, batch.image)


def test_augmentation_keeps_the_ranges_and_follows_its_generator() -> None:
    batch = unpack([pack(SphereRequest().open(64).pair(i)) for i in range(4)])
    first, second = (augment(batch, torch.Generator().manual_seed(5)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second))
    assert first.image.min() >= 0
    assert first.image.max() <= 1
    length = first.normals.norm(dim=1)
    assert torch.allclose(length, first.foreground, atol=1e-3)
    assert not torch.equal(first.image, batch.image)


def test_pool_overwrites_its_oldest_and_comes_back(tmp_path: Path) -> None:
    stream = SphereRequest().open(32)
    pool = PairPool(tmp_path / "pool", size=32, capacity=3)
    for i in range(4):
        pool.add(pack(stream.pair(i)))
    pool.flush()
    again = PairPool(tmp_path / "pool", size=32, capacity=3)
    assert (len(again), again.added) == (3, 4)
    expected = unpack([pack(stream.pair(i)) for i in (3, 1, 2)])
    assert all(torch.equal(a, b) for a, b in zip(again.batch(torch.arange(3)), expected))
    with pytest.raises(InputError, match="3 pairs of 32"):
        PairPool(tmp_path / "pool", size=32, capacity=4)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_pool_on_a_gpu_holds_what_its_files_hold(tmp_path: Path) -> None:
    stream = SphereRequest().open(32)
    for i in range(2):  # opened again, the copy comes from the files
        pool = PairPool(tmp_path / "pool", size=32, capacity=3, device="cuda")
        for j in range(2):
            pool.add(pack(stream.pair(2 * i + j)))
        pool.flush()
    on_files = PairPool(tmp_path / "pool", size=32, capacity=3).batch(torch.arange(3))
    assert all(torch.allclose(a.cpu(), b, atol=1e-6) for a, b in zip(pool.batch(torch.arange(3)), on_files))


def test_workers_share_out_whole_heads() -> None:
    made = []
    for worker in range(2):
        numbers = indices(5, 4, worker=worker, workers=2)
        made += [next(numbers) for _ in range(8)]
    assert sorted(made) == list(range(8, 24))


def test_no_worker_makes_heads_of_one_source_alone() -> None:
    """Heads come from sources in turn, by their number: two workers and two sources must not be paired off."""
    for workers, sources in ((2, 2), (4, 2), (3, 3)):
        for worker in range(workers):
            numbers = indices(0, 1, worker=worker, workers=workers)
            assert len({next(numbers) % sources for _ in range(6)}) == sources


@dataclasses.dataclass(frozen=True)
class FailingRequest(SphereRequest):
    def open(self, size: int):
        raise OSError("the disk is gone")


def test_worker_processes_deliver_and_report_errors() -> None:
    with PairWorkers(SphereRequest(), size=32, start=0, workers=1) as workers:
        index, pair = wait_for(workers)[0]
    assert index == 0
    assert np.array_equal(pair["image"], pack(SphereRequest().open(32).pair(0))["image"])
    with PairWorkers(FailingRequest(), size=32, start=0, workers=1) as workers, pytest.raises(RuntimeError, match="the disk is gone"):
        wait_for(workers)


def wait_for(workers: PairWorkers) -> list[tuple[int, PackedPair]]:
    while not (arrived := workers.take(wait=True)):
        pass
    return arrived


def test_schedule_goes_through_its_stages_by_steps_or_by_time() -> None:
    config = dataclasses.replace(TINY, sizes=(32, 64), steps=(100, 100), batch=(8, 2), warm_up=0.1)
    by_steps, by_time = Schedule(config), Schedule(config, budget=60.0)
    assert by_steps.ends == [0.5, 1.0]
    assert [by_steps.stage(by_steps.progress(steps, 0)) for steps in ([0, 0], [99, 0], [100, 0], [100, 99])] == [0, 0, 1, 1]
    assert by_steps.progress([100, 100], 0) == 1.0
    assert by_time.progress([3, 0], 45.0) == 0.75
    assert by_time.stage(0.75) == 1
    assert [by_steps.made_for(p) for p in (0.1, 0.4, 0.6)] == [0, 1, 1]
    assert by_steps.learning_rate(0.1) == config.learning_rate
    assert by_steps.learning_rate(1.0) == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ValueError, match="one entry per stage"):
        Schedule(dataclasses.replace(config, batch=(4,)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": (32, 32)}, "every size once"),
        ({"steps": (0, 0)}, "not all 0"),
        ({"batch": (4, 1)}, "2 at least"),
        ({"pool_start": 0}, "1 at least"),
        ({"validation_pairs": 0}, "1 at least"),
    ],
)
def test_trainings_that_could_not_go_on_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(dataclasses.replace(TINY, **change))


def trainer(work: Path) -> NormalsTrainer:
    torch.manual_seed(0)  # of the network's first weights
    return NormalsTrainer(NET, TINY, SphereRequest(), work=work, seed=0)


def test_learns_a_ball_and_resumes_to_the_same_weights(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole")
    held_out = held_out_pool(tmp_path, SphereRequest(seed=9), size=32, count=6)
    before = validate(whole.average, held_out)["degrees"]
    whole.train(workers=0, max_steps=8)
    after_eight = {name: value.clone() for name, value in whole.average.state_dict().items()}

    trainer(tmp_path / "parts").train(workers=0, max_steps=5)
    resumed = trainer(tmp_path / "parts")
    resumed.load()
    assert resumed.step == 5
    resumed.train(workers=0, max_steps=3)
    for name, value in resumed.average.state_dict().items():
        assert torch.equal(value, after_eight[name]), name

    whole.train(workers=0)
    assert whole.steps == list(TINY.steps)
    assert validate(whole.average, held_out)["degrees"] < before - 5.0  # 41 degrees before: a flat surface is no better


def test_an_encoder_with_no_rate_of_its_own_stays_as_it_came(tmp_path: Path) -> None:
    torch.manual_seed(0)
    held = NormalsTrainer(NET, dataclasses.replace(TINY, encoder_rate=0.0), SphereRequest(), work=tmp_path, seed=0)
    before = {name: value.clone() for name, value in held.net.named_parameters()}
    held.train(workers=0, max_steps=3)
    moved = {".encoder." in name for name, value in held.net.named_parameters() if not torch.equal(value, before[name])}
    assert any(".encoder." in name for name in before)
    assert moved == {False}


def test_a_pair_that_is_no_number_costs_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = trainer(tmp_path)
    first.train(workers=0, max_steps=2)
    before = {name: value.clone() for name, value in first.net.named_parameters()}

    def broken(batch: Targets, generator: torch.Generator) -> Targets:
        return batch._replace(normals=batch.normals * torch.nan)

    monkeypatch.setattr("avatar_kit.normals.train.augment", broken)
    first.train(workers=0, max_steps=1)
    assert all(torch.equal(value, before[name]) for name, value in first.net.named_parameters())
    assert first.step == 3


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_trains_and_resumes_on_a_gpu(tmp_path: Path) -> None:
    first = NormalsTrainer(NET, TINY, SphereRequest(), work=tmp_path, seed=0, device="cuda")
    held_out = held_out_pool(tmp_path, SphereRequest(seed=9), size=32, count=6)
    before = validate(first.average, held_out)["degrees"]
    first.train(workers=0, max_steps=10)
    again = NormalsTrainer(NET, TINY, SphereRequest(), work=tmp_path, seed=1, device="cuda")
    again.load()
    assert again.step == 10
    again.train(workers=0)
    assert validate(again.average, held_out)["degrees"] < before - 5.0


@pytest.mark.parametrize("workers", [0, 1])
def test_pairs_are_made_first_and_then_no_more(tmp_path: Path, workers: int) -> None:
    training = dataclasses.replace(TINY, pairs_per_step=0, pool_start=4)
    first = NormalsTrainer(NET, training, SphereRequest(), work=tmp_path, seed=0)
    seen: list[int] = []
    first.gather([9, 5], workers=workers, on_pair=lambda: seen.append(1))
    made = [pool.added for pool in first.pools]
    assert made[0] >= 9
    assert made[1] >= 5
    assert len(seen) == sum(made) <= first.next_index  # of pairs on their way when a worker was ended, only the numbers are left
    again = NormalsTrainer(NET, training, SphereRequest(), work=tmp_path, seed=0)
    again.gather([9, 5], workers=workers)
    again.train(workers=0, max_steps=2)
    assert [pool.added for pool in again.pools] == made


def test_session_writes_network_card_log_and_sheet(tmp_path: Path) -> None:
    config = Config(normals=NET, normals_training=dataclasses.replace(TINY, sizes=(32,), steps=(3,), batch=(4,), pool=(32,)))
    work = tmp_path / "work"

    def session() -> TrainingSession:
        return TrainingSession(config, SphereRequest(), work=work, seed=0, held_out=SphereRequest(seed=9), budget=None)  # pyright: ignore

    first = session()
    first.start(encoder_weights="none", init=None)
    first.run(workers=1, pause_every=0.0)
    card = first.finish(tmp_path / "normals.safetensors", command="avatar-kit normals train")
    assert card["scores"]["held_out_pairs"] == 4
    assert card["steps"] == {"32": 3}
    assert load_normals(tmp_path / "normals.safetensors")[1] == json.loads(json.dumps(card))
    assert (work / "sheet.png").is_file()
    assert len((work / "log.jsonl").read_text().splitlines()) >= 3
    again = session()
    again.start(encoder_weights="imagenet", init=None)  # the checkpoint comes first
    assert again.trainer.step == 3
    warm = TrainingSession(config, SphereRequest(), work=tmp_path / "warm", seed=1, held_out=SphereRequest(seed=9), budget=None)  # pyright: ignore
    warm.start(encoder_weights="none", init=tmp_path / "normals.safetensors")
    stored = load_normals(tmp_path / "normals.safetensors")[0].state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in warm.trainer.net.state_dict().items() if "num_batches" not in name)
    warm.run(workers=1, pause_every=60.0, pairs_first=[17])
    assert warm.trainer.pools[0].added >= 17
    continued = warm.finish(tmp_path / "warm.safetensors", command="avatar-kit normals train --init")
    assert continued["continued_from"]["steps"] == {"32": 3}
    assert continued["licences"] == card["licences"]


def test_a_checkpoint_that_is_damaged_or_of_another_training_is_named(tmp_path: Path) -> None:
    trainer(tmp_path).save()
    longer = dataclasses.replace(TINY, steps=(40, 4), learning_rate=1e-3)
    NormalsTrainer(NET, longer, SphereRequest(), work=tmp_path, seed=0).load()  # may differ
    wider = dataclasses.replace(NET, decoder_channels=(16, 16, 16, 16, 16))
    with pytest.raises(InputError, match=r"another training: normals\.decoder_channels is 16,16,16,16,8 there, here 16,16,16,16,16\. Give"):
        NormalsTrainer(wider, TINY, SphereRequest(), work=tmp_path, seed=0).load()
    one = dataclasses.replace(TINY, sizes=(32,), steps=(20,), batch=(8,), pool=(64,))
    with pytest.raises(InputError, match=r"normals_training\.sizes is 32,64 there, here 32\."):
        NormalsTrainer(NET, one, SphereRequest(), work=tmp_path, seed=0).load()
    file = trainer(tmp_path).checkpoint
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(InputError, match=r"training\.ckpt: is no checkpoint .* Remove it"):
        trainer(tmp_path).load()

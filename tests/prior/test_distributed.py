"""Training in several processes: it does what a single one does, and goes on in any number of them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
import trimesh

from avatar_kit.config import Config, override
from avatar_kit.prior import processes
from avatar_kit.prior.samples import SampleFolder
from avatar_kit.prior.storage import load_prior
from avatar_kit.prior.train import PriorTrainer
from avatar_kit.types import InputError

# what adding up in another order does to float32, after Adam: its first steps depend on signs
CLOSE = {"rtol": 1e-5, "atol": 2e-6}


class _Stop(Exception):
    pass


def train(samples: Path, config: Config, out: Path, *, device: str = "cpu", stop_after: int | None = None) -> None:
    """Train from the start, noting the losses of each epoch in `out`.json; saves after each step."""
    trainer = PriorTrainer(SampleFolder(samples), config, seed=0, device=device)
    losses: list[dict[str, float]] = []

    def note(epoch: int, terms: dict[str, float]) -> None:
        losses.append(terms)
        if epoch == stop_after:
            raise _Stop

    try:
        trainer.train(checkpoint=out, on_epoch=note, save_every=-1.0)
    except _Stop:
        assert stop_after is not None
    if processes.rank() == 0:
        out.with_suffix(".json").write_text(json.dumps(losses))


def process(rank: int, world: int, port: int, samples: Path, jobs: list[tuple[Config, Path, int | None]]) -> None:
    """What one of the processes does."""
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    torch.set_num_threads(1)
    with processes.joined("cpu") as device:
        for config, out, stop_after in jobs:
            train(samples, config, out, device=device, stop_after=stop_after)


def train_in_two(samples: Path, jobs: list[tuple[Config, Path, int | None]]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [get_context("spawn").Process(target=process, args=(rank, 2, port, samples, jobs)) for rank in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(120)
        one.kill()
    assert [one.exitcode for one in both] == [0, 0]


def assert_same(found: Path, expected: Path) -> None:
    a, b = (torch.load(file, weights_only=True) for file in (found, expected))
    for name in ("latents", "visits", "moments", "field"):
        torch.testing.assert_close(a[name], b[name], **CLOSE)
    assert torch.equal(a["generator"], b["generator"])
    ours, theirs = (json.loads(file.with_suffix(".json").read_text()) for file in (found, expected))
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other | {"near": one["near"]}, rel=1e-5)
        assert one["near"] == pytest.approx(other["near"], rel=0.05)  # the mean over heads near which there are more points or fewer


def test_two_processes_train_as_one(balls: SampleFolder, tiny_config: Config, tmp_path: Path) -> None:
    """Also with a share that is uneven, with no head at all for one of them, with frozen stages, and going on alone."""
    uneven = override(tiny_config, ["prior.epochs=2,2,0", "prior.heads_per_step=11"])  # 6 and 5 of them, then 1 and 0
    frozen = override(tiny_config, ["prior.epochs=2,1,0", "prior.freeze_earlier=true", "prior.heads_per_step=5"])
    jobs = {"uneven": (uneven, None), "frozen": (frozen, None), "stopped": (uneven, 2)}
    train_in_two(balls.path, [(config, tmp_path / f"{name}_2.ckpt", stop) for name, (config, stop) in jobs.items()])
    for name in ("uneven", "frozen"):
        train(balls.path, jobs[name][0], tmp_path / f"{name}_1.ckpt")
        assert_same(tmp_path / f"{name}_2.ckpt", tmp_path / f"{name}_1.ckpt")
    alone = PriorTrainer(balls, uneven, seed=9)
    alone.load(tmp_path / "stopped_2.ckpt")
    losses: list[dict[str, float]] = json.loads((tmp_path / "stopped_2.json").read_text())[:1]  # it was saved before epoch 2 was over
    alone.train(checkpoint=tmp_path / "alone.ckpt", on_epoch=lambda _, terms: losses.append(terms))
    (tmp_path / "alone.json").write_text(json.dumps(losses))
    assert_same(tmp_path / "alone.ckpt", tmp_path / "uneven_1.ckpt")


def test_each_row_has_one_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.tensor([7, 0, 3, 10, 4])
    monkeypatch.setattr(processes, "world", lambda: 3)
    whole = torch.arange(11) * 2
    found = torch.zeros(5, dtype=torch.int64)
    for rank in range(3):
        monkeypatch.setattr(processes, "rank", lambda rank=rank: rank)
        here, at = processes.owned(rows)
        found[here] += whole[processes.mine()][at]
    assert torch.equal(found, whole[rows])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"RANK": None}, "not RANK. Start with torchrun"),
        ({"RANK": "2"}, "numbered beyond their count"),
        ({"LOCAL_WORLD_SIZE": "two"}, "whole numbers"),
    ],
)
def test_an_environment_that_does_not_fit_is_said(monkeypatch: pytest.MonkeyPatch, changed: dict[str, str | None], message: str) -> None:
    fitting = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in (fitting | changed).items():
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message), processes.joined("cpu"):
        pass


def test_more_processes_than_gpus_or_heads_are_refused(balls: SampleFolder, tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "64")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    with pytest.raises(InputError, match=r"64 processes on a machine with \d+ GPUs"), processes.joined("cuda"):
        pass
    monkeypatch.setattr(processes, "world", lambda: 5)
    with pytest.raises(InputError, match="5 processes for 12 heads, 4 in a step"):
        PriorTrainer(balls, tiny_config, seed=0)


def test_the_command_runs_under_torchrun(tmp_path: Path) -> None:
    for i in range(4):
        trimesh.creation.icosphere(subdivisions=3, radius=70 + 10 * i).export(tmp_path / f"ball_{i}.ply")
    small = ["field.width=16", "field.layers=1", "field.levels=2", "field.features=4", "field.latent=4", "prior.epochs=2,0,0",
             "prior.heads_per_step=3", "prior.points_per_head=64"]  # fmt: skip
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "avatar_kit_cli.main",
               "prior", "train", "--heads", f"folder:{tmp_path}*4", "--held-out", "1", "--workers", "1", "--device", "cpu",
               "--work", str(tmp_path / "work"), "--out", str(tmp_path / "prior.safetensors")]  # fmt: skip
    command += [part for setting in small for part in ("--set", setting)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(tmp_path / "prior.safetensors")]
    prior = load_prior(tmp_path / "prior.safetensors")
    assert prior.latents.shape == (4, 4)
    assert "2 processes" in prior.card["machine"]


def test_leaving_the_group_ends_its_threads(tmp_path: Path) -> None:
    """A thread of the group that outlives the interpreter aborts the process, now and then."""
    script = tmp_path / "one.py"
    script.write_text(
        "import glob, torch\n"
        "from avatar_kit.prior import processes\n"
        "with processes.joined('cpu'):\n"
        "    weight = torch.nn.Parameter(torch.zeros(3))\n"
        "    torch.optim.Adam([weight]).step()\n"
        "    processes.dist.all_reduce(weight.data)\n"
        "print(*[open(task).read().strip() for task in glob.glob('/proc/self/task/*/comm')])\n"
    )
    if not Path("/proc/self/task").is_dir():
        pytest.skip("reads the names of threads from /proc")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert "gloo" not in done.stdout, done.stdout

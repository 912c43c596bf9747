"""Heads of a prior: random ones with the training heads' statistics, straight lines between heads, and the commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from avatar_kit_cli.main import main
from PIL import Image

from avatar_kit import load_prior
from avatar_kit.mesh.files import read_mesh
from avatar_kit.mesh.gallery import between, heads, named_latent, random_latents
from avatar_kit.types import InputError


def test_random_latents_have_the_training_heads_statistics(generator: torch.Generator) -> None:
    prior = load_prior()
    drawn = random_latents(prior, 20_000, generator)
    spread = prior.latents.std(0).mean()
    torch.testing.assert_close(drawn.mean(0), prior.mean_latent, atol=float(spread) * 0.05, rtol=0)
    torch.testing.assert_close(drawn.std(0), prior.latents.std(0), rtol=0.05, atol=0)
    torch.testing.assert_close(random_latents(prior, 1, generator, spread=0.0)[0], prior.mean_latent)


def test_heads_have_names() -> None:
    prior = load_prior()
    torch.testing.assert_close(named_latent(prior, "mean"), prior.mean_latent)
    torch.testing.assert_close(named_latent(prior, "12"), prior.latents[12])
    torch.testing.assert_close(named_latent(prior, "random:3"), named_latent(prior, "random:3"))
    for name in ("nobody", "random:x", "99999", ""):
        with pytest.raises(InputError, match="no such head"):
            named_latent(prior, name)
    way = between(named_latent(prior, "0"), named_latent(prior, "1"), 3)
    torch.testing.assert_close(way[1], (prior.latents[0] + prior.latents[1]) / 2)
    torch.testing.assert_close(way[2], prior.latents[1])


def test_random_heads_are_heads(generator: torch.Generator) -> None:
    """As long and as wide as heads are, in one piece, around the middle of the box."""
    prior = load_prior()
    for mesh in heads(prior, random_latents(prior, 3, generator), resolution=64):
        skull = mesh.vertices[mesh.vertices[:, 1] > -0.2]
        assert 0.6 < np.ptp(skull[:, 0]) < 1.6  # 120 to 320 mm, hair included
        assert 0.8 < np.ptp(skull[:, 2]) < 1.7
        assert abs(skull[:, 0].mean()) < 0.1


def test_the_commands_write_sheets_and_meshes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["prior", "sample", "--count", "2", "--resolution", "32", "--out", str(tmp_path / "a.png"), "--meshes", str(tmp_path / "m")])
    assert [Path(line).name for line in capsys.readouterr().out.splitlines()] == ["a.png", "head_000.ply", "head_001.ply"]
    assert np.ptp(read_mesh(tmp_path / "m" / "head_000.ply").vertices[:, 1]) > 150  # millimetres
    main(["prior", "interpolate", "mean", "random:1", "--count", "3", "--resolution", "32", "--out", str(tmp_path / "b.png")])
    with Image.open(tmp_path / "b.png") as strip, Image.open(tmp_path / "a.png") as sheet:
        assert strip.width == 1.5 * sheet.width
    with pytest.raises(SystemExit) as refused:
        main(["prior", "sample", "--out", str(tmp_path / "a.png")])
    assert refused.value.code == 2

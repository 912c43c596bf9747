"""The prior on heads with a closed form: balls of many sizes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from avatar_kit.config import PRESETS, Config, override
from avatar_kit.field.head_field import Condition
from avatar_kit.prior.card import scores
from avatar_kit.prior.losses import Batch, prior_loss
from avatar_kit.prior.project import surface_error_mm
from avatar_kit.prior.samples import HeadRequest, SampleFolder, sample_head, write_samples
from avatar_kit.prior.storage import load_prior, save_prior
from avatar_kit.prior.train import PriorTrainer
from avatar_kit.types import Head, InputError, Mesh


def test_samples_of_a_ball_are_exact(sphere: Mesh, rng: np.random.Generator) -> None:
    surface, space = sample_head(Head("ball", {"body": sphere}), rng)
    np.testing.assert_allclose(np.linalg.norm(surface[:, :3], axis=1), 0.5, atol=1.5e-3)  # facets of the icosphere
    cosine = (surface[:, :3] * surface[:, 3:]).sum(1) / 0.5
    assert cosine.min() > 0.99
    np.testing.assert_allclose(space[:, 3], np.linalg.norm(space[:, :3], axis=1) - 0.5, atol=2e-3)
    assert (np.abs(space[:, :3]) <= 1).all()


def test_hidden_surface_is_not_sampled(sphere: Mesh, rng: np.random.Generator) -> None:
    inner = Mesh(sphere.vertices * 0.5, sphere.faces)
    surface, space = sample_head(Head("nested", {"body": sphere, "hair": inner}), rng)
    assert np.linalg.norm(surface[:, :3], axis=1).min() > 0.49
    inside = np.linalg.norm(space[:, :3], axis=1) < 0.2
    assert (space[inside, 3] < 0).all()


def test_a_head_outside_the_box_is_rejected(sphere: Mesh, rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match="box"):
        sample_head(Head("far", {"body": Mesh(sphere.vertices + 50, sphere.faces)}), rng)


def test_sampling_goes_on_where_it_stopped(balls: SampleFolder, tmp_path: Path) -> None:
    index = json.loads((balls.path / "index.json").read_text())
    request = HeadRequest(**index["requests"][0])
    before = balls.surface[3].copy()
    index["heads"][3] = None
    (balls.path / "index.json").write_text(json.dumps(index))
    again = write_samples(balls.path, [request])
    np.testing.assert_array_equal(again.surface[3], before)
    with pytest.raises(InputError, match="other heads"):
        write_samples(balls.path, [HeadRequest(request.source, 5)])


def test_true_distances_have_no_loss_and_wrong_ones_do(balls: SampleFolder, tiny_config: Config, generator: torch.Generator) -> None:
    from mesh.test_mesh import Ball

    field = Ball(0.5)
    field.condition = lambda latents: Condition(latents)  # type: ignore[method-assign]
    points = torch.nn.functional.normalize(torch.randn(1, 200, 3, generator=generator), dim=-1) * 0.5
    space = torch.rand(1, 200, 3, generator=generator) - 0.5
    batch = Batch(torch.zeros(1, 1), torch.cat([points, points / 0.5], -1), torch.cat([space, space.norm(dim=-1, keepdim=True) - 0.5], -1))
    loss, _ = prior_loss(field, batch, tiny_config.prior)
    assert loss.item() < 1e-5
    wrong, _ = prior_loss(field, batch._replace(space=batch.space + 0.05), tiny_config.prior)
    assert wrong.item() > 0.005


def test_distances_far_away_count_less(tiny_config: Config) -> None:
    """By 1 + d / 6 mm; "near" is the mean within these 6 mm."""
    from mesh.test_mesh import Ball

    field = Ball(0.5)
    field.condition = lambda latents: Condition(latents)  # type: ignore[method-assign]

    def term(distance: float) -> dict[str, float]:
        space = torch.tensor([[[0.5 + distance, 0.0, 0.0, distance + 0.01]]])  # 2 mm off
        batch = Batch(torch.zeros(1, 1), torch.tensor([[[0.5, 0, 0, 1.0, 0, 0]]]), space)
        return {name: value.item() for name, value in prior_loss(field, batch, tiny_config.prior)[1].items()}

    assert term(-0.01)["space"] == pytest.approx(0.01, rel=1e-4)
    assert term(0.29)["space"] == pytest.approx(0.01 / 11, rel=1e-4)
    assert term(-0.31)["space"] == pytest.approx(0.01 / 11, rel=1e-4)
    assert [term(distance)["near"] > 0 for distance in (0.015, -0.035, 0.025, -0.045)] == [True, True, False, False]


def test_the_papers_rate_is_halved_in_steps(balls: SampleFolder, tiny_config: Config) -> None:
    halved = PriorTrainer(balls, override(tiny_config, ["prior.decay_epochs=50", "prior.learning_rate=1e-4"]), seed=0)
    assert [halved.learning_rate(epoch) for epoch in (0.0, 49.9, 50.0, 99.9, 100.0)] == [1e-4, 1e-4, 5e-5, 5e-5, 2.5e-5]


def test_training_learns_the_balls_and_survives_a_stop(balls: SampleFolder, tiny_config: Config, tmp_path: Path) -> None:
    whole = PriorTrainer(balls, tiny_config, seed=0)
    start = surface_error_mm(whole.field, whole.latents.data, balls, list(range(12)))
    whole.train(checkpoint=tmp_path / "whole.ckpt")
    end = surface_error_mm(whole.field, whole.latents.data, balls, list(range(12)))
    assert end < 0.15 * start
    assert end < 4.0

    stopped = PriorTrainer(balls, override(tiny_config, ["prior.epochs=30,10,0"]), seed=0)
    for _ in range(17):
        stopped._train_epoch()
        stopped.epoch += 1
    stopped.save(tmp_path / "stopped.ckpt")
    resumed = PriorTrainer(balls, tiny_config, seed=99)
    resumed.load(tmp_path / "stopped.ckpt")
    resumed.train(checkpoint=tmp_path / "resumed.ckpt")
    torch.testing.assert_close(resumed.latents, whole.latents, rtol=1e-4, atol=1e-5)

    card = scores_card(whole, balls, tmp_path)
    assert card["held_out_latent_mm"] < 0.5 * card["held_out_mean_head_mm"]


def test_a_training_goes_on_from_a_prior(balls: SampleFolder, tiny_config: Config, tmp_path: Path) -> None:
    """Also from one without local features, which then begin at zero."""
    plain = override(tiny_config, ["field.local_rank=0"])
    first = PriorTrainer(balls, plain, seed=0)
    first._train_epoch()
    prior = save_prior(tmp_path / "first.safetensors", first.field, first.latents.data, {})
    more = PriorTrainer(balls, tiny_config, seed=1, start=prior)
    point, latent = torch.tensor([[0.1, 0.2, 0.3]]), prior.mean_latent[None]
    torch.testing.assert_close(more.field(point, more.field.condition(latent)), prior.field(point, prior.field.condition(latent)))
    assert (more.latents - prior.mean_latent).abs().max() < 0.1
    with pytest.raises(InputError, match="another field"):
        PriorTrainer(balls, override(tiny_config, ["field.width=16"]), seed=1, start=prior)


def scores_card(trainer: PriorTrainer, balls: SampleFolder, path: Path) -> dict[str, float]:
    prior = save_prior(path / "prior.safetensors", trainer.field, trainer.latents.data, {"note": "balls"})
    assert prior.card == {"note": "balls"}
    assert prior.mean_sdf.shape == (65, 65, 65)
    return scores(prior, balls, balls, seed=0, grid_heads=1)


def test_stages_train_what_they_should(balls: SampleFolder, tiny_config: Config) -> None:
    frozen = override(tiny_config, ["prior.freeze_earlier=true", "prior.epochs=1,1,0"])
    trainer = PriorTrainer(balls, frozen, seed=0)
    trainer._train_epoch()
    trainer.epoch = 1
    before = {name: parameter.detach().clone() for name, parameter in trainer.field.named_parameters()}
    latents = trainer.latents.detach().clone()
    trainer._train_epoch()
    changed = [name for name, parameter in trainer.field.named_parameters() if not torch.equal(parameter, before[name])]
    assert changed == ["grids.1"]
    assert torch.equal(trainer.latents, latents)


def test_stages_without_a_grid_of_their_own_go_on_with_the_decoder(balls: SampleFolder, tiny_config: Config) -> None:
    frozen = override(tiny_config, ["prior.freeze_earlier=true", "prior.epochs=1,1,1", "field.levels=2"])
    trainer = PriorTrainer(balls, frozen, seed=0)
    for trainer.epoch in range(3):
        assert np.isfinite(trainer._train_epoch()["surface"])


def test_the_papers_losses_need_no_inside(balls: SampleFolder, tiny_config: Config) -> None:
    config = override(tiny_config, ["prior.distances=false", "prior.eikonal_weight=0.1"])
    terms = PriorTrainer(balls, config, seed=0)._train_epoch()
    assert "space" not in terms
    assert terms["eikonal"] > 0


def test_the_papers_training_in_miniature(balls: SampleFolder, tmp_path: Path) -> None:
    """Section 3.1 with N = 2: the full networks, its losses and stages; each stage moves what it should, and no more."""
    config = override(PRESETS["paper"], ["prior.epochs=2,4,8", "prior.mask_epochs=1", "prior.heads_per_step=8", "prior.points_per_head=32"])
    trainer = PriorTrainer(balls, config, seed=0)
    grids = {}

    def look(epoch: int, terms: dict[str, float]) -> None:
        assert all(np.isfinite(list(terms.values())))
        assert terms.keys() == {"surface", "normal", "eikonal", "latent", "grid", "surface_mm"}
        grids[epoch] = [grid.detach().square().sum().item() for grid in trainer.field.grids]

    trainer.train(checkpoint=tmp_path / "paper.ckpt", on_epoch=look)
    assert grids[2][0] > 0
    assert grids[2][1:] == [0, 0]
    assert grids[6][0] == grids[2][0]
    assert grids[6][1] > 0
    assert grids[6][2] == 0
    assert grids[14][:2] == grids[6][:2]
    assert grids[14][2] > 0
    assert trainer.latents.shape == (12, 256)


def test_unusable_prior_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.safetensors: no such file"):
        load_prior(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"bad\.safetensors: is damaged"):
        load_prior(tmp_path / "bad.safetensors")


def test_the_shipped_prior_is_small_and_has_a_card() -> None:
    from importlib import resources

    file = Path(str(resources.files("avatar_kit") / "weights" / "prior.safetensors"))
    assert file.stat().st_size < 12e6
    prior = load_prior()
    assert sum(source["count"] for source in prior.card["heads"]) >= 300
    assert prior.card["scores"]["held_out_latent_mm"] < 0.5 * prior.card["scores"]["held_out_mean_head_mm"]
    assert prior.mean_sdf[32, 32, 32] < 0
    assert prior.mean_sdf[0, 64, 64] > 0

"""Tables 1 and 2: what their numbers mean, what a missing prior says, and a row without prior and normals from end to end."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avatar_kit.config import PRESETS, WITHOUT_PRIOR, override
from avatar_kit.prior.storage import untrained_prior
from avatar_kit.score import ablations
from avatar_kit.score.ablations import ABLATIONS, Ablation, ablation_table, load_variant_prior, run_ablation, training_config
from avatar_kit.score.datasets import Subject
from avatar_kit.types import InputError

DEMO = Path(str(resources.files("avatar_kit") / "weights" / "demo"))


def result(subject: str, views: int, seed: int, face: float) -> dict[str, Any]:
    return {"subject": subject, "views": views, "seed": seed, "scores": {"ours": {"h3ds": {"face_mm": face}}}}


def test_all_rows_settings_exist() -> None:
    base = override(PRESETS["fast"], ["prior.epochs=1,2,4"])
    found = {v.name: training_config(v, base) for ablation in ABLATIONS.values() for v in ablation.variants}
    assert found["(B) w/o progressive LODs schedule"].prior.epochs == (0, 0, 7)  # as many epochs, all levels from the first
    assert found["Ours w/o grid (8 layers)"].field.levels == ()
    assert found["Ours"] == base
    for ablation in ABLATIONS.values():
        for variant in ablation.variants:
            fitted = variant.fit_config(base)
            for ours in (fitted.patches.weight, fitted.spots.weight, fitted.mesh.relief, fitted.mesh.outline_margin):
                assert (ours > 0) == variant.beyond  # the paper's rows are the paper's
            assert len(variant.reported) == (0 if variant.beyond else len(ablation.views))
        assert len({variant.place for variant in ablation.variants}) == len(ablation.variants)


def test_mean_and_spread_of_a_row() -> None:
    """Two subjects at 1.0 and 3.0 with one seed, 0.2 more with the other: the mean is 2.1, the seeds' spread 0.2 / sqrt(2)."""
    rows = [result(name, 3, seed, face + 0.2 * seed) for name, face in (("a", 1.0), ("b", 3.0)) for seed in (0, 1)]
    rows += [result(name, 6, 0, 1.0) for name in "ab"]
    text = ablation_table("1", {variant.name: rows for variant in ABLATIONS["1"].variants})
    assert "| Ours | 2.10 ± 0.14 (1.39) | 1.00 (1.22) | 2 | 2 |" in text
    assert "| Ours w/o shape prior | 2.10 ± 0.14 (6.98)" in text
    assert "| ... and ties between photos and relief | 2.10 ± 0.14 | 1.00 | 2 | 2 |" in text


def test_a_subject_that_failed_once_does_not_shift_the_mean() -> None:
    rows = [result("a", 3, 0, 1.0), result("a", 3, 1, 1.0), result("b", 3, 0, 9.0)]
    rows += [{"subject": "b", "views": 3, "seed": 1, "error": "b/mask: missing"}]
    text = ablation_table("1", {variant.name: rows for variant in ABLATIONS["1"].variants})
    assert "| Ours | 1.00 ± 0.00 (1.39) | - (1.22) |" in text
    assert "- Ours, b, 3 views, seed 1: b/mask: missing" in text


def test_a_missing_prior_says_how_to_train_it(tmp_path: Path) -> None:
    variant = next(v for v in ABLATIONS["1"].variants if v.prior == "no_grid_8")
    with pytest.raises(InputError, match=r"no_grid_8.safetensors.*prior train --set field.levels= --set field.layers=8"):
        load_variant_prior(variant, tmp_path, PRESETS["fast"], device="cpu", seed=0)


def test_an_untrained_prior_is_a_sphere() -> None:
    prior = untrained_prior(override(PRESETS["fast"], ["field.levels="]).field, seed=1)
    assert not prior.knows_heads
    axis = np.linspace(-1, 1, prior.mean_sdf.shape[0])
    radius = np.linalg.norm(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1), axis=-1)
    inside, outside = prior.mean_sdf.numpy() < 0, prior.mean_sdf.numpy() > 0
    assert inside[radius < 0.35].all()
    assert outside[radius > 0.95].all()


def test_rows_are_fitted_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row without prior, on the bundled head, with next to no steps: its head is where the shipped prior finds it."""
    row = ABLATIONS["1"].variants[0]
    assert row.prior == "none"
    monkeypatch.setitem(ABLATIONS, "1", Ablation("one row", (1,), (row._replace(normals=False, reported=(0.0,)),)))
    config = override(
        PRESETS["fast"], [*WITHOUT_PRIOR, "fit.steps=2", "mesh.resolution=48", "mesh.refine=false", "texture.size=0", "rays.per_step=256"]
    )
    asked: dict[str, Any] = dict(seeds=[5], device="cpu")
    first = run_ablation("1", [Subject("demo", DEMO)], tmp_path, tmp_path / "out", config, **asked)
    (found,) = first[row.name]
    assert found["seed"] == 5
    assert found["normals"] == "none"
    assert 2.0 < found["scores"]["ours"]["h3ds"]["face_mm"] < 40.0  # a sphere where the head is
    with (tmp_path / "out/none_without_normals/results.jsonl").open("a") as file:
        file.write(json.dumps({**found, "seed": 9}) + "\n")  # of another run: not asked for
    monkeypatch.setattr(ablations.SubjectScorer, "__call__", lambda *_: pytest.fail("was there already"))
    assert run_ablation("1", [Subject("demo", DEMO)], tmp_path, tmp_path / "out", config, **asked) == first

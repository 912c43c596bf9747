"""Held-out heads are none that were trained on, whatever the source."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import trimesh
from avatar_kit_cli.main import main

from avatar_kit.prior.held_out import split_requests
from avatar_kit.prior.samples import HeadRequest, write_samples
from avatar_kit.types import InputError

SMALL = ["field.width=16", "field.layers=1", "field.levels=2", "field.features=4", "field.latent=4", "prior.epochs=2,0,0",
         "prior.heads_per_step=3", "prior.points_per_head=64"]  # fmt: skip


def balls(folder: Path, count: int) -> str:
    folder.mkdir()
    for i in range(count):
        trimesh.creation.icosphere(subdivisions=3, radius=70 + 3 * i).export(folder / f"ball_{i}.ply")
    return f"folder:{folder}"


def train(tmp_path: Path, source: str, *options: str) -> dict:
    settings = [word for setting in SMALL for word in ("--set", setting)]
    out = tmp_path / "prior.safetensors"
    main(["prior", "train", "--heads", source, "--workers", "1", "--device", "cpu", "--work", str(tmp_path / "work"), "--out", str(out),
          *settings, *options])  # fmt: skip
    return json.loads(out.with_suffix(".json").read_text())


def test_models_make_other_heads_and_folders_share_out_theirs(tmp_path: Path) -> None:
    folder = balls(tmp_path / "balls", 8)
    training, held_out = split_requests([HeadRequest("anny", 90, 5), HeadRequest(folder, 300, 6)], 3)
    assert training[0] == HeadRequest("anny", 90, 5)
    assert held_out[0] == HeadRequest("anny", 3, 1005)
    assert (training[1].count, held_out[1].count) == (300, 3)
    assert held_out[1].scans == training[1].without
    assert len(set(held_out[1].scans)) == 3
    assert split_requests([HeadRequest(folder, 20, 9)], 3)[1][0].scans == held_out[1].scans  # whatever else is asked for
    by_default = split_requests([HeadRequest("anny", 90), HeadRequest(folder, 300)])[1]
    assert [request.count for request in by_default] == [3, 1]  # a thirtieth of the scans, not of the draws


def test_no_scan_is_in_both_sets_and_each_is_held_out_once(tmp_path: Path) -> None:
    training, held_out = split_requests([HeadRequest(balls(tmp_path / "balls", 8), 12)], 3)
    files = []
    for name, requests in (("training", training), ("held_out", held_out)):
        index = write_samples(tmp_path / name, requests).index
        files.append([entry["attributes"]["file"] for entry in index["heads"]])
        assert write_samples(tmp_path / name, requests).index == index  # known again
    assert set(files[0]) | set(files[1]) == {f"ball_{i}.ply" for i in range(8)}
    assert set(files[0]).isdisjoint(files[1])
    assert len(files[1]) == len(set(files[1])) == 3
    assert set(files[0][:5]) == set(files[0])
    with pytest.raises(InputError, match="other heads"):
        write_samples(tmp_path / "training", [HeadRequest(training[0].source, 12)])


@pytest.mark.parametrize(("count", "asked", "advice"), [(1, None, r"Give more scans\."), (5, 3, "Give --held-out 2 or less")])
def test_too_few_scans_are_all_trained_on_and_that_is_said(tmp_path: Path, count: int, asked: int | None, advice: str) -> None:
    source = balls(tmp_path / "balls", count)
    with pytest.warns(UserWarning, match=rf"{count} scans cannot be held out.*no held-out score\. {advice}"):
        training, held_out = split_requests([HeadRequest(source, 4)], asked)
    assert training == [HeadRequest(source, 4)]
    assert held_out == []


def test_the_card_says_what_was_held_out(tmp_path: Path) -> None:
    card = train(tmp_path, balls(tmp_path / "balls", 4) + "*4", "--held-out", "1")
    assert card["held_out"] == [{"source": "folder", "count": 1}]
    assert card["scores"]["held_out_heads"] == 1
    assert card["scores"]["held_out_latent_mm"] > 0
    main(["prior", "page", str(tmp_path / "prior.safetensors"), "--resolution", "32", "--count", "2", "--out", str(tmp_path / "page.html")])
    assert "1 held-out heads (1 folder)" in (tmp_path / "page.html").read_text()


def test_without_held_out_heads_there_is_no_score_on_them(tmp_path: Path) -> None:
    source = balls(tmp_path / "balls", 1) + "*4"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        card = train(tmp_path, source)
    assert card["held_out"] == []
    assert list(card["scores"]) == ["training_heads_mm"]
    main(["prior", "page", str(tmp_path / "prior.safetensors"), "--resolution", "32", "--count", "2", "--out", str(tmp_path / "page.html")])
    text = (tmp_path / "page.html").read_text()
    assert "no heads were held out" in text
    assert "heads it never saw" not in text

"""Datasets and tables: layouts in miniature, resuming, statistics with known answers."""

from __future__ import annotations

import json
import shutil
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from avatar_kit_cli.main import main
from PIL import Image

from avatar_kit.config import PLAIN_PRESETS, PRESETS, Config, override
from avatar_kit.prior.storage import HeadPrior, load_prior
from avatar_kit.score import datasets
from avatar_kit.score.datasets import Subject, subjects
from avatar_kit.score.evaluate import SubjectScorer
from avatar_kit.score.montage import PhotoShower, montage
from avatar_kit.score.rivals import Rival
from avatar_kit.score.scans import ScanScorer
from avatar_kit.score.tables import bootstrap, read, run, summaries, write_tables
from avatar_kit.types import InputError

DEMO = Path(str(resources.files("avatar_kit") / "weights" / "demo"))


def scored(face: float) -> dict[str, Any]:
    row = {"h3ds": {"face_mm": face, "head_mm": 5.0}, "metric": {"face_mm": face, "head_visible_mm": 2.0}}
    worse = {"h3ds": {"face_mm": face + 1, "head_mm": 9.0}, "metric": {"face_mm": face + 1, "head_visible_mm": 4.0}}
    return {"scores": {"ours": row, "mean head": worse}, "seconds": {"total": 10.0}}


@pytest.fixture
def three(tmp_path: Path) -> list[Subject]:
    return [Subject(name, tmp_path / name, {"3": [0, 1, 2], "1": [0]}) for name in "abc"]


def test_a_stopped_run_goes_on_and_gives_the_same(three: list[Subject], tmp_path: Path) -> None:
    calls: list[str] = []

    def reconstruct(subject: Subject, ids: list[int]) -> dict[str, Any]:
        calls.append(f"{subject.name}{len(ids)}")
        if len(calls) == 4:
            raise KeyboardInterrupt
        return scored(len(ids) + ord(subject.name) / 100)

    with pytest.raises(KeyboardInterrupt):
        run(three, [1, 3], tmp_path / "out", reconstruct)
    with (tmp_path / "out/results.jsonl").open("a") as file:
        file.write('{"subject": "b", "vie')  # killed while writing
    results = run(three, [1, 3], tmp_path / "out", reconstruct)
    assert calls == ["a1", "a3", "b1", "b3", "b3", "c1", "c3"]
    assert read(tmp_path / "out/results.jsonl") == results
    calls.clear()
    assert summaries(run(three, [1, 3], tmp_path / "fresh", lambda s, ids: scored(len(ids) + ord(s.name) / 100))) == summaries(results)


def test_a_dataset_that_moved_is_the_same_and_another_is_refused(tmp_path: Path) -> None:
    first, moved, out = tmp_path / "first/a", tmp_path / "moved/a", tmp_path / "out"
    first.mkdir(parents=True)
    made = run([Subject("a", first, {"1": [0]})], [1], out, lambda subject, ids: scored(1.0))
    shutil.move(tmp_path / "first", tmp_path / "moved")
    assert run([Subject("a", moved, {"1": [0]})], [1], out, lambda subject, ids: scored(2.0)) == made
    first.mkdir(parents=True)
    with pytest.raises(InputError, match=r"results.jsonl: its a is that of .*Give --out another folder"):
        run([Subject("a", moved, {"1": [0]})], [1], out, lambda subject, ids: scored(2.0))


def test_what_cannot_be_read_is_named_and_the_rest_scored(three: list[Subject], tmp_path: Path) -> None:
    def reconstruct(subject: Subject, ids: list[int]) -> dict[str, Any]:
        if subject.name == "b":
            raise InputError("b/cameras.npz: missing")
        return scored(1.0)

    results = run(three, [3], tmp_path, reconstruct)
    text = write_tables(results, tmp_path, dataset="scenes").read_text()
    assert "Not reconstructed: 1 of 3" in text
    assert "b/cameras.npz: missing" in text
    assert "other data than above" in text
    assert "| ours | 3 | 1.00 (1.00, 0.00) | 5.00" in text
    assert "ours less mean head, 3 views: -1.00 mm, 95 % of resampled subjects -1.00 to -1.00" in text
    assert (tmp_path / "table.csv").read_text().startswith("method,views,subjects,h3ds_face_mm")


def test_what_failed_is_tried_again(three: list[Subject], tmp_path: Path) -> None:
    def fails(subject: Subject, ids: list[int]) -> dict[str, Any]:
        if subject.name == "b":
            raise InputError("b/cameras.npz: missing")
        return scored(1.0)

    run(three, [3], tmp_path, fails)
    assert [result["error"] for result in run(three, [3], tmp_path, fails) if "error" in result] == ["b/cameras.npz: missing"]  # once
    calls: list[str] = []

    def works(subject: Subject, ids: list[int]) -> dict[str, Any]:
        calls.append(subject.name)
        return scored(2.0)

    results = run(three, [3], tmp_path, works)
    assert calls == ["b"]
    assert sorted(result["subject"] for result in results) == ["a", "b", "c"]
    assert not any("error" in result for result in results)


def test_lines_of_other_settings_are_kept_aside(three: list[Subject], tmp_path: Path) -> None:
    """Also those of another seed, and those that state none."""
    (tmp_path / "results.jsonl").write_text(json.dumps({"subject": "a", "views": 1, "seed": 0, **scored(9.0)}) + "\n")
    said: list[str] = []

    def faces(settings: str, face: float, seed: int = 0) -> list[float]:
        results = run(three, [1], tmp_path, lambda subject, ids: scored(face), settings=settings, seed=seed, log=said.append)
        assert {(result["settings"], result["seed"]) for result in results} == {(settings, seed)}
        return [result["scores"]["ours"]["h3ds"]["face_mm"] for result in results]

    assert faces("fast", 1.0) == [1.0] * 3
    assert "1 lines of other settings are kept aside" in said[0]
    said.clear()
    assert faces("paper", 2.0) == [2.0] * 3
    assert "4 lines of other settings" in said[0]
    assert faces("fast", 3.0) == [1.0] * 3  # there already
    assert faces("fast", 4.0, seed=1) == [4.0] * 3
    assert len(read(tmp_path / "results.jsonl")) == 10


def test_a_fingerprint_names_all_that_scores_depend_on(ball_prior: Path, tmp_path: Path) -> None:
    prior, fast = load_prior(ball_prior), PRESETS["fast"]
    network = tmp_path / "net.safetensors"
    network.write_bytes(b"one")
    softer = {name: value + 1e-3 for name, value in prior.field.state_dict().items()}
    retrained = load_prior(ball_prior)
    retrained.field.load_state_dict(softer)

    def of(prior: HeadPrior = prior, config: Config = fast, **more: Any) -> str:
        return SubjectScorer(prior, config=config, **more).fingerprint

    rival = [Rival("theirs", "make {scene} {out}")]
    others = [
        of(retrained), of(config=override(fast, ["fit.steps=81"])), of(config=PRESETS["paper"]), of(normal_net=None), of(drop_normals=True),
        of(normal_net=str(network)), of(rivals=rival), of(device="cuda"),
    ]  # fmt: skip
    network.write_bytes(b"two")
    others.append(of(normal_net=str(network)))
    assert len({of(), *others}) == 10
    assert of(load_prior(ball_prior), override(fast, [f"fit.steps={fast.fit.steps}"])) == of()
    plain = [override(PLAIN_PRESETS["fast"], [f"cameras.rotation_std_deg={std}"]) for std in (6, 7)]
    assert len({ScanScorer(prior, plain_config=config).fingerprint for config in plain}) == 2
    assert len({PhotoShower(prior, tmp_path, config=config, device="cpu").fingerprint for config in plain}) == 2
    with pytest.raises(InputError, match=r"none\.safetensors: no such file"):
        of(normal_net=str(tmp_path / "none.safetensors"))


def test_scores_that_no_subject_has_are_gaps(three: list[Subject], tmp_path: Path) -> None:
    """Without cameras nothing is known to be seen; where some have a score, it is theirs."""

    def reconstruct(subject: Subject, ids: list[int]) -> dict[str, Any]:
        found = scored(1.0)
        found["scores"]["ours"]["metric"]["head_visible_mm"] = None
        if subject.name != "b":
            found["scores"]["mean head"]["metric"]["head_visible_mm"] = None
        return found

    results = run(three, [1], tmp_path, reconstruct)
    text = write_tables(results, tmp_path, dataset="3dfaw").read_text()
    assert "| ours | 1 | 1.00 (1.00, 0.00) | 5.00 (5.00, 0.00) | 1.00 (1.00, 0.00) | - | 10.0 | 3 |" in text
    assert "| 4.00 (4.00, 0.00) | - | 3 |" in text  # the mean head; its seconds are not known
    assert "nan" not in (text + (tmp_path / "table.csv").read_text()).lower()


def test_summaries_are_means_medians_and_spreads(three: list[Subject], tmp_path: Path) -> None:
    faces = {"a": 1.0, "b": 2.0, "c": 6.0}
    ours, _ = summaries(run(three, [1], tmp_path, lambda subject, ids: scored(faces[subject.name])))
    assert ours["h3ds_face_mm"] == 3.0
    assert ours["h3ds_face_mm_median"] == 2.0
    assert ours["h3ds_face_mm_std"] == pytest.approx(np.std([1, 2, 6], ddof=1), abs=1e-4)


def test_the_bootstrap_has_the_width_of_a_normal_mean(rng: np.random.Generator) -> None:
    low, high = bootstrap(rng.normal(0.3, 1.0, 400))
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    assert low < 0.3 < high


def test_folders_of_scenes_and_a_miniature_of_h3ds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("1b2a", "5ae0"):
        shutil.copytree(DEMO, tmp_path / "h3ds" / name)
    assert [subject.name for subject in subjects("scenes", tmp_path / "h3ds")] == ["1b2a", "5ae0"]
    with pytest.raises(InputError, match=r"version.txt: missing.*ask for access"):
        subjects("h3ds", tmp_path / "h3ds")
    (tmp_path / "h3ds/version.txt").write_text("0.2\n")
    monkeypatch.setattr(datasets, "h3ds_configuration", lambda version: None)
    found = subjects("h3ds", tmp_path / "h3ds")
    assert [subject.name for subject in found] == ["1b2a", "5ae0"]
    assert len(found[0].view_ids(3)) == 3


def test_the_packages_configuration_is_read_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "lib/h3ds"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "config_v2.toml").write_text(
        'version = "0.2"\n[scenes.5ae0]\nviews = 6\n[scenes.5ae0.default_views_configs]\n1 = [0]\n3 = [0, 2, 4]\n'
    )
    monkeypatch.syspath_prepend(tmp_path / "lib")
    monkeypatch.delitem(sys.modules, "h3ds", raising=False)
    root = tmp_path / "data"
    shutil.copytree(DEMO, root / "5ae0")
    shutil.copytree(DEMO, root / "not_of_this_version")
    (root / "version.txt").write_text("0.2\n")
    (subject,) = subjects("h3ds", root)
    assert subject.view_ids(3) == [0, 2, 4]
    assert subject.view_ids(2) != []


def test_wrong_roots_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        subjects("scenes", tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no scene folders"):
        subjects("scenes", tmp_path)
    assert json.dumps(read(tmp_path / "none.jsonl")) == "[]"


def test_photos_without_a_truth_become_a_montage(tmp_path: Path) -> None:
    """A miniature of CelebAMask-HQ: one portrait, one picture without a head."""
    images = tmp_path / "data" / "CelebA-HQ-img"
    images.mkdir(parents=True)
    shutil.copy(DEMO / "image" / "img_0000.jpg", images / "0.jpg")
    Image.new("RGB", (64, 64), "grey").save(images / "1.jpg")
    out = tmp_path / "out"
    quick = ["fit.steps=2", "start.steps=1", "mesh.resolution=64", "mesh.refine=false", "texture.size=64"]
    options = [word for setting in quick for word in ("--set", setting)]
    main(["eval", "--dataset", "celeba-hq", "--root", str(tmp_path / "data"), "--out", str(out), *options])
    assert "1 of 2 reconstructed" in (out / "table.md").read_text()
    assert "- 1: " in (out / "table.md").read_text()
    with Image.open(out / "montage.png") as picture:
        assert picture.size == (7 * 192, 192)
    assert "no head" in (out / "report.html").read_text()
    shutil.copy(out / "heads/0.png", out / "heads/old.png")  # of other settings
    shown = montage(out / "heads", ["0", "1"])
    assert shown is not None
    assert shown.size == (7 * 192, 192)
    assert montage(out / "heads", ["1"]) is None
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no photos"):
        subjects("celeba-hq", tmp_path / "empty")

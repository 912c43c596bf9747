"""Options of `eval` that would do nothing are refused, and say what to do."""

from __future__ import annotations

import json
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import trimesh
from avatar_kit_cli.main import main

from avatar_kit.config import PLAIN_CAMERAS
from avatar_kit.mesh.files import write_mesh
from avatar_kit.score import evaluate, montage, scans
from avatar_kit.score.datasets import Subject
from avatar_kit.score.scans import ScanScorer
from avatar_kit.types import InputError, Mesh

DEMO = Path(str(resources.files("avatar_kit") / "weights" / "demo"))
RIVAL = "theirs=make {scene} {out}"


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        main(["eval", *arguments])
    assert left.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("dataset", "options", "words"),
    [
        ("scenes", "--json", "--json is for MESH_OR_RUN; of a --dataset, results.jsonl"),
        ("scenes", "--backend scipy", "--backend is for MESH_OR_RUN"),
        ("scenes", "--protocol metric", "--protocol is for MESH_OR_RUN"),
        ("scenes", "--table 1 --priors p --views 3", "--views cannot be chosen with --table 1"),
        ("scenes", "--table 2 --priors p --jobs 2", "--jobs does nothing with --table 2"),
        ("scenes", ["--table", "1", "--priors", "p", "--rival", RIVAL], "--rival does nothing with --table 1"),
        ("scenes", "--table 4 --views 1", "--views cannot be chosen with --table 4"),
        ("scenes", "--priors p", "--priors is for --table 1 and --table 2"),
        ("scenes", "--table 3 --seeds 2", "--seeds is for --table 1 and --table 2"),
        ("scenes", "--set field.width=512", "the field is the prior's"),
        ("celeba-hq", ["--rival", RIVAL], "--rival has nothing to score in celeba-hq"),
        ("celeba-hq", "--views 3", "one photo of each person"),
        ("celeba-hq", "--table 1 --priors p", "--dataset scenes or h3ds"),
        ("3dfaw", ["--rival", RIVAL], "--rival does not work with 3dfaw"),
    ],
)
def test_idle_options_of_a_dataset(
    dataset: str, options: str | list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = options.split() if isinstance(options, str) else options
    where = ["--dataset", dataset, "--root", str(tmp_path), "--out", str(tmp_path / "out")]
    assert words in refused([*where, *given], capsys).replace("\n", " ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--table 3", "--table is for a --dataset"),
        ("--set fit.steps=3", "--set is for a --dataset"),
        ("--normals none", "--normals is for a --dataset"),
        ("--views 0,2", "--views is for a scene"),
        ("--protocol metric --backend scipy", "--backend is for h3ds and paper"),
    ],
)
def test_idle_options_of_one_mesh(options: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "truth.ply").write_text("")
    assert words in refused([str(tmp_path / "mesh.ply"), "--reference", str(tmp_path / "truth.ply"), *options.split()], capsys)


def three_dfaw(root: Path) -> Path:
    (root / "001").mkdir(parents=True)
    (root / "mesh001.obj").write_text("")
    return Path(shutil.copy(DEMO / "image/img_0000.jpg", root / "001"))


@pytest.mark.parametrize("dataset", ["celeba-hq", "3dfaw"])
def test_plain_photos_need_the_network(dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = three_dfaw(tmp_path / "data")
    root = photo.parent if dataset == "celeba-hq" else tmp_path / "data"
    where = ["--dataset", dataset, "--root", str(root), "--out", str(tmp_path / "out")]
    assert "plain photos need the network" in refused([*where, "--normals", "none"], capsys)


def test_a_scan_with_plain_photos_needs_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ball_prior: Path) -> None:
    from avatar_kit.prior.storage import load_prior

    photo = three_dfaw(tmp_path / "data")
    monkeypatch.setattr(scans, "read_scan", lambda file: None)
    monkeypatch.setattr(scans, "check_truth", lambda *_: None)
    scorer = ScanScorer(load_prior(ball_prior), normal_net=None)
    with pytest.raises(InputError, match="plain photos need the network"):
        scorer(Subject("001", photo.parent, scan=tmp_path / "data/mesh001.obj"), [0])


@pytest.mark.parametrize("dataset", ["celeba-hq", "3dfaw", "scenes"])
def test_what_is_set_of_cameras_is_set_on_top_of_those_of_plain_photos(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scorers keep what they are given."""
    three_dfaw(tmp_path / "data")
    made: list[Any] = []

    class Stop(Exception):
        pass

    def keep(*_: Any, **settings: Any) -> None:
        made.append(settings)
        raise Stop

    for place, name in ((montage, "PhotoShower"), (scans, "ScanScorer"), (evaluate, "SubjectScorer")):
        monkeypatch.setattr(place, name, keep)
    root = {"celeba-hq": tmp_path / "data/001", "3dfaw": tmp_path / "data", "scenes": DEMO.parent}[dataset]
    with pytest.raises(Stop):
        main(["eval", "--dataset", dataset, "--root", str(root), "--out", str(tmp_path / "out"), "--set", "cameras.rotation_std_deg=3"])
    plain = made[0]["config" if dataset == "celeba-hq" else "plain_config"].cameras if dataset != "scenes" else None
    if plain:
        assert plain.rotation_std_deg == 3.0  # which is what other cameras have by default
        assert plain.translation_std == PLAIN_CAMERAS.translation_std
        assert plain.refine
    if dataset != "celeba-hq":
        assert not made[0]["config"].cameras.refine


def test_scores_without_cameras_are_json_and_have_gaps_in_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape = trimesh.creation.icosphere(subdivisions=3, radius=100.0)
    write_mesh(tmp_path / "truth.ply", Mesh(shape.vertices, shape.faces))
    command = ["eval", str(tmp_path / "truth.ply"), "--reference", str(tmp_path / "truth.ply"), "--protocol", "metric"]
    main([*command, "--json"])

    def refuse(text: str) -> None:
        raise ValueError(text)

    (scores,) = json.loads(capsys.readouterr().out, parse_constant=refuse).values()  # NaN is not JSON
    assert scores["head_visible_mm"] is None
    assert scores["head_mm"] < 1e-3
    main(command)
    table = capsys.readouterr().out.splitlines()
    column = table[1].index("head seen") + len("head seen")
    assert table[2][:column].endswith(" -")

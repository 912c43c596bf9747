"""Options of `recon`, `demo` and `prior` that would do nothing or fail late are refused, and say what to do."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from avatar_kit_cli.main import main
from avatar_kit_cli.maker import Maker
from avatar_kit_cli.options import resolve_config

from avatar_kit.mesh.files import read_mesh
from avatar_kit.prior.storage import load_prior

DEMO = Path(str(resources.files("avatar_kit") / "weights" / "demo"))


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("hint", ["--masks .", "--focal-mm 50", "--person 1", "--yaw 0,0,0", "--check"])
def test_what_is_said_about_plain_photos_is_refused_for_a_scene(hint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(["recon", str(DEMO), "--out", str(tmp_path / "out"), *hint.split()], capsys)
    assert f"{hint.split()[0]} is for plain photos" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [["recon", str(DEMO)], ["demo"]])
def test_the_field_is_the_priors(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused([*command, "--out", str(tmp_path / "out"), "--set", "field.width=512"], capsys)
    assert "the field is the prior's" in said
    assert "prior train --set field.width=512" in said


def test_without_a_prior_the_field_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr("avatar_kit_cli.recon.Maker.make", lambda self, *_: made.append(self) or [])
    main(["recon", str(DEMO), "--prior", "none", "--out", str(tmp_path / "out"), "--set", "field.width=32"])
    assert made[0]._prior.field.config.width == 32


@pytest.mark.parametrize(("refine", "expected"), [(None, True), (True, True), (False, False)])
def test_cameras_of_plain_photos_are_kept_when_asked(refine: bool | None, expected: bool) -> None:
    maker = Maker.__new__(Maker)
    maker._refine_cameras = refine
    cameras = maker._refined(resolve_config("fast", ("cameras.translation_std=0.3",), plain=True)).cameras
    assert (cameras.refine, cameras.translation_std, cameras.rotation_std_deg) == (expected, 0.3, 6.0)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("landmarks.txt", "no landmark nose_tip"),
        ("full_head.obj", "full_head.obj: "),
        ("views.json", "Is it in metres"),
    ],
)
def test_a_truth_that_cannot_be_used_does_not_lose_the_head(
    broken: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], ball_prior: Path
) -> None:
    scene = Path(shutil.copytree(DEMO, tmp_path / "scene"))
    if broken == "landmarks.txt":
        (scene / broken).unlink()
        shutil.rmtree(scene / "regions", ignore_errors=True)
    elif broken == "full_head.obj":
        (scene / broken).write_text("v 0 0 0\n")
    maker = Maker.__new__(Maker)
    maker._prior = load_prior(ball_prior)
    unit = 0.001 if broken == "views.json" else 1.0
    mesh, start = read_mesh(DEMO / "full_head.obj"), np.diag([0.005, 0.005, 0.005, 1.0])
    result: Any = SimpleNamespace(scene=SimpleNamespace(mm_per_world_unit=unit, photos=()), mesh=mesh, start=start, device="cpu")
    pictures: dict[str, Any] = {}
    assert maker._score(result, scene, pictures) == {}
    assert pictures == {}
    said = capsys.readouterr().err
    assert "not scored: " in said
    assert words in said


@pytest.mark.parametrize("command", ["sample", "interpolate mean random:1"])
def test_grids_that_are_too_coarse_are_refused(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(["prior", *command.split(), "--resolution", "16", "--out", str(tmp_path / "sheet.png")], capsys)
    assert "16 is not in the range x>=32" in said


def test_options_are_refused_before_any_scene_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo = str(DEMO / "image/img_0000.jpg")
    said = refused(["recon", photo, str(DEMO), "--focal-mm", "40", "--out", str(tmp_path / "out")], capsys)
    assert "--focal-mm is for plain photos" in said
    assert not (tmp_path / "out").exists()
    assert "one of them" in refused(["recon", photo, "--resume", "--overwrite", "--out", str(tmp_path / "out")], capsys)


def test_a_result_keeps_its_own_pictures_of_the_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.json").write_text("{}")
    (tmp_path / "photos.png").write_bytes(b"of before")
    photo = str(DEMO / "image/img_0000.jpg")
    said = refused(["recon", photo, "--check", "--overwrite", "--out", str(tmp_path)], capsys)
    assert "Give another --out to --check" in said

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Maker, "_finish", interrupted)
    with pytest.raises(SystemExit) as left:
        main(["recon", photo, "--overwrite", "--out", str(tmp_path)])
    assert left.value.code == 130
    assert (tmp_path / "photos.png").read_bytes() == b"of before"

"""What commands may replace: their own results when asked to, and nothing else ever."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from avatar_kit_cli.main import main
from avatar_kit_cli.options import check_additions, check_file, check_folder

PARTS = ("mesh.ply", "report.*", "photos.png")


def _folder(path: Path, *names: str) -> Path:
    path.mkdir(parents=True)
    for name in names:
        (path / name).write_text(name)
    return path


def test_a_result_is_replaced_when_asked_to(tmp_path: Path) -> None:
    check_folder(tmp_path / "new", False, PARTS)
    check_folder(_folder(tmp_path / "empty"), False, PARTS)
    done = _folder(tmp_path / "done", "mesh.ply", "report.json")
    check_folder(done, True, PARTS)
    with pytest.raises(click.UsageError, match="--overwrite"):
        check_folder(done, False, PARTS)


def test_a_result_joins_what_was_written_before_it(tmp_path: Path) -> None:
    understood = _folder(tmp_path / "out", "photos.png")
    check_folder(understood, False, PARTS, joins=["photos.png"])
    with pytest.raises(click.UsageError, match="--overwrite"):
        check_folder(understood, False, PARTS)


def test_nothing_else_is_replaced_even_when_asked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(click.UsageError, match=r"holds me\.jpg"):
        check_folder(_folder(tmp_path / "photos", "me.jpg", "report.json"), True, PARTS)
    with pytest.raises(click.UsageError, match="holds first"):  # results of several scenes, then of one
        check_folder(_folder(tmp_path / "out/first", "report.json").parent, True, PARTS)
    (tmp_path / "file").write_text("mine")
    for check in (check_additions, lambda out, overwrite: check_folder(out, overwrite, PARTS)):
        with pytest.raises(click.UsageError, match="is a file"):
            check(tmp_path / "file", True)
    with pytest.raises(click.UsageError, match="is a folder"):
        check_file(tmp_path / "photos", True)
    here = _folder(tmp_path / "here")
    monkeypatch.chdir(here)
    with pytest.raises(click.UsageError, match="replaced whole"):
        check_folder(Path("."), True, PARTS)


def test_a_mounted_volume_is_written_into_and_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = _folder(tmp_path / "volume")
    monkeypatch.setattr("os.path.ismount", lambda path: Path(path) == volume)
    with pytest.raises(click.UsageError, match="Give a folder inside it"):
        check_folder(volume, True, PARTS)
    check_folder(volume / "me", False, PARTS)
    check_additions(volume, False)


def test_what_a_command_reads_is_not_replaced(tmp_path: Path) -> None:
    inputs = _folder(tmp_path / "all" / "scene")
    for out in (inputs, inputs.parent):
        with pytest.raises(click.UsageError, match="scene is in it"):
            check_folder(out, True, PARTS, inputs=[inputs])
    check_folder(inputs / "result", True, PARTS, inputs=[inputs])


@pytest.mark.parametrize("command", [["--overwrite"], ["--resume"], ["--overwrite", "--resume"]])
def test_recon_keeps_a_folder_of_photos(tmp_path: Path, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    photos = _folder(tmp_path / "photos", "me.jpg")
    with pytest.raises(SystemExit) as stopped:
        main(["recon", str(photos), "--out", str(photos), *command])
    assert stopped.value.code == 2
    assert "Give another --out" in capsys.readouterr().err
    assert (photos / "me.jpg").read_text() == "me.jpg"


def test_heads_written_again_are_those_asked_for(tmp_path: Path) -> None:
    """Fewer heads than before: the others would be taken for heads of this call."""
    source = _folder(tmp_path / "source")
    import trimesh

    for number in range(2):
        trimesh.creation.icosphere(subdivisions=3, radius=90.0 + number).export(source / f"ball_{number}.ply")
    out = tmp_path / "heads"
    for count in (2, 1):
        main(["data", "heads", "--source", f"folder:{source}", "--count", str(count), "--out", str(out), *["--overwrite"] * (count == 1)])
    assert len(list(out.glob("*.ply"))) == 1


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["recon", "scene", "--out", "file/out"], "file is a file"),
        (["recon", "scene", "--out", "out", "--seconds", "nan"], "not above 0"),
        (["recon", "scene", "--out", "out", "--focal-mm", "-3"], "not above 0"),
        (["recon", "scene", "--out", "out", "--masks", "nowhere"], "nowhere"),
        (["recon", "scene", "--out", "out", "--view-ids", "0,0,1"], "every photo once"),
        (["recon", "scene", "--out", "out", "--view-ids", "0,1", "--views", "2"], "one of them"),
        (["render", "file", "--out", "turn.txt"], ".gif or .webp or .png"),
        (["render", "file", "--out", "turn.gif", "--seconds", "0"], "not above 0"),
        (["data", "heads", "--out", "out", "--count", "0"], "--count"),
        (["prior", "sample", "--out", "sheet.txt"], ".png"),
        (["prior", "sample", "--out", "sheet.png", "--resolution", "0"], "--resolution"),
    ],
)
def test_what_cannot_be_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str], says: str
) -> None:
    monkeypatch.chdir(_folder(tmp_path / "here"))
    Path("file").write_text("text")
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err
    assert {file.name for file in Path().iterdir()} == {"file"}


def test_no_room_is_no_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import errno

    from avatar_kit_cli import prior

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    monkeypatch.setattr(prior, "_show", full)
    with pytest.raises(SystemExit) as stopped:
        main(["prior", "sample", "--out", str(tmp_path / "sheet.png")])
    assert stopped.value.code == 3
    assert "No space left" in capsys.readouterr().err


def test_a_mistyped_source_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = tmp_path / "work"
    with pytest.raises(SystemExit) as stopped:
        main(["prior", "train", "--heads", "banana*3", "--out", str(tmp_path / "prior.safetensors"), "--work", str(work)])
    assert stopped.value.code == 3
    assert "banana: unknown source of heads" in capsys.readouterr().err
    assert not list(work.rglob("*.npy"))

"""Folders that are replaced whole: errors, interrupts at each step, links, and what earlier interrupts left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from avatar_kit.whole_folder import whole_folder


def _fill(folder: Path, text: str) -> None:
    (folder / "file.txt").write_text(text)


def _interrupted(folder: Path) -> None:
    _fill(folder, "half")
    raise KeyboardInterrupt


def _state(folder: Path) -> dict[str, str]:
    return {file.name: (file / "file.txt").read_text() for file in sorted(folder.iterdir())}


def test_result_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with whole_folder(tmp_path / "deep" / "out") as part:
            assert not list(part.iterdir())
            _fill(part, text)
        assert _state(tmp_path / "deep") == {"out": text}


def test_error_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for expected in ({}, {"out": "old"}):
        if expected:
            out.mkdir()
            _fill(out, "old")
        with pytest.raises(KeyboardInterrupt), whole_folder(out) as part:
            _interrupted(part)
        assert _state(tmp_path) == expected


@pytest.mark.parametrize("stopped_at", [1, 2])
def test_interrupt_between_the_two_moves_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_at: int) -> None:
    out, moves, move = tmp_path / "out", [0], os.replace
    out.mkdir()
    _fill(out, "old")

    def replace(source: Path, target: Path) -> None:
        moves[0] += 1
        if moves[0] == stopped_at:
            raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt), whole_folder(out) as part:
        _fill(part, "new")
    assert _state(tmp_path) == {"out": "old"}


def test_what_a_kill_left_is_settled_first(tmp_path: Path) -> None:
    out, before, part = (tmp_path / name for name in ("out", ".out.avatar-kit-before", ".out.avatar-kit-part"))
    for folder in (before, part):
        folder.mkdir()
        _fill(folder, folder.name)
    with pytest.raises(ValueError, match="fails"), whole_folder(out):  # killed between the moves: the old result comes back
        raise ValueError("fails")
    assert _state(tmp_path) == {"out": ".out.avatar-kit-before"}
    before.mkdir()
    with whole_folder(out) as new:  # killed after them: what was put aside goes
        _fill(new, "new")
    assert _state(tmp_path) == {"out": "new"}


def test_links_are_followed(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    link.symlink_to(real)
    for text in ("first", "second"):
        with whole_folder(link) as part:
            _fill(part, text)
        assert link.is_symlink()
        assert _state(tmp_path) == {"real": text, "link": text}

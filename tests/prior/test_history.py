"""The history of a training: whole lines, a resumed run that overwrites what it repeats, and curves."""

from __future__ import annotations

from pathlib import Path

import pytest

from avatar_kit.prior.history import History, history_figure, read_history
from avatar_kit.types import InputError


def write(file: Path, epochs: range, *, epoch: int = 0) -> None:
    history = History(file, epoch=epoch)
    for number in epochs:
        history.add(number, 2.0 * number, {"surface": 1.0 / number, "surface_mm": 200.0 / number, "latent": 0.1 * number})


def test_a_resumed_training_replaces_what_it_repeats(tmp_path: Path) -> None:
    file = tmp_path / "work" / "history.jsonl"
    write(file, range(1, 8))
    write(file, range(5, 10), epoch=4)  # the checkpoint was of epoch 4: 5 to 7 are trained again
    entries = read_history(file)
    assert [entry["epoch"] for entry in entries] == list(range(1, 10))
    assert entries[4] == {"epoch": 5, "seconds": 10.0, "terms": {"surface": 0.2, "surface_mm": 40.0, "latent": 0.5}}
    write(file, range(1, 3))  # from the beginning
    assert [entry["epoch"] for entry in read_history(file)] == [1, 2]
    assert not list(file.parent.glob("*.part"))


def test_a_line_that_was_cut_off_is_dropped_and_nonsense_is_named(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    write(file, range(1, 4))
    whole = file.read_text()
    file.write_text(whole + '{"epoch": 4, "sec')
    assert [entry["epoch"] for entry in read_history(file)] == [1, 2, 3]
    write(file, range(4, 5), epoch=3)
    assert [entry["epoch"] for entry in read_history(file)] == [1, 2, 3, 4]
    file.write_text("nonsense\n" + whole)
    with pytest.raises(InputError, match=r"history\.jsonl, line 1"):
        read_history(file)
    with pytest.raises(InputError, match="--work"):
        read_history(tmp_path / "none.jsonl")


def test_the_curves_show_every_epoch(tmp_path: Path) -> None:
    write(tmp_path / "history.jsonl", range(1, 6))
    by_epoch, by_time, terms = history_figure(read_history(tmp_path / "history.jsonl")).axes
    (line,) = by_epoch.lines
    assert line.get_xdata().tolist() == [1, 2, 3, 4, 5]
    assert line.get_ydata().tolist() == pytest.approx([200, 100, 200 / 3, 50, 40], rel=1e-4)
    assert by_time.lines[0].get_xdata()[-1] == pytest.approx(10 / 60)  # minutes
    assert [line.get_label() for line in terms.lines] == ["surface"]

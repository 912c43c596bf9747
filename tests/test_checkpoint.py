"""Weights in files: what is written comes back, and what is wrong is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from avatar_kit.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from avatar_kit.types import InputError

SMALL = Checkpoint({"a": torch.tensor([1.0, 2.0**-14]), "b": torch.arange(6.0).reshape(2, 3)}, {"field": {"width": 3}}, {"seed": 1})


def test_tensors_settings_and_card_come_back_and_others_may_read_them(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "new/a.safetensors", SMALL, kind="prior")
    again = load_checkpoint(tmp_path / "new/a.safetensors", kind="prior")
    assert again.settings == SMALL.settings
    assert again.card == SMALL.card
    assert all(torch.equal(again.tensors[name], value) for name, value in SMALL.tensors.items())  # halves hold these exactly
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.safetensors"]
    (tmp_path / "plain").touch()
    assert (tmp_path / "new/a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("value", [7e4, float("nan")])
def test_values_that_halves_cannot_hold_are_refused_and_nothing_is_written(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="a: not finite"):
        save_checkpoint(tmp_path / "a.safetensors", SMALL._replace(tensors={"a": torch.tensor([value])}), kind="prior")
    assert not list(tmp_path.iterdir())


def test_missing_damaged_and_other_files_are_named(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    with pytest.raises(InputError, match="no such file"):
        load_checkpoint(file, kind="prior")
    save_checkpoint(file, SMALL, kind="prior")
    with pytest.raises(InputError, match="holds no normals weights"):
        load_checkpoint(file, kind="normals")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match="is damaged"):
        load_checkpoint(file, kind="prior")

"""Work in another process: done there where it can be, else here, and what goes wrong in it reaches who asks."""

from __future__ import annotations

import math
import os
import sys

import numpy as np
import pytest

from avatar_kit.elsewhere import elsewhere


def test_work_is_done_in_another_process_and_comes_back() -> None:
    assert elsewhere(os.getpid).result() != os.getpid()
    values = np.arange(1 << 18, dtype=np.float32)  # more than a pipe holds
    assert (elsewhere(np.negative, values).result() == -values).all()


def test_what_work_prints_is_no_part_of_its_result() -> None:
    assert elsewhere(print, "words").result() is None


@pytest.mark.parametrize("python", ["/nowhere/python", "false"])
def test_without_another_process_work_is_done_here(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", python)
    assert elsewhere(os.getpid).result() == os.getpid()


def test_errors_of_the_work_are_those_of_its_result() -> None:
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        elsewhere(math.sqrt, -1.0).result()

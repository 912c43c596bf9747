"""Work beside other work."""

from __future__ import annotations

import threading

import pytest

from avatar_kit.kernels.runtime import beside


@pytest.mark.parametrize(("device", "own"), [("cpu", False), ("cuda", True)])
def test_work_is_done_beside_on_a_cpu_and_at_once_on_a_gpu(device: str, own: bool) -> None:
    thread = beside(threading.get_ident, device).result()
    assert (thread == threading.get_ident()) == own


def test_work_that_fails_says_so_where_its_result_is_wanted() -> None:
    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        beside(fail, "cpu").result()

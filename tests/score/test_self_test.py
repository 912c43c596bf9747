"""The doctor's self-test on a GPU; on a CPU the command's own test runs it (tests/test_cli.py)."""

from __future__ import annotations

import pytest
import torch

from avatar_kit.score.self_test import self_test


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_bundled_head_is_reconstructed_on_cuda() -> None:
    assert self_test("cuda").passed

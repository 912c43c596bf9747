"""Backends answer in words, and optional libraries are never needed."""

from __future__ import annotations

import pytest
import torch

from avatar_kit import backends
from avatar_kit.backends import Backend, BackendMissing, obstacle, pick, pick_device


def test_every_operation_has_a_backend_on_a_cpu() -> None:
    for operation in backends.TABLE.keys() - {"onnx", "usd", "heic"}:  # extras
        assert pick(operation, "cpu") in ("warp", "scipy")


def test_a_forced_backend_that_cannot_says_why() -> None:
    with pytest.raises(BackendMissing, match=r"nothing that is installed can draw meshes on cpu\. nvdiffrast: works on cuda only"):
        pick("render", "cpu", "nvdiffrast")
    with pytest.raises(BackendMissing, match="Backends that can: kaolin, warp"):
        pick("extract", "cpu", "blender")


def test_a_placeholder_that_raises_on_import_is_not_usable(tmp_path, monkeypatch) -> None:
    (tmp_path / "placeholder_lib.py").write_text("raise ImportError('get the real one elsewhere')\n")
    monkeypatch.syspath_prepend(tmp_path)
    broken = Backend("broken", ("placeholder_lib", "thing"), ("cpu",), "MIT", "see its page")
    reason = obstacle(broken, "cpu")
    assert reason is not None
    assert "get the real one elsewhere" in reason
    assert "see its page" in reason
    assert obstacle(broken, "cuda") == "works on cpu only"


def test_what_is_for_requests_only_serves_when_it_is_asked_for(monkeypatch) -> None:
    fast = Backend("a", ("math", "pi"), ("cpu", "cuda"), "MIT", "", asked_only=("cpu",))
    exact = Backend("b", ("math", "pi"), ("cpu", "cuda"), "MIT", "")
    monkeypatch.setitem(backends.TABLE, "draw", (fast, exact))
    assert pick("draw", "cpu") == "b"
    assert pick("draw", "cuda") == "a"
    assert pick("draw", "cpu", "a") == "a"


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_is_refused_in_words_without_a_device() -> None:
    assert pick_device("auto") == "cpu"
    with pytest.raises(BackendMissing, match="--device cpu"):
        pick_device("cuda")

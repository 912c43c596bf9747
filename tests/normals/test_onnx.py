"""Other people's networks: a tiny ONNX model that answers with known normals in other axes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avatar_kit.normals.onnx import OnnxEstimator, parse_axes
from avatar_kit.normals.predict import predict_normals
from avatar_kit.types import InputError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers with 2 * input - 1: a photo that shows normals as colours, (n + 1) / 2, comes back as those normals."""
    from onnx import TensorProto, helper

    entry = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 64, 64])
    answer = helper.make_tensor_value_info("normals", TensorProto.FLOAT, [1, 3, 64, 64])
    constants = [helper.make_tensor(name, TensorProto.FLOAT, [1], [value]) for name, value in (("two", 2.0), ("one", 1.0))]
    nodes = [helper.make_node("Mul", ["image", "two"], ["doubled"]), helper.make_node("Sub", ["doubled", "one"], ["normals"])]
    graph = helper.make_graph(nodes, "picture", [entry], [answer], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    file = tmp_path_factory.mktemp("onnx") / "picture.onnx"
    onnx.save(made, str(file))
    return file


@pytest.fixture(scope="module")
def ball() -> tuple[np.ndarray, np.ndarray]:
    """Normals of a ball in our camera frame, (96, 96, 3), and its mask."""
    y, x = (np.mgrid[:96, :96] + 0.5 - 48) / 40
    mask = x**2 + y**2 < 0.98
    z = -np.sqrt(np.clip(1 - x**2 - y**2, 0, 1))
    return (np.stack([x, y, z], -1) * mask[..., None]).astype(np.float32), mask


@pytest.mark.parametrize(
    ("axes", "picture"), [("x,-y,-z", lambda n: n * (1, -1, -1)), ("-z,x,y", lambda n: n[..., [2, 0, 1]] * (-1, 1, 1))]
)
def test_normals_come_back_in_our_frame(model: Path, ball: tuple[np.ndarray, np.ndarray], axes: str, picture) -> None:
    normals, mask = ball
    photo = ((picture(normals) + 1) / 2).astype(np.float32)
    found = predict_normals(photo, OnnxEstimator(model, axes=axes), mask, flips=False)
    angle = np.degrees(np.arccos(np.clip((found.normals * normals).sum(-1), -1, 1)))[mask]
    assert np.median(angle) < 2.0  # resampling to 64 px and back


def test_wrong_axes_are_noticed(model: Path, ball: tuple[np.ndarray, np.ndarray]) -> None:
    normals, mask = ball
    with pytest.raises(InputError, match=r"y point the wrong way.*--axes"):
        predict_normals((normals * (1, -1, -1) + 1) / 2, OnnxEstimator(model, axes="x,y,-z"), mask, flips=False)


def test_a_mask_is_needed(model: Path) -> None:
    with pytest.raises(InputError, match="has no mask"):
        predict_normals(np.zeros((64, 64, 3), np.float32), OnnxEstimator(model), name="a.jpg")


@pytest.mark.parametrize("text", ["x,y", "x,x,z", "a,b,c"])
def test_axes_must_be_three(text: str) -> None:
    with pytest.raises(InputError, match="expected x, y and z"):
        parse_axes(text)


def test_axes_closed_form() -> None:
    channels = torch.tensor([1.0, 2.0, 3.0])
    order, signs = parse_axes("-z,x,-y")  # so x is channel 1, y minus channel 2, z minus channel 0
    assert (channels[order] * torch.tensor(signs)).tolist() == [2.0, -3.0, -1.0]


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no")
    with pytest.raises(InputError, match="not a model"):
        OnnxEstimator(tmp_path / "a.onnx")

"""Normals from other people's networks, as ONNX files: the adapter between their crops and axes and ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from avatar_kit.backends import pick
from avatar_kit.normals.network import NormalMaps
from avatar_kit.types import InputError

AXES = ("x", "y", "z")
_EXPECTED_ERROR_RAD = 0.2  # such networks do not say how sure they are
_ON_SUBJECT = 4.0  # logit: they say nothing of the foreground, so the photo's mask decides


class OnnxEstimator:
    """A network from a crop (1, 3, S, S) in sRGB to normals (1, 3, S, S) or (1, S, S, 3), run by ONNX Runtime.

    Nothing is downloaded. Photos must have masks. `normals.prediction.check_frame` refuses maps with the wrong axes.

    Args:
        file: the model.
        axes: where its channels point, in our frame of x right, y down, z forward: "x,-y,-z" for y up, z to the viewer.
        mean, std: of the normalisation that it expects of sRGB in [0, 1].
    """

    finds_heads = False
    in_ray_frame = False

    def __init__(self, file: Path, *, axes: str = "x,-y,-z", mean: float = 0.0, std: float = 1.0) -> None:
        pick("onnx")
        import onnxruntime

        if not file.is_file():
            raise InputError(f"{file}: no such file. Give an ONNX model of surface normals.")
        self._axes = parse_axes(axes)
        self._mean, self._std = mean, std
        try:
            self._session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        except Exception as error:
            raise InputError(f"{file}: not a model that ONNX Runtime can run ({error}).") from error
        entry = self._session.get_inputs()[0]
        if len(entry.shape) != 4 or entry.shape[1] != 3:
            raise InputError(f"{file}: takes {entry.name} of shape {entry.shape}; accepted is (batch, 3, height, width).")
        self._input = entry.name
        self.crop_px = entry.shape[2] if isinstance(entry.shape[2], int) else 512
        """Side of the crops it wants, px."""

    def __call__(self, image: Tensor) -> NormalMaps:
        """Maps of crops (B, 3, S, S) in sRGB, [0, 1]; foreground is 1, coordinates are 0, the confidence is the same throughout."""
        resized = F.interpolate(image, (self.crop_px, self.crop_px), mode="bilinear", antialias=True, align_corners=False)
        normalised = ((resized - self._mean) / self._std).float().numpy()
        found = [self._normals(crop[None]) for crop in normalised]
        normals = F.normalize(F.interpolate(torch.cat(found), image.shape[-2:], mode="bilinear", align_corners=False), dim=1)
        shape = (len(image), *image.shape[-2:])
        return NormalMaps(
            normals,
            torch.full(shape, _ON_SUBJECT),
            torch.zeros_like(normals),
            torch.full(shape, float(np.log(2 / _EXPECTED_ERROR_RAD))),
        )

    def _normals(self, crop: np.ndarray) -> Tensor:
        output = np.asarray(self._session.run(None, {self._input: crop})[0], np.float32)
        if output.ndim == 4 and output.shape[-1] == 3 and output.shape[1] != 3:
            output = output.transpose(0, 3, 1, 2)
        if output.ndim != 4 or output.shape[1] != 3:
            raise InputError(f"The ONNX model answers with shape {output.shape}; accepted are three channels of normals.")
        order, signs = self._axes
        return torch.from_numpy(output[:, order] * np.array(signs, np.float32).reshape(1, 3, 1, 1))


def parse_axes(text: str) -> tuple[list[int], list[float]]:
    """Channel and sign of our x, y and z from the direction of each channel, such as "x,-y,-z".

    Raises:
        InputError: not the three axes, each once.
    """
    names = [part.strip().lstrip("+-") for part in text.split(",")]
    if sorted(names) != list(AXES):
        raise InputError(f"axes {text!r}: expected x, y and z in the order of the channels, each with its sign, such as x,-y,-z.")
    signs = [-1.0 if part.strip().startswith("-") else 1.0 for part in text.split(",")]
    order = [names.index(axis) for axis in AXES]
    return order, [signs[channel] for channel in order]

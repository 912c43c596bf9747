"""The network: U-Net++ on a pretrained encoder; normals, foreground, head-frame coordinates and confidence per pixel.

The paper's network predicts normals alone (section 3.4); the other maps cost nothing, since the generator of the pairs
knows them, and give masks and poses where a photo comes without.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avatar_kit.config import NormalsConfig
from avatar_kit.torchvision_import import declare_missing_operators

STRIDE = 32  # pixels of the input per pixel of the coarsest feature map
_CHANNELS = (3, 1, 3, 1)  # normal, foreground, coordinates, log-concentration
_LOG_CONCENTRATION = (-2.0, 6.0)  # 8 rad to 0.005 rad of expected error: outside, the likelihood only destabilises


class NormalMaps(NamedTuple):
    """What the network says of a batch of crops.

    normals: unit, (B, 3, S, S), in the ray frame (`normals.ray_frame`: x right, y down, z along the pixel's ray);
        meaningful on the foreground only.
    foreground: logit of the subject, (B, S, S).
    coordinates: of the surface point in the head frame, units of 200 mm, (B, 3, S, S).
    log_concentration: log kappa of the angular likelihood, (B, S, S); the expected error is about 2 / kappa rad.
    """

    normals: Tensor
    foreground: Tensor
    coordinates: Tensor
    log_concentration: Tensor


class NormalNet(nn.Module):
    """U-Net++ with the encoder that `config` names; random weights until some are loaded."""

    finds_heads = True
    in_ray_frame = True
    mean: Tensor
    std: Tensor

    def __init__(self, config: NormalsConfig) -> None:
        super().__init__()
        declare_missing_operators()
        from segmentation_models_pytorch import UnetPlusPlus

        self.config = config
        self.crop_px = config.crop_px
        self.mixed_precision = False
        """Run the decoder (on a GPU, the encoder too) in bfloat16, for training where matrices of it are multiplied fast."""
        self.unet = UnetPlusPlus(
            config.encoder, encoder_depth=len(config.decoder_channels), encoder_weights=None,
            decoder_channels=config.decoder_channels, classes=sum(_CHANNELS),
        )  # fmt: skip
        mean, std = _normalisation(config.encoder)
        self.register_buffer("mean", torch.tensor(mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(3, 1, 1), persistent=False)
        with torch.no_grad():  # start from a surface that faces the camera, of middling confidence
            bias = self.unet.segmentation_head[0].bias
            assert isinstance(bias, Tensor)
            bias.copy_(torch.tensor([0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0]))
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # twice as fast on a CPU

    @property
    def encoder(self) -> nn.Module:
        """The part that has ImageNet weights."""
        return self.unet.encoder

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.mean.device

    def forward(self, image: Tensor) -> NormalMaps:
        """Maps of crops (B, 3, S, S) in sRGB, [0, 1]; S a multiple of 32."""
        height, width = image.shape[-2:]
        if height % STRIDE or width % STRIDE:
            raise ValueError(f"crops of {width} x {height} pixels: both must be multiples of {STRIDE}.")
        normalised = ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        kind = image.device.type
        # on a CPU the decoder alone: bfloat16 slows down the encoder's depthwise convolutions; the head needs the precision
        with torch.autocast(kind, torch.bfloat16, enabled=self.mixed_precision and kind != "cpu"):
            features = self.unet.encoder(normalised)
        with torch.autocast(kind, torch.bfloat16, enabled=self.mixed_precision):
            decoded = self.unet.decoder(features)
        maps = self.unet.segmentation_head(decoded.float().contiguous(memory_format=torch.channels_last))
        normals, foreground, coordinates, concentration = maps.split(_CHANNELS, dim=1)
        return NormalMaps(
            F.normalize(normals, dim=1, eps=1e-6),
            foreground[:, 0],
            coordinates,
            concentration[:, 0].clamp(*_LOG_CONCENTRATION),
        )


def bfloat16_pays(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 itself (tensor cores, AMX, AVX-512 BF16): training is a third to a half faster with it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def _normalisation(encoder: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of the photos that the encoder was pretrained on."""
    if "lite" in encoder:  # TensorFlow's: (pixel - 127) / 128
        return (127 / 255, 127 / 255, 127 / 255), (128 / 255, 128 / 255, 128 / 255)
    return (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

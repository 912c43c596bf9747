"""The radiance field: colour = R(posenc(x), n, l, v) with l = Q(posenc(x)) (section 3.3)."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from avatar_kit.config import RadianceConfig
from avatar_kit.field.tangents import softplus
from avatar_kit.kernels.encoding import positional_encoding

_SHARPNESS = 100.0  # of Softplus, the paper's


class RadianceField(nn.Module):
    """Colour that leaves a surface point towards the camera, learned from the photos of one head."""

    def __init__(self, config: RadianceConfig) -> None:
        super().__init__()
        self.config = config
        q_in = 3 + 6 * config.q_frequencies
        widths = [q_in] + [config.q_width] * config.q_layers
        self.q = nn.ModuleList(
            nn.Linear(a + (q_in if config.q_skip and i == config.q_skip else 0), b) for i, (a, b) in enumerate(itertools.pairwise(widths))
        )
        self.q_last = nn.Linear(config.q_width, config.q_out)
        widths = [3 + 6 * config.r_frequencies + 3 + config.q_out + 3] + [config.r_width] * config.r_layers
        self.r = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.r_last = nn.Linear(config.r_width, 3)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """He's initialisation; the last layer small, so that colours start grey."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.normal_(0.0, (2.0 / layer.in_features) ** 0.5, generator=generator)
                layer.bias.zero_()
        self.r_last.weight.mul_(0.1)

    def forward(self, points: Tensor, normals: Tensor, directions: Tensor) -> Tensor:
        """sRGB (N, 3) in [0, 1] at surface `points` with unit `normals`, seen along unit ray `directions`; head frame."""
        config = self.config
        encoded = positional_encoding(points, config.q_frequencies, config.q_frequencies, derivatives=False)[0]
        h = encoded
        for i, layer in enumerate(self.q):
            assert isinstance(layer, nn.Linear)
            if config.q_skip and i == config.q_skip:
                h = torch.cat([h, encoded], dim=-1)
            h = softplus(torch.nn.functional.linear(h, layer.weight)[None], layer.bias[None], _SHARPNESS)[0]
        features = self.q_last(h)
        position = positional_encoding(points, config.r_frequencies, config.r_frequencies, derivatives=False)[0]
        h = torch.cat([position, normals, features, directions], dim=-1)
        for layer in self.r:
            h = torch.relu(layer(h))
        return 0.5 + 0.5 * torch.tanh(self.r_last(h))

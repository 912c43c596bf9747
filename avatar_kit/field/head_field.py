"""The head field: signed distance d = F([posenc(x), z(x), g]) and its gradient (equation 1)."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from avatar_kit.config import FieldConfig
from avatar_kit.field import tangents
from avatar_kit.kernels.encoding import positional_encoding
from avatar_kit.kernels.grid_query import query_grids


class Sdf(NamedTuple):
    """Signed distance (N,), negative inside, and its gradient (N, 3) with respect to x, in units of the head frame."""

    distance: Tensor
    gradient: Tensor


class HeadField(nn.Module):
    """Feature grids and decoder, shared by all heads; a latent vector g tells one head from another.

    g is concatenated to the decoder's input, so it enters linearly: `condition` projects it once per head, not per point.
    """

    def __init__(self, config: FieldConfig) -> None:
        super().__init__()
        self.config = config
        self.grids = nn.ParameterList(nn.Parameter(torch.zeros((2**level + 1) ** 3, config.features)) for level in config.levels)
        encoded = 3 + 6 * config.frequencies + (config.features if config.levels else 0)
        widths = [encoded] + [config.width] * config.layers
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))
        self.last = nn.Linear(config.width, 1)
        self.latent_weight = nn.Parameter(torch.zeros(config.width, config.latent))
        self.opened = float(config.frequencies)  # frequencies of the positional encoding that are not masked

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Geometric initialisation: about the signed distance to a sphere around the origin (Atzmon & Lipman 2020)."""
        for i, layer in enumerate(self.hidden):
            assert isinstance(layer, nn.Linear)
            layer.weight.normal_(0.0, math.sqrt(2.0 / layer.out_features), generator=generator)
            if i == 0:
                # not those of z: with grids of zeros both would have no gradient, for ever
                layer.weight[:, 3 : 3 + 6 * self.config.frequencies] = 0.0
            layer.bias.zero_()
        self.last.weight.normal_(math.sqrt(math.pi / self.config.width), 1e-4, generator=generator)
        self.last.bias.fill_(-self.config.initial_radius)
        self.latent_weight.normal_(0.0, 1.0 / math.sqrt(self.config.latent), generator=generator)
        for grid in self.grids:
            grid.zero_()

    def condition(self, latents: Tensor) -> Tensor:
        """Project latents (B, L) to what they add to the first hidden layer, (B, width)."""
        return latents @ self.latent_weight.T

    def forward(self, points: Tensor, conditions: Tensor) -> Tensor:
        """Signed distance (N,) at `points` (N, 3), head frame.

        Args:
            conditions: from `condition`, for B heads; the points are B runs of N / B points, one run per head.
        """
        return self._stack(points, conditions, derivatives=False)[0, :, 0]

    def with_gradient(self, points: Tensor, conditions: Tensor) -> Sdf:
        """Signed distance (N,) and its gradient (N, 3), arguments as in `forward`.

        Both can be differentiated once, with respect to the parameters, the conditions and the points.
        """
        stack = self._stack(points, conditions, derivatives=True)
        return Sdf(stack[0, :, 0], stack[1:, :, 0].T)

    def _stack(self, points: Tensor, conditions: Tensor, *, derivatives: bool) -> Tensor:
        stack = positional_encoding(points, self.config.frequencies, self.opened, derivatives=derivatives)
        if len(self.grids):
            features = query_grids(points, list(self.grids), jacobian=derivatives)
            stack = torch.cat([stack, features], dim=-1)
        for i, layer in enumerate(self.hidden):
            assert isinstance(layer, nn.Linear)
            bias = layer.bias + conditions if i == 0 else layer.bias[None]
            stack = tangents.softplus(stack @ layer.weight.T, bias, self.config.softplus_beta)
        out = stack @ self.last.weight.T
        return torch.cat([out[:1] + self.last.bias, out[1:]])  # a constant has no derivative

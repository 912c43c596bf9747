"""The head field: signed distance d = F([posenc(x), z(x), g]) and its gradient (equation 1).

Beyond the paper, whose section 6 names it as missing, g can have local features too (`local_rank`): it adds B W g to one of
the coarse grids, with a basis B of low rank that all heads share, so that a part of the head can change without the decoder.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from avatar_kit.config import FieldConfig
from avatar_kit.field import tangents
from avatar_kit.kernels.encoding import positional_encoding
from avatar_kit.kernels.grid_query import corners, query_grids


class Condition(NamedTuple):
    """What the latents of B heads do to the field.

    Attributes:
        bias: added to the first hidden layer, (B, width).
        grid: added to the grid of the local features, (B, nodes, F); None where there are none.
        nudge: added to the features at each point, (R, N, F) as in `field.tangents`: zeros, to differentiate by.
    """

    bias: Tensor
    grid: Tensor | None = None
    nudge: Tensor | None = None

    def detach(self) -> Condition:
        """Without gradients."""
        grid, nudge = (None if part is None else part.detach() for part in self[1:])
        return Condition(self.bias.detach(), grid, nudge)


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
        self.local_rank = config.local_rank if config.local_level in config.levels else 0
        if self.local_rank:
            rows = (2**config.local_level + 1) ** 3 * config.features
            self.local_basis = nn.Parameter(torch.zeros(rows, self.local_rank))  # B, its rows those of the flattened grid
            self.local_weight = nn.Parameter(torch.zeros(self.local_rank, config.latent))  # W
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
        if self.local_rank:
            self.local_basis.zero_()
            self.local_weight.normal_(0.0, 1.0 / math.sqrt(self.config.latent), generator=generator)

    def condition(self, latents: Tensor) -> Condition:
        """Project latents (B, L) to what they add to the first hidden layer and to the local features' grid."""
        bias = latents @ self.latent_weight.T
        if not self.local_rank:
            return Condition(bias)
        local = latents @ self.local_weight.T @ self.local_basis.T
        return Condition(bias, local.reshape(len(latents), -1, self.config.features))

    def by_latent(self, points: Tensor, by_bias: Tensor, by_nudge: Tensor | None) -> Tensor:
        """Derivatives by the latent (N, L), one row per point, from those by a condition of each point's own.

        Args:
            points: (N, 3), where the field was evaluated.
            by_bias: (N, width).
            by_nudge: (4, N, F); None without local features.
        """
        found = by_bias @ self.latent_weight
        if by_nudge is not None:
            features = self.config.features
            rows, weights = corners(points, 2**self.config.local_level)
            share = torch.einsum("rnf,rnc->ncf", by_nudge, weights).flatten(1)
            entries = (rows[:, :, None] * features + torch.arange(features, device=rows.device)).flatten(1)
            by_local = nn.functional.embedding_bag(entries, self.local_basis, mode="sum", per_sample_weights=share)
            found = found + by_local @ self.local_weight
        return found

    def forward(self, points: Tensor, conditions: Condition) -> Tensor:
        """Signed distance (N,) at `points` (N, 3), head frame.

        Args:
            conditions: from `condition`, for B heads; the points are B runs of N / B points, one run per head.
        """
        return self._stack(points, conditions, derivatives=False)[0, :, 0]

    def with_gradient(self, points: Tensor, conditions: Condition) -> Sdf:
        """Signed distance (N,) and its gradient (N, 3), arguments as in `forward`.

        Both can be differentiated once, with respect to the parameters, the conditions and the points.
        """
        stack = self._stack(points, conditions, derivatives=True)
        return Sdf(stack[0, :, 0], stack[1:, :, 0].T)

    def _features(self, points: Tensor, conditions: Condition, *, derivatives: bool) -> Tensor:
        """z(x) and, with `derivatives`, dz/dx."""
        grids, local = list(self.grids), conditions.grid
        if local is not None and len(local) == 1:  # one head: its grid is the sum
            at = self.config.levels.index(self.config.local_level)
            grids[at] = grids[at] + local[0]
        features = query_grids(points, grids, jacobian=derivatives)
        if local is not None and len(local) > 1:
            runs = points.split(len(points) // len(local))
            parts = [query_grids(run, [grid], jacobian=derivatives) for run, grid in zip(runs, local, strict=True)]
            features = features + torch.cat(parts, dim=1)
        return features if conditions.nudge is None else features + conditions.nudge[: len(features)]

    def _stack(self, points: Tensor, conditions: Condition, *, derivatives: bool) -> Tensor:
        stack = positional_encoding(points, self.config.frequencies, self.opened, derivatives=derivatives)
        if len(self.grids):
            stack = torch.cat([stack, self._features(points, conditions, derivatives=derivatives)], dim=-1)
        for i, layer in enumerate(self.hidden):
            assert isinstance(layer, nn.Linear)
            bias = layer.bias + conditions.bias if i == 0 else layer.bias[None]
            stack = tangents.softplus(stack @ layer.weight.T, bias, self.config.softplus_beta)
        out = stack @ self.last.weight.T
        return torch.cat([out[:1] + self.last.bias, out[1:]])  # a constant has no derivative

"""What no photo sees: there the prior's details and the edges that silhouettes cut are left, which nothing vouches for, and smoothed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy import ndimage
from torch import Tensor

from avatar_kit.config import MeshConfig
from avatar_kit.conventions import BOX_MAX, BOX_MIN
from avatar_kit.field.head_field import HeadField
from avatar_kit.field.on_grid import narrow_band, on_finer_grid

_ROUGH = 64  # cells along an axis of the grid that says what is seen, and that is smoothed


def smooth_unless_seen(field: HeadField, latent: Tensor, config: MeshConfig, seen: Callable[[Tensor], Tensor]) -> Tensor:
    """Signed distances (config.resolution + 1,) * 3 as `on_grid.narrow_band` gives them, but where `seen` is below 1 they go over into a
    Gaussian mean of a coarse grid's. `seen` takes the coarse grid's values (m, m, m) to as many in [0, 1].
    """
    rough = narrow_band(field, latent, min(max(config.coarse, _ROUGH), config.resolution), coarse=config.coarse)
    share, cells = seen(rough), 2 * (len(rough) - 1)
    sigma = config.unseen_blur * cells / (BOX_MAX - BOX_MIN)
    once = ndimage.gaussian_filter(on_finer_grid(rough, cells).cpu().numpy(), sigma)
    # a mean alone shrinks what is round, by sigma^2 over its radius; what a second one adds to that is taken off (Tukey's twicing)
    blurred = torch.from_numpy(2 * once - ndimage.gaussian_filter(once, sigma)).to(rough)
    values = narrow_band(field, latent, config.resolution, coarse=rough, where=share)
    return on_finer_grid(blurred, config.resolution).lerp(values, on_finer_grid(share, config.resolution))

"""Cutting slivers: sheets and threads that a fit leaves where photos say little, and that hang on the head by a few voxels.

Morphological opening by reconstruction: what is deep enough inside, its largest piece, grows back a little way within the inside.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from avatar_kit.conventions import BOX_MAX, BOX_MIN
from avatar_kit.mesh.handles import BEYOND, CORNERS

_GROWN_BACK = 4.0  # times the depth: a nose or an ear ends this near to what is deep, a sheet does not


def without_slivers(values: Tensor, depth: float) -> Tensor:
    """`values` (n, n, n), signed distances at nodes over the box, changed where something thin is cut off.

    Args:
        depth: units; a piece hangs together where it is twice as thick as this. Without any such place nothing changes.
    """
    if depth <= 0:
        return values
    inside, deep = ((values < level).cpu().numpy() for level in (0.0, -depth))
    if not deep.any():
        return values
    box, cell = ndimage.find_objects(inside.view(np.uint8))[0], (BOX_MAX - BOX_MIN) / (len(values) - 1)
    labels, inside = np.empty(deep[box].shape, np.int32), inside[box]
    ndimage.label(deep[box], output=labels)
    core = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    kept = np.asarray(ndimage.binary_dilation(core, CORNERS, iterations=math.ceil(_GROWN_BACK * depth / cell), mask=inside), bool)
    changed = values.clone()
    changed[box][torch.from_numpy(inside & ~kept).to(values.device)] = BEYOND * cell
    return changed

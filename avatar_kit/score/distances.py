"""Distances between clouds of points: Kaolin's `sided_distance` on CUDA where it is installed, SciPy's k-d tree elsewhere."""

from __future__ import annotations

import numpy as np

from avatar_kit.backends import pick
from avatar_kit.types import Array


def nearest(points: Array, targets: Array, *, device: str = "cpu", backend: str | None = None) -> tuple[Array, Array]:
    """Distance (N,) from each of `points` (N, 3) to the nearest of `targets` (M, 3), and its index (N,).

    Args:
        device: "cpu" or "cuda".
        backend: kaolin or scipy; the preferred one that works on the device by default.

    Raises:
        BackendMissing: the backend that was asked for cannot be used.
        ValueError: no targets.
    """
    if len(targets) == 0:
        raise ValueError("the nearest of no points was asked for")
    if pick("chamfer", device, backend) == "kaolin":
        return _sided_distance(points, targets, device)
    from scipy.spatial import KDTree

    distance, index = KDTree(targets).query(points)
    return np.asarray(distance), np.asarray(index)


def _sided_distance(points: Array, targets: Array, device: str) -> tuple[Array, Array]:
    import torch
    from kaolin.metrics.pointcloud import sided_distance  # pyright: ignore[reportMissingImports]

    # float32, which Kaolin works in, is finest around zero
    middle = np.asarray(targets, np.float64).mean(0)
    clouds = [torch.as_tensor((np.asarray(cloud) - middle)[None], dtype=torch.float32, device=device) for cloud in (points, targets)]
    squared, index = sided_distance(*clouds)
    return squared[0].sqrt().double().cpu().numpy(), index[0].cpu().numpy()

"""Distances between clouds of points: Kaolin's `sided_distance` on CUDA where it is installed, SciPy's k-d tree elsewhere."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from avatar_kit.backends import pick
from avatar_kit.types import Array

if TYPE_CHECKING:
    from scipy.spatial import KDTree


class Cloud:
    """Points to which others are near, prepared once for any number of questions.

    Args:
        points: (M, 3).
        device: "cpu" or "cuda".
        backend: kaolin or scipy; the preferred one that works on the device by default.

    Raises:
        BackendMissing: the backend that was asked for cannot be used.
        ValueError: no points.
    """

    def __init__(self, points: Array, *, device: str = "cpu", backend: str | None = None) -> None:
        if len(points) == 0:
            raise ValueError("the nearest of no points was asked for")
        self.points = np.asarray(points, np.float64)
        self._device, self._backend = device, pick("chamfer", device, backend)

    @functools.cached_property
    def tree(self) -> KDTree:
        """Of the points."""
        from scipy.spatial import KDTree

        return KDTree(self.points, balanced_tree=False)  # built in 2/3 of the time, asked as fast

    def nearest(self, points: Array) -> tuple[Array, Array]:
        """Distance (N,) from each of `points` (N, 3) to the nearest of the cloud, and its index (N,)."""
        if self._backend == "kaolin":
            return _sided_distance(points, self.points, self._device)
        distance, index = self.tree.query(points)
        return np.asarray(distance), np.asarray(index)


def nearest(points: Array, targets: Array, *, device: str = "cpu", backend: str | None = None) -> tuple[Array, Array]:
    """Distance (N,) from each of `points` (N, 3) to the nearest of `targets` (M, 3), and its index (N,): a `Cloud` asked once."""
    return Cloud(targets, device=device, backend=backend).nearest(points)


def _sided_distance(points: Array, targets: Array, device: str) -> tuple[Array, Array]:
    import torch
    from kaolin.metrics.pointcloud import sided_distance  # pyright: ignore[reportMissingImports]

    # float32, which Kaolin works in, is finest around zero
    middle = np.asarray(targets, np.float64).mean(0)
    clouds = [torch.as_tensor((np.asarray(cloud) - middle)[None], dtype=torch.float32, device=device) for cloud in (points, targets)]
    squared, index = sided_distance(*clouds)
    return squared[0].sqrt().double().cpu().numpy(), index[0].cpu().numpy()

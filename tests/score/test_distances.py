"""Nearest points: brute force, and Kaolin's units (it answers squared) through a twin."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch

from avatar_kit import backends
from avatar_kit.backends import BackendMissing
from avatar_kit.score import distances
from avatar_kit.score.distances import Cloud, nearest


@pytest.fixture
def clouds(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two clouds in millimetres, far from the origin, as scans are."""
    return rng.normal(size=(200, 3)) * 80 + 500, rng.normal(size=(300, 3)) * 80 + 500


def brute_force(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, None] - targets[None], axis=-1)


def test_nearest_is_that_of_brute_force(clouds) -> None:
    cloud, expected = Cloud(clouds[1]), brute_force(*clouds)
    for distance, index in (nearest(*clouds), cloud.nearest(clouds[0]), cloud.nearest(clouds[0])):
        np.testing.assert_allclose(distance, expected.min(1), atol=1e-9)
        assert np.array_equal(index, expected.argmin(1))


def test_kaolins_distances_are_taken_out_of_their_squares(clouds, monkeypatch: pytest.MonkeyPatch) -> None:
    def sided_distance(p1: torch.Tensor, p2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = (p1[:, :, None] - p2[:, None]).norm(dim=-1).min(dim=-1)
        return found.values**2, found.indices

    module = types.ModuleType("kaolin.metrics.pointcloud")
    module.sided_distance = sided_distance  # type: ignore[attr-defined]
    for name in ("kaolin", "kaolin.metrics"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "kaolin.metrics.pointcloud", module)
    distance, index = distances._sided_distance(*clouds, "cpu")
    np.testing.assert_allclose(distance, brute_force(*clouds).min(1), atol=1e-4)
    assert np.array_equal(index, brute_force(*clouds).argmin(1))


@pytest.mark.cuda
@pytest.mark.kaolin
@pytest.mark.skipif(
    backends.why_not("kaolin.metrics.pointcloud", "sided_distance") is not None or not torch.cuda.is_available(),
    reason="needs Kaolin and CUDA",
)
def test_kaolin_and_scipy_agree(clouds) -> None:
    np.testing.assert_allclose(nearest(*clouds, device="cuda", backend="kaolin")[0], nearest(*clouds)[0], atol=1e-4)


def test_refusals(clouds) -> None:
    with pytest.raises(BackendMissing, match="kaolin: works on cuda only"):
        nearest(*clouds, backend="kaolin")
    with pytest.raises(ValueError, match="no points"):
        nearest(clouds[0], np.zeros((0, 3)))

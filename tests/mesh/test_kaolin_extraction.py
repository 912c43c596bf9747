"""Kaolin's extractors on narrow bands. The cells are checked everywhere, the surfaces where Kaolin (a CPU build will do) is installed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from avatar_kit import backends
from avatar_kit.backends import BackendMissing
from avatar_kit.config import MeshConfig
from avatar_kit.kernels.marching_cubes import marching_cubes
from avatar_kit.kernels.mesh_queries import MeshQueries
from avatar_kit.mesh.extraction import extract, pick_extractor
from avatar_kit.mesh.kaolin_extraction import flexicubes, marching_tetrahedra, surface_cells
from avatar_kit.prior.storage import load_prior
from avatar_kit.score.protocols import is_watertight
from avatar_kit.types import Mesh

missing = backends.why_not("kaolin.ops.conversions", "FlexiCubes")
needs_kaolin = [pytest.mark.kaolin, pytest.mark.skipif(missing is not None, reason=f"needs Kaolin: {missing}")]
Field = Callable[[Tensor], Tensor]


def sphere_field(points: Tensor) -> Tensor:
    return points.norm(dim=-1) - 0.5


def torus_field(points: Tensor) -> Tensor:
    return torch.hypot(torch.hypot(points[..., 0], points[..., 1]) - 0.5, points[..., 2]) - 0.2


def speckle_field(points: Tensor) -> Tensor:
    """Noise: every configuration of a cell occurs, the ambiguous ones too."""
    return torch.randn(points.shape[:-1], generator=torch.Generator().manual_seed(0))


def sampled(field: Field, cells: int) -> Tensor:
    axis = torch.linspace(-1, 1, cells + 1)
    return field(torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1))


def gradient_of(field: Field) -> Field:
    def gradient(points: Tensor) -> Tensor:
        points = points.clone().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(field(points).sum(), points)[0]

    return gradient


def signed_volume(mesh: Mesh) -> float:
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces].astype(float), 1, 0)
    return float((np.cross(a, b) * c).sum() / 6)


def genus(mesh: Mesh) -> int:
    return 1 - trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).euler_number // 2


def apart_mm(a: Mesh, b: Mesh, *, above: float = -1.0) -> float:
    """Mean distance between two surfaces, both ways, of vertices above a height and inside the box; the unit is 200 mm."""
    both = []
    for x, y in ((a, b), (b, a)):
        kept = y.vertices[(y.vertices[:, 1] > above) & (np.abs(y.vertices).max(1) < 0.95)]
        both.append(MeshQueries(x).closest(torch.from_numpy(kept)).distance.mean())
    return 200 * float(max(both))


def test_surface_cells_are_those_of_a_walk_over_all() -> None:
    values = sampled(sphere_field, 12)
    found = surface_cells(values)
    expected = []
    for x in range(12):
        for y in range(12):
            for z in range(12):
                inside = int((values[x : x + 2, y : y + 2, z : z + 2] < 0).sum())
                if 0 < inside < 8:
                    expected.append((x, y, z))
    assert found.places.tolist() == [list(place) for place in expected]
    corners = found.positions[found.cells]  # (C, 8, 3)
    step = 2 / 12
    torch.testing.assert_close(corners[:, 0], -1 + found.places * step)
    torch.testing.assert_close(corners[:, 1] - corners[:, 0], torch.tensor([step, 0, 0]).expand(len(corners), 3))
    torch.testing.assert_close(corners[:, 6] - corners[:, 0], torch.tensor([0, step, step]).expand(len(corners), 3))
    torch.testing.assert_close(found.values, sphere_field(found.positions), atol=1e-5, rtol=0)
    assert len(torch.unique(found.positions, dim=0)) == len(found.positions)


def test_surface_cells_close_what_reaches_the_box() -> None:
    found = surface_cells(torch.full((5, 5, 5), -1.0))
    assert len(found.cells) == 4**3 - 2**3
    assert (found.values[(found.positions.abs() == 1).any(dim=1)] > 0).all()
    assert len(surface_cells(torch.ones(5, 5, 5)).cells) == 0


@pytest.mark.skipif(missing is None, reason="needs a machine without Kaolin")
def test_a_missing_kaolin_is_named_before_anything_is_computed() -> None:
    with pytest.raises(BackendMissing, match=r"kaolin: not usable .* install page"):
        pick_extractor(MeshConfig(extractor="flexicubes"), "cpu")
    assert pick_extractor(MeshConfig(), "cpu") == "warp"


def test_an_unknown_extractor_is_named() -> None:
    with pytest.raises(BackendMissing, match=r"mesh.extractor=balls.*flexicubes"):
        pick_extractor(MeshConfig(extractor="balls"), "cpu")


class TestWithKaolin:
    pytestmark = needs_kaolin

    @pytest.mark.parametrize(("field", "expected_genus", "volume"), [(sphere_field, 0, np.pi / 6), (torus_field, 1, np.pi**2 * 0.04)])
    def test_surfaces_are_closed_outward_and_those_of_marching_cubes(self, field: Field, expected_genus: int, volume: float) -> None:
        values = sampled(field, 128)
        cubes = marching_cubes(values)
        for mesh in (flexicubes(values, gradient_of(field)), flexicubes(values), marching_tetrahedra(values)):
            assert is_watertight(mesh)
            assert genus(mesh) == expected_genus
            assert signed_volume(mesh) == pytest.approx(volume, rel=0.01)
            assert apart_mm(mesh, cubes) < 0.05
            assert 200 * float(field(torch.from_numpy(mesh.vertices)).abs().max()) < 0.2  # cells of 3.1 mm

    def test_ambiguous_cells_fit_together(self) -> None:
        values = sampled(speckle_field, 24)
        assert is_watertight(marching_tetrahedra(values))
        mesh = flexicubes(values)
        edges = np.sort(mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        _, count = np.unique(edges, axis=0, return_counts=True)
        assert (count == 2).mean() == 1.0

    def test_the_list_of_cells_gives_what_kaolins_full_grid_gives(self) -> None:
        from kaolin.ops.conversions import FlexiCubes

        cells = 16
        values = sampled(speckle_field, cells)
        values[[0, -1]] = values[:, [0, -1]] = values[:, :, [0, -1]] = 1.0
        full = FlexiCubes(device="cpu")
        corners, cubes = full.construct_voxel_grid(cells)
        nodes = ((corners + 0.5) * cells).round().long()
        vertices, faces, _ = full(2 * corners, values[nodes[:, 0], nodes[:, 1], nodes[:, 2]], cubes, cells)
        mine = flexicubes(values)
        assert len(mine.vertices) == len(vertices)
        assert len(mine.faces) == len(faces)
        order_a, order_b = (np.lexsort(np.round(v, 4).T) for v in (mine.vertices, vertices.numpy()))
        np.testing.assert_allclose(mine.vertices[order_a], vertices.numpy()[order_b], atol=1e-4)

    def test_a_head_is_the_same_and_cut_alike(self) -> None:
        prior = load_prior()
        config = MeshConfig(resolution=192)
        cubes = extract(prior.field, prior.mean_latent, config, cut_below=-0.8)
        for extractor in ("flexicubes", "tetrahedra"):
            mesh = extract(prior.field, prior.mean_latent, MeshConfig(resolution=192, extractor=extractor), cut_below=-0.8)
            assert is_watertight(mesh)
            assert apart_mm(mesh, cubes, above=-0.75) < 0.05  # the rim of the cut is sharp in one, bevelled in the other
            assert np.abs(mesh.vertices).max() < 1 + 0.5 * 2 / 192
            assert mesh.vertices[:, 1].min() == pytest.approx(-0.8, abs=0.5 * 2 / 192)  # half a cell

    def test_an_empty_grid_gives_an_empty_mesh(self) -> None:
        assert len(flexicubes(torch.ones(9, 9, 9)).faces) == 0
        assert len(marching_tetrahedra(torch.ones(9, 9, 9)).faces) == 0

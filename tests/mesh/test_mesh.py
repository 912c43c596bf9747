"""Extraction, refinement and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avatar_kit.config import MeshConfig
from avatar_kit.field.head_field import HeadField
from avatar_kit.field.on_grid import narrow_band, sdf_on_grid
from avatar_kit.heads.surgery import without_unused
from avatar_kit.mesh.extraction import extract, largest_component
from avatar_kit.mesh.files import read_mesh, write_mesh, write_obj
from avatar_kit.mesh.refine import subdivide
from avatar_kit.mesh.topology import Topology, topology
from avatar_kit.score.protocols import is_watertight
from avatar_kit.types import InputError, Mesh, concatenate


class Ball(HeadField):
    """A field with a closed form: the distance to a sphere."""

    def __init__(self, radius: float, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> None:
        from avatar_kit.config import FieldConfig

        super().__init__(FieldConfig(latent=1, width=4, layers=1, levels=()))
        self.radius, self.centre = radius, torch.tensor(centre)

    def forward(self, points: torch.Tensor, conditions: torch.Tensor) -> torch.Tensor:
        return (points - self.centre).norm(dim=-1) - self.radius

    def with_gradient(self, points: torch.Tensor, conditions: torch.Tensor):
        from avatar_kit.field.head_field import Sdf

        return Sdf(self(points, conditions), torch.nn.functional.normalize(points - self.centre, dim=-1))


LATENT = torch.zeros(1)


def test_extracted_sphere_is_round_closed_and_one_piece() -> None:
    mesh = extract(Ball(0.5), LATENT, MeshConfig(resolution=96, coarse=24))
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 0.5, atol=2e-4)  # cells of 0.02: sagitta 1e-4
    assert is_watertight(mesh)


class Ring(Ball):
    """The distance to a torus around the z axis."""

    def forward(self, points: torch.Tensor, conditions: torch.Tensor) -> torch.Tensor:
        return torch.hypot(points[..., :2].norm(dim=-1) - self.radius, points[..., 2]) - 0.2


def test_handles_are_cut_unless_they_are_to_stay() -> None:
    cut, kept = (extract(Ring(0.5), LATENT, MeshConfig(resolution=48, coarse=24, cut_handles=cut)) for cut in (True, False))
    assert topology(cut) == Topology(components=1, genus=0, boundary_loops=0, boundary_edges=0)
    assert topology(kept).genus == 1


class Bumpy(Ball):
    """With bumps smaller than a coarse cell: what is interpolated from there misses them."""

    def forward(self, points: torch.Tensor, conditions: torch.Tensor) -> torch.Tensor:
        return super().forward(points, conditions) + 0.04 * torch.sin(40.0 * points).prod(dim=-1)


@pytest.mark.parametrize("field", [Ball(0.5), Bumpy(0.5)])
def test_narrow_band_equals_the_dense_grid_where_edges_cross_the_surface(field: Ball) -> None:
    dense = sdf_on_grid(field, LATENT, 64)
    band = narrow_band(field, LATENT, 64, coarse=16)
    assert torch.equal(band > 0, dense > 0)
    crossing = torch.zeros_like(dense, dtype=torch.bool)
    for axis in range(3):
        changes = (dense > 0).diff(dim=axis)  # of booleans: where two differ
        for end in (0, 1):
            crossing.narrow(axis, end, 64).logical_or_(changes)
    assert crossing.sum() > 5_000
    torch.testing.assert_close(band[crossing], dense[crossing])
    assert (band != dense).any(), "nothing was interpolated"


def test_the_cut_is_flat_and_closed() -> None:
    mesh = extract(Ball(0.5), LATENT, MeshConfig(resolution=64, coarse=16), cut_below=-0.2)
    assert mesh.vertices[:, 1].min() == pytest.approx(-0.2, abs=1e-3)
    assert is_watertight(mesh)


def test_floaters_are_dropped(sphere: Mesh) -> None:
    floater = without_unused(Mesh(0.1 * sphere.vertices + 0.8, sphere.faces[::2]))
    kept = largest_component(concatenate([floater, sphere]))
    np.testing.assert_allclose(kept.vertices, sphere.vertices)


def test_subdivision_keeps_a_closed_mesh_closed_and_makes_it_rounder(sphere: Mesh, rng: np.random.Generator) -> None:
    chosen = rng.random(len(sphere.faces)) < 0.3
    finer, new = subdivide(sphere, chosen)
    assert is_watertight(finer)
    assert len(finer.faces) > len(sphere.faces) + 3 * chosen.sum() - 1
    assert len(new) == len(finer.vertices) - len(sphere.vertices)

    def volume(mesh: Mesh) -> float:
        a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
        return float((a * np.cross(b, c)).sum() / 6)

    ball = 4 / 3 * np.pi * np.linalg.norm(sphere.vertices[0]) ** 3
    assert volume(sphere) < volume(finer) < ball
    all_split, _ = subdivide(sphere, np.ones(len(sphere.faces), bool))
    assert len(all_split.faces) == 4 * len(sphere.faces)
    none_split, new = subdivide(sphere, np.zeros(len(sphere.faces), bool))
    assert np.array_equal(none_split.faces, sphere.faces)
    assert len(new) == 0


def test_new_vertices_lie_where_the_surface_is_round(sphere: Mesh) -> None:
    """In the middle of an edge of a sphere's mesh the gap is its sagitta; that of the curve is of fourth order in the edge."""
    finer, new = subdivide(sphere, np.ones(len(sphere.faces), bool))
    radius = np.linalg.norm(sphere.vertices[0])
    edge = np.linalg.norm(sphere.vertices[sphere.faces[:, 0]] - sphere.vertices[sphere.faces[:, 1]], axis=1).max()
    sagitta = edge**2 / (8 * radius)
    assert np.abs(np.linalg.norm(finer.vertices[new], axis=1) - radius).max() < 0.2 * sagitta


def test_files_keep_order_unit_and_colours(tmp_path: Path, sphere: Mesh, rng: np.random.Generator) -> None:
    colored = Mesh(sphere.vertices * 100, sphere.faces, rng.uniform(0, 1, sphere.vertices.shape))
    write_mesh(tmp_path / "m.ply", colored)
    back = read_mesh(tmp_path / "m.ply")
    np.testing.assert_allclose(back.vertices, colored.vertices, atol=1e-4)
    np.testing.assert_array_equal(back.faces, colored.faces)
    assert back.colors is not None
    np.testing.assert_allclose(back.colors, colored.colors, atol=0.003)
    write_obj(tmp_path / "m.obj", colored)
    np.testing.assert_allclose(read_mesh(tmp_path / "m.obj").vertices, colored.vertices, atol=6e-3)
    assert not list(tmp_path.glob("*.part"))


def test_unusable_mesh_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.ply: no such file"):
        read_mesh(tmp_path / "none.ply")
    (tmp_path / "bad.ply").write_text("ply\nnonsense")
    with pytest.raises(InputError, match=r"bad\.ply: cannot be read"):
        read_mesh(tmp_path / "bad.ply")

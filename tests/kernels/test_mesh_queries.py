"""Distances, signs and rays on meshes against closed forms and brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference import mesh_twins

from avatar_kit.heads.surgery import without_unused
from avatar_kit.kernels.marching_cubes import marching_cubes
from avatar_kit.kernels.mesh_queries import NO_HIT, MeshQueries, UnionQueries
from avatar_kit.score.protocols import is_watertight
from avatar_kit.types import Mesh


def test_signed_distance_to_a_box(box: Mesh, rng: np.random.Generator) -> None:
    points = rng.uniform(-1, 1, (400, 3))
    q = np.abs(points) - np.array([0.5, 0.3, 0.2])
    truth = np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0)
    found = MeshQueries(box).signed_distance(torch.from_numpy(points))
    np.testing.assert_allclose(found.numpy(), truth, atol=2e-6)  # float32


def test_distance_and_sign_match_brute_force(sphere: Mesh, rng: np.random.Generator) -> None:
    points = rng.uniform(-0.9, 0.9, (25, 3))
    found = MeshQueries(sphere).signed_distance(torch.from_numpy(points)).numpy()
    np.testing.assert_allclose(np.abs(found), mesh_twins.closest_distance(sphere, points), atol=2e-6)
    assert ((found < 0) == (mesh_twins.winding_number(sphere, points) > 0.5)).all()


def test_without_signs_the_rest_is_the_same(sphere: Mesh, rng: np.random.Generator) -> None:
    points = torch.from_numpy(rng.uniform(-0.9, 0.9, (500, 3)))
    signed, bare = MeshQueries(sphere), MeshQueries(sphere, signs=False)
    assert torch.equal(bare.closest(points).distance, signed.closest(points).distance)
    with pytest.raises(ValueError, match="without signs"):
        bare.signed_distance(points)


def test_a_hole_does_not_turn_the_inside_out(sphere: Mesh, rng: np.random.Generator) -> None:
    top = sphere.vertices[sphere.faces][:, :, 2].min(1) > 0.45
    open_sphere = without_unused(Mesh(sphere.vertices, sphere.faces[~top]))
    assert not is_watertight(open_sphere)
    points = rng.uniform(-0.3, 0.3, (200, 3))
    assert (MeshQueries(open_sphere).signed_distance(torch.from_numpy(points)) < 0).all()


def test_rays_match_brute_force(sphere: Mesh, rng: np.random.Generator) -> None:
    origins = rng.normal(0, 1, (60, 3))
    origins *= 2.0 / np.linalg.norm(origins, axis=1, keepdims=True)
    directions = rng.uniform(-0.6, 0.6, (60, 3)) - origins
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    hits = MeshQueries(sphere).cast_rays(torch.from_numpy(origins), torch.from_numpy(directions))
    truth = np.array([mesh_twins.first_hit(sphere, o, d) for o, d in zip(origins, directions, strict=True)])
    np.testing.assert_allclose(hits.depth.numpy(), truth, atol=2e-6)
    assert (np.isinf(truth) == (hits.face.numpy() == NO_HIT)).all()
    hit = np.isfinite(truth)
    corners = sphere.vertices[sphere.faces[hits.face.numpy()[hit]]]
    points = (hits.barycentric.numpy()[hit][..., None] * corners).sum(1)
    np.testing.assert_allclose(points, origins[hit] + truth[hit, None] * directions[hit], atol=1e-5)


def test_union_is_the_least_distance(sphere: Mesh) -> None:
    shifted = Mesh(sphere.vertices + (0.4, 0, 0), sphere.faces)
    points = torch.tensor([[0.45, 0.0, 0.0], [-0.45, 0.0, 0.0], [0.2, 0.9, 0.0]])
    parts = torch.stack([MeshQueries(mesh).signed_distance(points) for mesh in (sphere, shifted)])
    torch.testing.assert_close(UnionQueries([sphere, shifted]).signed_distance(points), parts.amin(0))


def test_marching_cubes_of_a_sphere_is_closed_and_round() -> None:
    axis = torch.linspace(-1, 1, 65)
    values = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).norm(dim=-1) - 0.6
    mesh = marching_cubes(values)
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 0.6, atol=1e-3)  # linear roots on cells of 0.03
    assert is_watertight(mesh)
    outward = (mesh.face_normals * mesh.vertices[mesh.faces].mean(1)).sum(1)
    assert (outward > 0).all()


def test_marching_cubes_closes_what_reaches_the_border() -> None:
    axis = torch.linspace(-1, 1, 17)
    values = torch.meshgrid(axis, axis, axis, indexing="ij")[1] * 1.0  # everything below y = 0 is inside
    mesh = marching_cubes(values)
    assert is_watertight(mesh)
    assert len(marching_cubes(torch.ones(9, 9, 9)).faces) == 0


@pytest.mark.parametrize("threads", [2, 3])
def test_many_rows_are_shared_among_threads_and_none_is_lost(sphere: Mesh, rng: np.random.Generator, threads: int) -> None:
    points = torch.from_numpy(rng.uniform(-0.9, 0.9, (20_001, 3)))  # no number of threads divides it evenly
    directions = torch.nn.functional.normalize(-points, dim=1)
    queries, before = MeshQueries(sphere), torch.get_num_threads()
    found = []
    try:
        for count in (1, threads):
            torch.set_num_threads(count)
            found.append((queries.cast_rays(points, directions), queries.closest(points, signed=True)))
    finally:
        torch.set_num_threads(before)
    (hits, closest), (shared_hits, shared_closest) = found
    assert all(torch.equal(a, b) for a, b in zip(hits, shared_hits, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(closest, shared_closest, strict=True))

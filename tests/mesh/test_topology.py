"""Counts of surfaces whose genus, pieces and boundaries are known."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from avatar_kit.mesh.topology import find_handles, topology
from avatar_kit.types import Mesh, concatenate


def torus(major: float = 0.3, minor: float = 0.1) -> Mesh:
    shape = trimesh.creation.torus(major, minor)
    return Mesh(np.asarray(shape.vertices), np.asarray(shape.faces, np.int32))


def test_spheres_and_tori_are_told_apart(sphere: Mesh, box: Mesh) -> None:
    for mesh, genus in ((sphere, 0), (box, 0), (torus(), 1)):
        found = topology(mesh)
        assert (found.components, found.genus, found.boundary_loops, found.boundary_edges) == (1, genus, 0, 0)
    both = topology(concatenate([sphere, torus(), torus(0.2, 0.02)]))
    assert (both.components, both.genus) == (3, 2)
    assert topology(Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int32))).components == 0


def test_a_hole_is_a_loop_and_no_handle(sphere: Mesh) -> None:
    centres = sphere.vertices[sphere.faces].mean(1)
    tube = topology(Mesh(sphere.vertices, sphere.faces[np.abs(centres[:, 2]) < 0.3]))
    assert (tube.components, tube.genus, tube.boundary_loops) == (1, 0, 2)
    assert tube.boundary_edges > 20
    missing = topology(Mesh(sphere.vertices, sphere.faces[1:]))
    assert (missing.boundary_loops, missing.boundary_edges) == (1, 3)


def test_faces_that_touch_in_a_vertex_are_two_pieces() -> None:
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
    found = topology(Mesh(vertices, np.array([[0, 1, 2], [0, 3, 4]], np.int32)))
    assert (found.components, found.genus, found.boundary_loops, found.boundary_edges) == (2, 0, 2, 6)


def test_an_edge_of_three_faces_counts_as_open() -> None:
    vertices = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1]])
    found = topology(Mesh(vertices, np.array([[0, 1, 2], [1, 0, 3], [0, 1, 4]], np.int32)))
    assert found.boundary_edges == 7


def test_euler_number_of_trimesh_agrees(sphere: Mesh) -> None:
    for mesh in (sphere, torus(), concatenate([torus(), torus(0.2, 0.05)])):
        euler = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False).euler_number
        found = topology(mesh)
        assert euler == 2 * found.components - 2 * found.genus


@pytest.mark.parametrize(("minor", "size"), [(0.008, 0.1), (0.02, 0.2)])
def test_handles_are_found_where_they_are(sphere: Mesh, minor: float, size: float) -> None:
    """A ring of 2 major + 2 minor across fits into a cube of the next size and into none below."""
    at = np.array([0.7, -0.55, 0.6])
    ring = torus(0.35 * size, minor)
    mesh = concatenate([sphere, Mesh(ring.vertices + at, ring.faces)])
    (handle,) = find_handles(mesh)
    assert handle.genus == 1
    assert handle.size in (size, 2 * size)  # cubes lie half a side apart: one that holds it may be a size larger
    assert np.abs(handle.centre - at).max() < handle.size
    assert find_handles(sphere) == []

"""Handles are cut and hollows filled; what has neither stays as it is."""

from __future__ import annotations

import torch

from avatar_kit.kernels.marching_cubes import marching_cubes
from avatar_kit.mesh.handles import euler_number, without_handles
from avatar_kit.mesh.topology import Topology, topology

_AXIS = torch.linspace(-1, 1, 49)
_X, _Y, _Z = torch.meshgrid(_AXIS, _AXIS, _AXIS, indexing="ij")
_RADIUS = (_X**2 + _Y**2 + _Z**2).sqrt()
SPHERE = Topology(components=1, genus=0, boundary_loops=0, boundary_edges=0)


def test_a_ball_stays_as_it_is() -> None:
    ball = _RADIUS - 0.5
    assert torch.equal(without_handles(ball), ball)
    assert torch.equal(without_handles(ball + 2), ball + 2)  # nothing inside


def test_the_euler_number_counts_pieces_handles_and_voids() -> None:
    ball, shell, ring = _RADIUS < 0.3, (_RADIUS - 0.6).abs() < 0.1, ((_X**2 + _Y**2).sqrt() - 0.6).square() + _Z**2 < 0.04
    assert [euler_number(part) for part in (ball, shell, ring, ball | shell, ball | ring)] == [1, 2, 0, 3, 1]


def test_a_torus_is_cut_where_it_is_thinnest() -> None:
    torus = ((_X**2 + _Y**2).sqrt() - 0.5).square().add(_Z**2).sqrt() - 0.25 - 0.1 * _X
    assert topology(marching_cubes(torus)).genus == 1
    cut = without_handles(torus)
    assert topology(marching_cubes(cut)) == SPHERE
    changed = (torch.sign(cut) != torch.sign(torus)).nonzero()
    assert len(changed) < 150  # one layer of voxels across
    assert (_AXIS[changed[:, 0]] < -0.2).all()


def test_a_head_with_a_jug_handle_loses_the_handle_alone() -> None:
    jug = (_X - 0.5).square().add(_Y**2).sqrt().sub(0.25).square().add(_Z**2).sqrt() - 0.08
    cut = without_handles(torch.minimum(_RADIUS - 0.5, jug))
    assert topology(marching_cubes(cut)) == SPHERE
    assert (cut[_RADIUS < 0.49] < 0).all()


def test_hollows_are_filled() -> None:
    shell = (_RADIUS - 0.4).abs() - 0.1
    assert topology(marching_cubes(shell)).components == 2
    filled = without_handles(shell)
    assert topology(marching_cubes(filled)) == SPHERE
    assert (filled[_RADIUS < 0.5] < 0).all()

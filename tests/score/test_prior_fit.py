"""How near a prior comes to a mesh: distances with a closed form, frames, the command and its folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from avatar_kit_cli.main import main
from PIL import Image

from avatar_kit import load_prior
from avatar_kit.conventions import CANONICAL_LANDMARKS, MM_PER_UNIT
from avatar_kit.mesh.files import read_mesh
from avatar_kit.prior.fit_mesh import MeshFit
from avatar_kit.prior.storage import HeadPrior
from avatar_kit.render.error_map import colored_by_distance, scale_bar
from avatar_kit.score.prior_fit import score_fit
from avatar_kit.score.target import read_target
from avatar_kit.types import Head, InputError, Mesh

NOSE_MM = np.array(CANONICAL_LANDMARKS["nose_tip"]) * MM_PER_UNIT


@pytest.fixture(scope="module")
def prior(ball_prior: Path) -> HeadPrior:
    return load_prior(ball_prior)


def ball_file(folder: Path, radius: float, *, unit: float = 1.0) -> Path:
    trimesh.creation.icosphere(subdivisions=3, radius=radius * unit).export(folder / "ball.ply")
    return folder / "ball.ply"


def test_distances_are_those_of_concentric_balls(sphere: Mesh, prior: HeadPrior) -> None:
    """The truth is 5 mm larger than what was "fitted" to it: so far off is every point, of the face too."""
    from mesh.test_mesh import Ball

    inner, outer = Ball(0.475), Ball(0.5)
    fitted = MeshFit(Head("ball", {"body": sphere}), np.eye(4), True, torch.zeros(1), outer, torch.zeros(1), ())
    closed_form = HeadPrior(inner, torch.zeros(2, 1), prior.mean_sdf, {})
    scores = score_fit(closed_form, fitted, resolution=64).scores
    for name, error in (("mean_head", 5.0), ("latent", 5.0), ("latent_and_grids", 0.0)):
        for region in ("whole", "face"):
            for value in scores[name][region].values():
                assert value == pytest.approx(error, abs=0.25)  # facets of the icosphere and of 64 cells
    doubled = score_fit(closed_form, fitted, resolution=64, mm_per_head_unit=400.0).scores
    assert doubled["latent"]["whole"]["mean_mm"] == pytest.approx(2 * scores["latent"]["whole"]["mean_mm"], abs=0.002)


def test_colours_grow_with_the_distance_up_to_the_worst(box: Mesh) -> None:
    colors = colored_by_distance(box, np.linspace(0, 4, len(box.vertices)), 2.0).colors
    assert colors is not None
    assert not np.allclose(colors[0], colors[2])
    np.testing.assert_allclose(colors[-1], colors[-2])  # both beyond the worst
    bar = scale_bar(120, 2.0)
    assert bar.shape == (120, 64, 3)
    np.testing.assert_allclose(bar[20, 12], colors[-1], atol=0.02)


def test_frames_are_stated_or_found(tmp_path: Path, prior: HeadPrior) -> None:
    target = read_target(ball_file(tmp_path, 80.0), prior.mean_sdf, in_head_frame=True)
    assert not target.estimated
    assert target.mm_per_head_unit == pytest.approx(MM_PER_UNIT)
    assert np.linalg.norm(target.head.mesh.vertices, axis=1).mean() == pytest.approx(0.4, abs=1e-3)
    metres = read_target(ball_file(tmp_path, 80.0, unit=1e-3), prior.mean_sdf, in_head_frame=True, mm_per_unit=1000.0)
    np.testing.assert_allclose(metres.head.mesh.vertices, target.head.mesh.vertices, atol=1e-6)
    points = {name: (np.array(point) * MM_PER_UNIT + 10).tolist() for name, point in CANONICAL_LANDMARKS.items()}
    file = ball_file(tmp_path, 80.0)
    file.with_suffix(".json").write_text(json.dumps({"landmarks": points, "mm_per_unit": 1.0}))
    stated = read_target(file, prior.mean_sdf)
    np.testing.assert_allclose(stated.head.mesh.vertices.mean(0), -0.05, atol=1e-3)
    np.testing.assert_allclose(stated.head.landmarks["nose_tip"], CANONICAL_LANDMARKS["nose_tip"], atol=1e-6)


def test_the_truth_of_a_scene_finds_its_frame_by_its_nose(tmp_path: Path) -> None:
    """The mean head, shifted, with one landmark."""
    prior = load_prior()
    from avatar_kit.mesh.gallery import heads

    (mesh,) = heads(prior, prior.mean_latent[None], resolution=64)
    moved = mesh.vertices * MM_PER_UNIT + (30.0, -500.0, 80.0)
    tip = int(np.linalg.norm(moved - (30.0, -500.0, 80.0) - NOSE_MM, axis=1).argmin())
    (tmp_path / "landmarks.txt").write_text(f"nose_tip {tip}\n")
    trimesh.Trimesh(moved, mesh.faces, process=False).export(tmp_path / "full_head.obj")
    target = read_target(tmp_path, prior.mean_sdf)
    assert target.estimated
    assert "nose" in target.frame
    assert target.mm_per_head_unit == pytest.approx(MM_PER_UNIT, rel=5e-3)
    np.testing.assert_allclose(target.head.mesh.vertices, mesh.vertices, atol=5e-3)  # 1 mm
    alone = read_target(tmp_path / "full_head.obj", prior.mean_sdf)  # without the landmark
    assert alone.frame == "laid on the mean head"
    np.testing.assert_allclose(alone.head.mesh.vertices, mesh.vertices, atol=1e-2)


def test_meshes_that_cannot_be_fitted_are_named(tmp_path: Path, prior: HeadPrior) -> None:
    with pytest.raises(InputError, match=r"ball\.ply: its longest side is 0\.16 mm.*--mm-per-unit 1000"):
        read_target(ball_file(tmp_path, 80.0, unit=1e-3), prior.mean_sdf)
    with pytest.raises(InputError, match=r"full_head\.obj: missing"):
        read_target(tmp_path, prior.mean_sdf)
    with pytest.raises(InputError, match=r"none\.ply: no such file"):
        read_target(tmp_path / "none.ply", prior.mean_sdf)
    plane = trimesh.creation.box(extents=(900.0, 1.0, 900.0))
    plane.subdivide().subdivide().export(tmp_path / "plane.ply")
    with pytest.raises(InputError, match=r"plane\.ply: no head was found"):
        read_target(tmp_path / "plane.ply", load_prior().mean_sdf)


def test_the_command_writes_a_folder(ball_prior: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mesh, out = ball_file(tmp_path, 83.0), tmp_path / "out"
    command = ["prior", "fit", str(mesh), str(ball_prior), "--in-head-frame", "--steps", "60", "--resolution", "48", "--out", str(out)]
    main(command)
    printed = capsys.readouterr()
    assert [Path(line).name for line in printed.out.splitlines()] == ["fit.png", "latent.ply", "grids.ply", "fit.json"]
    assert "watertight" in printed.err
    assert "latent and grids" in printed.err
    notes = json.loads((out / "fit.json").read_text())
    scores = notes["scores"]
    assert scores["latent_and_grids"]["whole"]["mean_mm"] < scores["latent"]["whole"]["mean_mm"] < 3.0
    assert notes["steps"] == 60
    radius = np.linalg.norm(read_mesh(out / "grids.ply").vertices, axis=1)
    assert radius.mean() == pytest.approx(83.0, abs=1.5)  # millimetres
    with Image.open(out / "fit.png") as sheet:
        assert sheet.width == 5 * 256 + 64
    with pytest.raises(SystemExit) as refused:
        main(command)
    assert refused.value.code == 2
    assert not list(tmp_path.glob(".*"))

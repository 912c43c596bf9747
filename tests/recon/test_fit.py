"""Alignment, rays, differentiable hits, losses and the fit on scenes with a closed form; the whole pipeline on the demo."""

from __future__ import annotations

import copy
import dataclasses
import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mesh.test_mesh import Ball
from safetensors import safe_open

from avatar_kit import load_prior, load_scene, override, reconstruct
from avatar_kit.config import PRESETS, MeshConfig
from avatar_kit.conventions import rotation_of, rotation_xyz_deg, scale_of, similarity, transform_points
from avatar_kit.field.radiance import RadianceField
from avatar_kit.mesh.extraction import extract
from avatar_kit.recon import losses
from avatar_kit.recon.align import align, from_cameras
from avatar_kit.recon.fit import _optimizer
from avatar_kit.recon.pose import HeadPose
from avatar_kit.recon.rays import RayBank, Rays, shrink
from avatar_kit.recon.run_folder import write_run
from avatar_kit.recon.surface import differentiable_hits
from avatar_kit.render.renderer import Renderer
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.scene.h3ds import read_reference
from avatar_kit.score.report import score_mesh, score_run
from avatar_kit.types import Camera, Photo, Scene

DEMO = Path(str(resources.files("avatar_kit") / "weights" / "demo"))


def moved_scene(scene: Scene, world_from_old: np.ndarray) -> Scene:
    """The same photos in another world frame (a rigid motion)."""
    photos = []
    for photo in scene.photos:
        camera = photo.camera
        moved = Camera(camera.intrinsics, world_from_old @ camera.world_from_camera, camera.width, camera.height)
        photos.append(dataclasses.replace(photo, camera=moved))
    return dataclasses.replace(scene, photos=tuple(photos))


def test_hits_have_the_derivative_of_the_root() -> None:
    """d(depth)/d(radius) of a sphere in closed form: -1 / (n . v) along the ray."""
    field = Ball(0.5)
    radius = torch.nn.Parameter(torch.tensor(0.5))
    field.radius = radius  # type: ignore[assignment]
    origins = torch.tensor([[0.1, 0.2, 2.0]])
    directions = torch.tensor([[0.0, 0.0, -1.0]])
    truth = torch.sqrt(0.25 - torch.tensor(0.05))
    hits = differentiable_hits(field, torch.zeros(1, 1), origins, directions, torch.tensor([2.0 - truth.item() + 0.004]))
    torch.testing.assert_close(hits.points, torch.tensor([[0.1, 0.2, truth.item()]]), atol=1e-4, rtol=0)
    torch.testing.assert_close(hits.normals, hits.points / 0.5, atol=1e-3, rtol=0)
    (slope,) = torch.autograd.grad(hits.points[0, 2], radius, retain_graph=True)
    assert slope.item() == pytest.approx(0.5 / truth.item(), rel=1e-2)
    # n = x / r with x_x = 0.1 on this ray: it turns only because the hit moves along the ray
    (turn,) = torch.autograd.grad(hits.normals[0, 0], radius)
    assert turn.item() == pytest.approx(-0.1 / 0.25, rel=2e-2)


def test_normal_loss_is_equation_4_and_ignores_what_it_should() -> None:
    n = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    target = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    slope = torch.tensor([-1.0, -1.0, 0.5])  # the second has no target, the third faces away
    assert losses.normal_loss(n, target, torch.ones(len(n)), slope, 3).item() == pytest.approx(1 / 3)
    assert losses.normal_loss(n, target, torch.full((len(n),), 0.5), slope, 3).item() == pytest.approx(1 / 6)
    assert losses.normal_weight(target, torch.full((len(n),), 0.5), slope).tolist() == [0.5, 0.0, 0.0]


def test_silhouettes_that_are_far_off_hardly_move_the_whole_head() -> None:
    weight, cost = losses.geman_mcclure(torch.tensor([0.0, 0.05, -0.05, 0.25]).square(), 0.05)
    assert (cost < 0.05**2).all()
    torch.testing.assert_close(weight, torch.tensor([1.0, 0.25, 0.25, 1 / 26**2]))


def test_mask_loss_pulls_the_right_way() -> None:
    distance = torch.tensor([0.01, -0.01, 0.01, -0.01], requires_grad=True)
    inside = torch.tensor([True, True, False, False])
    losses.mask_loss(distance, inside, 600.0, 4).backward()
    gradient = distance.grad
    assert gradient is not None
    assert gradient[0] > 0.2  # should be inside and is not: pull in
    assert gradient[3] < -0.2  # should be outside and is not: push out
    assert gradient[1].abs() < 0.01
    assert gradient[2].abs() < 0.01


def test_shrinking_keeps_geometry() -> None:
    photo = load_scene(DEMO, views=1).photos[0]
    small = shrink(photo, 80)
    assert max(small.mask.shape) == 80
    assert small.mask.mean() == pytest.approx(photo.mask.mean(), rel=0.02)
    point = photo.camera.centre + 800 * photo.camera.world_from_camera[:3, 2]
    scale = 80 / max(photo.mask.shape)
    np.testing.assert_allclose(small.camera.project(point)[0], photo.camera.project(point)[0] * scale)


def test_rays_are_drawn_as_asked(generator: torch.Generator) -> None:
    bank = RayBank(load_scene(DEMO, views=3), 64, torch.device("cpu"))
    rays = bank.draw(1000, 0.7, generator)
    assert rays.inside.float().mean().item() == pytest.approx(0.7, abs=1e-6)
    torch.testing.assert_close(rays.directions.norm(dim=-1), torch.ones(1000))
    assert ((rays.normals * rays.directions).sum(-1)[rays.inside] < 0.1).all()  # visible surfaces face the camera


def test_pose_moves_rays_as_its_matrix_does(generator: torch.Generator) -> None:
    start = similarity(0.005, rotation_xyz_deg(3, 20, -5), np.array([0.1, 0.2, 0.3]))
    pose = HeadPose(start, torch.device("cpu"))
    with torch.no_grad():
        pose.rotation.copy_(torch.tensor([0.1, -0.2, 0.05]))
        pose.translation.copy_(torch.tensor([0.01, 0.02, -0.03]))
        pose.log_scale.fill_(0.04)
    origins = torch.randn(5, 3, generator=generator) * 500
    directions = torch.nn.functional.normalize(torch.randn(5, 3, generator=generator), dim=-1)
    nothing = torch.zeros(5)
    rays = Rays(origins, directions, nothing > 0, directions, directions, nothing, torch.tensor([0, 1, 0, 1, 1]))
    o, d, n = pose.rays(rays)
    expected = transform_points(pose.matrix(), origins.numpy())
    np.testing.assert_allclose(o.detach().numpy(), expected, atol=1e-4)
    np.testing.assert_allclose(d.detach().numpy(), directions.numpy() @ rotation_of(pose.matrix()).T, atol=1e-5)
    torch.testing.assert_close(d, n)

    motions = np.stack([similarity(1.0, rotation_xyz_deg(4, -6, 2), np.array([0.1, 0, 0.05])), np.eye(4)])
    moved = HeadPose(start, torch.device("cpu"), motions)
    moved.load_state_dict({**moved.state_dict(), **pose.state_dict()})
    with torch.no_grad():
        moved.camera_rotations[1, 2] = 0.3
    o, d, _ = moved.rays(rays)
    matrices = moved.camera_matrices()
    assert matrices is not None
    np.testing.assert_allclose(matrices[0], motions[0], atol=1e-6)
    np.testing.assert_allclose(rotation_of(matrices[1]), rotation_xyz_deg(0, 0, np.degrees(0.3)), atol=1e-6)
    for i, photo in enumerate(rays.photo.tolist()):
        total = matrices[photo] @ moved.matrix()
        np.testing.assert_allclose(o[i].detach().numpy(), transform_points(total, origins[i].numpy()), atol=1e-4)
        np.testing.assert_allclose(d[i].detach().numpy(), rotation_of(total) @ directions[i].numpy(), atol=1e-5)


def test_alignment_does_not_care_about_the_world_frame() -> None:
    scene = load_scene(DEMO, views=3)
    world_from_old = similarity(1.0, rotation_xyz_deg(35, 140, -70), np.array([300.0, -200, 900]))
    a = from_cameras(scene)
    b = from_cameras(moved_scene(scene, world_from_old))
    np.testing.assert_allclose(b @ world_from_old, a, atol=1e-6)


def test_alignment_finds_the_demo_head() -> None:
    """The demo's world is the head frame in millimetres, shifted: rotation and scale are known."""
    scene = load_scene(DEMO, views=3)
    found = align(scene, load_prior().mean_sdf)
    turn = np.degrees(np.arccos(np.clip((np.trace(rotation_of(found)) - 1) / 2, -1, 1)))
    assert turn < 8.0
    assert scale_of(found) == pytest.approx(1 / 200, rel=0.06)


def test_one_photo_of_a_head_with_a_wide_hat_is_not_taken_for_a_near_head() -> None:
    prior = load_prior()
    renderer = Renderer(extract(prior.field, prior.mean_latent, MeshConfig(resolution=96)))
    camera = orbit_camera(yaw_deg=0.0, pitch_deg=0.0, distance=4.5, target=np.array([0.0, 0.1, 0.0]), focal_px=200.0, size=128)
    seen = renderer.render(camera)
    rows, columns = np.nonzero(seen.mask)
    mask = seen.mask.copy()
    brim = rows.min() + 14
    head = columns[rows < brim + 10]
    mask[brim : brim + 10, head.min() - 6 : head.max() + 7] = True
    photo = Photo(np.zeros((128, 128, 3), np.float32), mask, camera, seen.normals.astype(np.float32), "hat.png")
    scene = Scene((photo,), (0,), "hat", mm_per_world_unit=200.0)
    too_near = from_cameras(scene)
    assert transform_points(too_near, np.zeros((1, 3)))[0, 2] < -0.5  # 100 mm: the hat makes the head look wide
    found = align(scene, prior.mean_sdf)
    assert abs(transform_points(found, np.zeros((1, 3)))[0, 2]) < 0.15  # 30 mm


def test_a_stated_pose_is_taken() -> None:
    scene = dataclasses.replace(load_scene(DEMO, views=1), head_from_world=np.eye(4))
    np.testing.assert_array_equal(align(scene, load_prior().mean_sdf), np.eye(4))


QUICK = [
    "fit.steps=60",
    "start.steps=8",
    "fit.image_size=128",
    "rays.per_step=1024",
    "mesh.resolution=128",
    "mesh.refine=false",
]


def test_reconstruction_beats_the_mean_head_and_writes_its_files(tmp_path: Path) -> None:
    scene = load_scene(DEMO, views=3)
    steps: list[int] = []
    weights: list[float] = []

    def on_step(step: int, state: dict[str, Any]) -> None:
        steps.append(step)
        weights.append(float(state["normal_weight"]))

    result = reconstruct(scene, config=override(PRESETS["fast"], QUICK), on_step=on_step)
    reference = read_reference(DEMO)
    assert reference is not None
    scores = score_run(result, load_prior(), reference)
    assert scores["reconstruction"]["metric"]["face_mm"] < 0.6 * scores["mean head"]["metric"]["face_mm"]
    assert scores["reconstruction"]["metric"]["watertight"]
    assert steps == list(range(60))
    assert 0.3 < weights[-1] <= PRESETS["fast"].rays.inside_share  # given normals count fully, but for grazing rays
    paths = write_run(result, tmp_path / "run", extra={"scores": scores})
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == sorted(p.name for p in paths)
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert {"views", "preset", "device", "seed", "iterations", "seconds", "peak_memory_mb", "losses", "head_from_world", "versions"} <= set(
        report
    )
    from avatar_kit.mesh.files import read_mesh

    again = score_mesh(read_mesh(tmp_path / "run/mesh.ply"), reference)
    assert again["metric"]["face_mm"] == pytest.approx(scores["reconstruction"]["metric"]["face_mm"], abs=0.01)
    avatar = read_mesh(tmp_path / "run/avatar.glb")
    assert 0.2 < np.ptp(avatar.vertices[:, 1]) < 0.5  # metres
    assert not list(tmp_path.glob(".*"))


def test_coarser_grids_move_faster() -> None:
    fitted, pose = copy.deepcopy(load_prior().field), HeadPose(np.eye(4), torch.device("cpu"), None)
    config = override(PRESETS["fast"], ["fit.learning_rate_grid=0.01", "fit.grid_rate_growth=1.5"])
    code, radiance = torch.nn.Parameter(torch.zeros(3)), RadianceField(config.radiance)
    optimizer = _optimizer(config, fitted, list(fitted.grids), code, pose, radiance, 1.0)
    rates = {len(group["params"][0]): group["lr"] for group in optimizer.param_groups if group["name"] == "grid"}
    assert rates == pytest.approx({65**3: 0.01, 33**3: 0.015, 17**3: 0.0225})


def test_no_steps_leave_the_start(tmp_path: Path) -> None:
    """And what is stated of the field is that of the prior, whatever the settings say."""
    config = override(PRESETS["fast"], [*QUICK, "fit.steps=0", "start.steps=2", "field.width=512", "texture.size=0"])
    result = reconstruct(load_scene(DEMO, views=1), config=config)
    assert result.fitted.steps == 0
    assert len(result.mesh.faces) > 1000
    write_run(result, tmp_path / "run")
    with safe_open(tmp_path / "run/fit.safetensors", framework="pt") as pack:
        stated = [json.loads(pack.metadata()["config"]), json.loads((tmp_path / "run/report.json").read_text())["config"]]
        assert [one["field"]["width"] for one in stated] == [pack.get_tensor("field.last.weight").shape[1]] * 2
    assert len({file.stat().st_mode for file in (tmp_path / "run").iterdir()}) == 1  # who may read one may read all


@pytest.mark.parametrize(("views", "steps"), [(1, 4), (2, 8)])
def test_cameras_that_are_refined_get_more_steps(views: int, steps: int) -> None:
    """A single photo's camera is not refined: the head's pose is the same thing."""
    quick = [*QUICK, "fit.steps=4", "start.steps=2", "texture.size=0", "cameras.refine=true", "cameras.steps_factor=2"]
    told = []
    result = reconstruct(
        load_scene(DEMO, views=views), config=override(PRESETS["fast"], quick), on_step=lambda step, state: told.append(state["steps"])
    )
    assert result.fitted.steps == steps
    assert told == [steps] * steps


def test_a_fit_without_normals_and_by_the_papers_search_runs() -> None:
    scene = load_scene(DEMO, views=1)
    bare = scene.without_normals()
    config = override(PRESETS["fast"], [*QUICK, "fit.steps=6", "start.steps=2", "rays.search=field", "fit.free_decoder_at=0.5"])
    assert len(reconstruct(bare, normal_net=None, config=config).mesh.faces) > 1000


def test_normals_are_predicted_where_there_are_none() -> None:
    """The second photo keeps its own; the first gets a map that is near the true one, which it has lost."""
    scene = load_scene(DEMO, view_ids=[0, 2])
    true = scene.photos[0].normals
    assert true is not None
    bare = dataclasses.replace(scene.photos[0], normals=None)
    config = override(PRESETS["fast"], [*QUICK, "fit.steps=1", "start.steps=1"])
    result = reconstruct(dataclasses.replace(scene, photos=(bare, scene.photos[1])), normal_net="default", config=config)
    predicted, given = result.scene.photos
    assert result.normals == "given and predicted"
    assert given.normals is scene.photos[1].normals
    assert predicted.normals is not None
    assert predicted.confidence is not None
    both = (np.abs(true).sum(-1) > 0) & (np.abs(predicted.normals).sum(-1) > 0)
    angle = np.degrees(np.arccos(np.clip((true * predicted.normals).sum(-1)[both], -1, 1)))
    assert both.sum() > 0.5 * bare.mask.sum()
    assert angle.mean() < 20.0  # a surface that faces the camera throughout is 40 degrees off
    sure = predicted.confidence[both]
    assert angle[sure > np.median(sure)].mean() < angle[sure <= np.median(sure)].mean()


def test_same_seed_same_result() -> None:
    scene = load_scene(DEMO, views=1)
    config = override(PRESETS["fast"], [*QUICK, "fit.steps=5", "start.steps=2"])
    a, b, c = (reconstruct(scene, config=config, seed=seed).fitted.latent for seed in (1, 1, 2))
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    assert not torch.allclose(a, c, atol=1e-4)

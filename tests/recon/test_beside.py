"""What photos see beside a head: where it can be, where it cannot, that the fit leaves it alone and the mesh has it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from conftest import as_mesh
from recon.test_head_mesh import Ball
from recon.test_hull import scene_of
from recon.test_matches import HEAD_FROM_WORLD, true_camera

from avatar_kit import load_prior
from avatar_kit.config import BesideConfig, Config, MeshConfig, TextureConfig
from avatar_kit.field.radiance import RadianceField
from avatar_kit.mesh.extraction import _gradient, extract
from avatar_kit.recon.beside import beside_head, rays_onto
from avatar_kit.recon.fit import FittedHead
from avatar_kit.recon.matches import tied_start
from avatar_kit.recon.meshing import head_meshes
from avatar_kit.recon.pose import HeadPose
from avatar_kit.recon.rays import RayBank, Rays
from avatar_kit.render.renderer import Renderer
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.score.protocols import is_watertight
from avatar_kit.types import Array, Mesh, Photo, Scene, concatenate

RADIUS, TOP, TOP_RADIUS = 0.4, np.array([0.0, 0.58, 0.0]), 0.2  # a head that is a ball, and another ball that is none
DISTANCE, FOCAL, SIZE, CELLS = 40.0, 3000.0, 160, 64  # far away: rays are nearly parallel, a pixel is 0.013 wide
AXIS = np.linspace(-1, 1, CELLS + 1)
NODES = np.stack(np.meshgrid(AXIS, AXIS, AXIS, indexing="ij"), axis=-1)
HEAD = torch.from_numpy((np.linalg.norm(NODES, axis=-1) - RADIUS).astype(np.float32))


def balls_photo(yaw: float, *others: tuple[Array, float]) -> Photo:
    """Of the head and other balls (middle, radius)."""
    camera = orbit_camera(yaw_deg=yaw, pitch_deg=0, distance=DISTANCE, target=np.zeros(3), focal_px=FOCAL, size=SIZE)
    mask = np.zeros((SIZE, SIZE), bool)
    for middle, radius in ((np.zeros(3), RADIUS), *others):
        pixel, depth = camera.project(middle)
        mask |= np.linalg.norm(camera.pixel_grid() - pixel, axis=-1) * depth / FOCAL < radius
    return Photo(np.zeros((SIZE, SIZE, 3), np.float32), mask, camera)


def found_beside(*photos: Photo, least: int = 20) -> torch.Tensor | None:
    return beside_head(HEAD, scene_of(*photos), [np.eye(4)] * len(photos), BesideConfig(least=least))


@pytest.fixture(scope="module")
def around() -> tuple[Photo, ...]:
    return tuple(balls_photo(yaw, (TOP, TOP_RADIUS)) for yaw in (0.0, 45.0, 90.0, 135.0))


def test_a_ball_on_the_head_is_found_as_large_as_its_outlines_leave_it(around: tuple[Photo, ...]) -> None:
    found = found_beside(*around)
    assert found is not None
    true = np.linalg.norm(NODES - TOP, axis=-1) - TOP_RADIUS
    above = NODES[..., 1] > RADIUS + 0.08
    inside = found.numpy() < 0
    assert inside[above & (true < -0.02)].all()
    assert not inside[above & (true > 0.07)].any()  # four cylinders around a ball leave up to 8 % more
    assert not inside[NODES[..., 1] < 0.2].any()
    middle = CELLS // 2  # straight up, where all photos see the same outline: distances, not just signs
    np.testing.assert_allclose(found.numpy()[middle, -12:-4, middle], AXIS[-12:-4] - TOP[1] - TOP_RADIUS, atol=0.03)


def test_what_is_small_or_not_in_all_masks_is_not_found(around: tuple[Photo, ...]) -> None:
    assert found_beside(*(balls_photo(yaw) for yaw in (0.0, 45.0, 90.0, 135.0))) is None
    assert found_beside(*around[:3]) is None  # of few photos no hull is believed
    assert found_beside(*around, balls_photo(60.0)) is None  # whose mask shows that there is nothing
    assert found_beside(*around, least=20_000) is None


@pytest.mark.parametrize(("yaws", "there"), [((0, 8, 16, 24), False), ((0, 10, 170, 180), False), ((0, 12, 24, 36), True)])
def test_photos_from_nearly_one_direction_do_not_say_how_far_away_it_is(yaws: tuple[float, ...], there: bool) -> None:
    found = found_beside(*(balls_photo(yaw, (TOP, TOP_RADIUS)) for yaw in yaws))
    assert (found is not None) == there


def test_nothing_stands_before_what_the_head_explains() -> None:
    """Two photos from the sides see something where their views cross: before the head, or behind it, where others see the head alone."""
    for depth in (0.8, -0.8):
        lump = np.array([0.0, 0.0, depth]), 0.15
        found = found_beside(balls_photo(0.0), balls_photo(5.0), balls_photo(60.0, lump), balls_photo(-60.0, lump))
        assert (found is None) == (depth > 0)


def height_of(rays: Rays) -> torch.Tensor:
    return rays.origins[:, 1] + DISTANCE * rays.directions[:, 1]


def seen_above(rays: Rays) -> torch.Tensor:
    """Which rays see the ball on the head, and not just its outline, (N,) bool."""
    return rays.inside & (height_of(rays) > RADIUS + 0.06) & (height_of(rays) < TOP[1] + TOP_RADIUS - 0.02)


def test_what_goes_on_below_the_box_is_no_plinth() -> None:
    """Photos from above show a body beneath the box's last rows; their rays come down through the box before it."""
    photos = []
    for yaw in (0.0, 15.0, 30.0, 45.0):
        camera = orbit_camera(yaw_deg=yaw, pitch_deg=30, distance=DISTANCE, target=np.zeros(3), focal_px=FOCAL, size=SIZE)
        pixel, depth = camera.project(np.zeros(3))
        below = camera.pixel_grid() - pixel
        mask = np.linalg.norm(below, axis=-1) * depth / FOCAL < RADIUS
        foot = -below[..., 1] * depth / FOCAL * np.cos(np.radians(30))  # y where a ray is nearest to the head's middle
        assert foot.min() < -0.9
        photos.append(Photo(np.zeros((SIZE, SIZE, 3), np.float32), mask | (foot < -0.87), camera))
    assert found_beside(*photos) is None


def test_the_fit_draws_no_rays_onto_it(around: tuple[Photo, ...], generator: torch.Generator) -> None:
    found = found_beside(*around)
    assert found is not None
    bank = RayBank(scene_of(*around), SIZE, torch.device("cpu"))
    onto = rays_onto(found, HEAD, HeadPose(np.eye(4), torch.device("cpu")), bank.rays)
    top = seen_above(bank.rays)
    assert onto[top].float().mean() > 0.95
    assert not onto[bank.rays.inside & ~top & (height_of(bank.rays) < 0.3)].any()
    drawn, before = (each.draw(2000, 0.7, generator) for each in (bank.without(onto), bank))
    assert seen_above(drawn).sum() < 0.08 * seen_above(before).sum()
    assert drawn.inside.float().mean() == pytest.approx(0.7, abs=0.01)
    assert len(bank.without(onto).rays) == len(bank.rays)


def test_the_mesh_is_the_head_and_it_in_one_piece(around: tuple[Photo, ...]) -> None:
    settings = Config(
        mesh=MeshConfig(resolution=64, coarse=16, extractor="warp", refine=False, unseen_blur=0), texture=TextureConfig(size=0)
    )
    fitted = FittedHead(Ball(RADIUS), torch.zeros(1), RadianceField(settings.radiance), np.eye(4), None, found_beside(*around), -1.0, [], 0)
    mesh = head_meshes(fitted, scene_of(*around), settings).fine
    assert is_watertight(mesh)
    assert len(trimesh.Trimesh(mesh.vertices, mesh.faces).split()) == 1
    assert mesh.vertices[:, 1].max() == pytest.approx(TOP[1] + TOP_RADIUS, abs=0.03)
    low = mesh.vertices[mesh.vertices[:, 1] < 0.2]
    np.testing.assert_allclose(np.linalg.norm(low, axis=1), RADIUS, atol=0.01)


def test_flexicubes_has_the_gradient_of_whichever_is_nearer(around: tuple[Photo, ...]) -> None:
    points = torch.tensor([[0.0, -RADIUS, 0.0], [0.0, float(TOP[1]) + TOP_RADIUS, 0.0], [0.0, -0.9, 0.0]])
    found = _gradient(points, field=Ball(RADIUS), latent=torch.zeros(1), cut=-0.8, beside=found_beside(*around))  # type: ignore[arg-type]
    np.testing.assert_allclose(torch.nn.functional.normalize(found, dim=1), [(0, -1, 0), (0, 1, 0), (0, -1, 0)], atol=0.1)


BUN = np.array([0.0, 0.0, -0.75])


def painted(mesh: Mesh) -> Scene:
    renderer = Renderer(mesh.transformed(np.linalg.inv(HEAD_FROM_WORLD)))
    photos = []
    for yaw in (0.0, 60.0, -60.0, 85.0):
        seen = renderer.render(true_camera(yaw))
        photos.append(Photo(np.full((*seen.mask.shape, 3), 0.5, np.float32), seen.mask, true_camera(yaw), seen.normals, f"{yaw}"))
    return Scene(tuple(photos), (0, 1, 2, 3), "painted", HEAD_FROM_WORLD)


def test_a_bun_beside_a_head_of_the_prior_is_in_its_start_and_nothing_is_where_there_is_none() -> None:
    prior, config = load_prior(), Config()
    head = extract(prior.field, prior.mean_latent, MeshConfig(resolution=128, sliver_depth=0))
    bun = as_mesh(trimesh.creation.icosphere(subdivisions=3, radius=0.2).apply_translation(BUN))

    def start_of(mesh: Mesh, config: Config = config) -> torch.Tensor | None:
        scene = painted(mesh)
        bank = RayBank(scene, 256, torch.device("cpu"), located=True)
        return tied_start(scene, bank, prior, HEAD_FROM_WORLD, config).beside

    assert start_of(head) is None
    found = start_of(concatenate([head, bun]))
    assert found is not None
    beyond = (np.linalg.norm(NODES - BUN, axis=-1) < 0.17) & (prior.mean_sdf.numpy() > 0.1)
    assert (found.numpy()[beyond] < 0).mean() > 0.8  # a head of the prior explains some of it
    assert np.linalg.norm(NODES[found.numpy() < 0] - BUN, axis=-1).max() < 0.65
    assert start_of(concatenate([head, bun]), replace(config, beside=BesideConfig(least=0))) is None

"""Photoconsistency between photos, on a painted ball: the truth costs nothing, and what is off is pulled back to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from avatar_kit.config import PatchesConfig
from avatar_kit.conventions import rotation_of, rotation_xyz_deg, similarity, transform_points
from avatar_kit.recon.patches import PhotoPatches, correlation
from avatar_kit.recon.pose import HeadPose
from avatar_kit.recon.rays import RayBank
from avatar_kit.recon.surface import SurfaceHits
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.types import Array, Camera, Photo, Scene

CPU = torch.device("cpu")
MM = 200.0
RADIUS = 0.5  # units
HEAD_FROM_WORLD = similarity(1.0 / MM, rotation_xyz_deg(5, -20, 10), np.array([0.1, 0.05, -0.1]))


def ball_hits(origins: Tensor, directions: Tensor, radius: Tensor | float) -> tuple[Tensor, Tensor]:
    """Differentiable first crossings (N, 3) of a ball around the origin, and which there are."""
    along = -(origins * directions).sum(-1)
    inside = radius**2 - (origins.square().sum(-1) - along.square())
    hit = inside > 1e-4
    return origins + directions * (along - inside.clamp_min(1e-4).sqrt())[:, None], hit


def paint(points: Array) -> Array:
    """Grey values of points in the head frame, with waves of 24 mm and more."""
    waves = np.random.default_rng(3).normal(0, 22, (3, 12))
    return 0.5 + 0.1 * np.sin(points @ waves + np.arange(12)).mean(-1) * 2.0


def photograph(yaw: float, size: int = 200, tone: Callable[[Array], Array] = lambda gray: gray) -> Photo:
    """The ball from `yaw` degrees in the world, with exact camera and mask."""
    camera = orbit_camera(yaw_deg=yaw, pitch_deg=5, distance=700, target=np.zeros(3), focal_px=2.2 * size, size=size)
    world_from_head = np.linalg.inv(HEAD_FROM_WORLD)
    world_from_head[:3, :3] = rotation_of(world_from_head)  # the camera orbits the head frame's origin, in millimetres
    camera = Camera(camera.intrinsics, world_from_head @ camera.world_from_camera, size, size)
    origins, directions = camera.rays(camera.pixel_grid().reshape(-1, 2))
    origins, directions = transform_points(HEAD_FROM_WORLD, origins), directions @ rotation_of(HEAD_FROM_WORLD).T
    points, hit = ball_hits(torch.from_numpy(origins), torch.from_numpy(directions), RADIUS)
    gray = np.where(hit.numpy(), tone(paint(points.numpy())), 0.3).reshape(size, size)
    return Photo(np.repeat(gray[..., None], 3, axis=2).astype(np.float32), hit.numpy().reshape(size, size), camera)


class Painted:
    """Two photos of the ball, 40 degrees apart, and what a fit would know of some rays."""

    def __init__(self, photos: list[Photo] | None = None, *, wide_octaves: int = 2, pairs: int = 600) -> None:
        self.photos = photos or [photograph(-20), photograph(20)]
        self.patches = PhotoPatches(self.photos, PatchesConfig(image_size=200, wide_octaves=wide_octaves, pairs=pairs, noise=1e-3), CPU)
        bank = RayBank(Scene(tuple(self.photos), tuple(range(len(self.photos))), "ball"), 100, CPU)
        self.world = bank.draw(1000, 1.0, torch.Generator().manual_seed(0))
        nodes = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, 41)] * 3, indexing="ij"), dim=-1)
        self.sdf, self.nodes = nodes.norm(dim=-1) - RADIUS, nodes

    def loss(
        self, radius: Tensor | float = RADIUS, pose: HeadPose | None = None, *, progress: float = 1.0, sdf: Tensor | None = None
    ) -> Tensor:
        """Per pair of a ray and another photo."""
        pose = pose or HeadPose(HEAD_FROM_WORLD, CPU)
        origins, directions, _ = pose.rays(self.world)
        points, hit = ball_hits(origins, directions, radius)
        normals = torch.nn.functional.normalize(points, dim=-1)
        hits = SurfaceHits(*(x[hit] for x in (points, normals, (normals * directions).sum(-1))))
        grid = self.sdf if sdf is None else sdf
        return self.patches.loss(pose, hits, self.world.photo[hit], grid, 700, torch.Generator().manual_seed(0), progress=progress)


def test_correlation_is_that_of_statistics_and_ignores_exposure() -> None:
    a, b = torch.randn(4, 25, generator=torch.Generator().manual_seed(1)), torch.randn(4, 25, generator=torch.Generator().manual_seed(2))
    expected = [np.corrcoef(x, y)[0, 1] for x, y in zip(a.numpy(), b.numpy(), strict=True)]
    np.testing.assert_allclose(correlation(a, b, 0.0).numpy(), expected, atol=1e-5)
    torch.testing.assert_close(correlation(a, 2.0 * a + 3.0, 0.0), torch.ones(4))
    torch.testing.assert_close(correlation(a, -a, 0.0), -torch.ones(4))
    assert correlation(a, torch.full_like(a, 0.4), 0.01).abs().max() < 1e-6
    assert correlation(1e-3 * a, 1e-3 * a, 0.01).max() < 0.05  # less contrast than noise


def test_projections_lead_back_to_the_pixels_of_the_rays() -> None:
    photos = [photograph(-20, 40), photograph(30, 60)]
    world = RayBank(Scene(tuple(photos), (0, 1), "ball"), 60, CPU).rays
    pixels = np.concatenate([photo.camera.pixel_grid().reshape(-1, 2) for photo in photos])
    for motions in (None, np.stack([similarity(1.0, rotation_xyz_deg(4, -6, 2), np.array([0.1, 0, 0.05])), np.eye(4)])):
        pose = HeadPose(HEAD_FROM_WORLD, CPU, motions)
        with torch.no_grad():
            pose.rotation.copy_(torch.tensor([0.1, -0.2, 0.05]))
            pose.translation.copy_(torch.tensor([0.01, 0.02, -0.03]))
            pose.log_scale.fill_(0.04)
            cameras = [
                torch.tensor(np.stack(x), dtype=torch.float32)
                for x in zip(*((p.camera.intrinsics, p.camera.camera_from_world) for p in photos))
            ]
            projections = pose.projections(*cameras)
            origins, directions, _ = pose.rays(world)
            seen = (
                torch.einsum("nij,nj->ni", projections[world.photo][..., :3], origins + 3.0 * directions) + projections[world.photo][..., 3]
            )
        np.testing.assert_allclose((seen[:, :2] / seen[:, 2:]).numpy(), pixels, atol=2e-3)


def test_the_truth_costs_nothing_and_errors_are_pulled_back() -> None:
    ball = Painted()
    truth = ball.loss().item()
    assert 0 <= truth < 0.02
    for radius, sign in ((RADIUS - 0.01, -1), (RADIUS + 0.01, 1)):  # 2 mm, three pixels between the photos
        r = torch.tensor(radius, requires_grad=True)
        loss = ball.loss(r)
        assert loss.item() > truth + 0.05
        (slope,) = torch.autograd.grad(loss, r)
        assert sign * slope.item() > 2.0


def test_exposure_of_a_photo_does_not_matter() -> None:
    darker = Painted([photograph(-20), photograph(20, tone=lambda gray: 0.7 * gray + 0.1)])
    assert darker.loss().item() == pytest.approx(Painted().loss().item(), abs=1e-2)


def test_pairs_that_disagree_lose_their_say_as_the_fit_goes_on() -> None:
    """A highlight: a bright spot that is on the ball of one photo alone."""
    spot = photograph(20)
    rows, columns = np.mgrid[:200, :200]
    spot.image[(rows - 100) ** 2 + (columns - 100) ** 2 < 15**2] += 0.3
    with_spot, without = Painted([photograph(-20), spot]), Painted()
    cost = [(with_spot.loss(progress=progress) - without.loss(progress=progress)).item() for progress in (0.0, 1.0)]
    assert 0 < cost[1] < 0.4 * cost[0]


def test_photos_of_other_sizes_are_compared_alike() -> None:
    assert Painted([photograph(-20), photograph(20, 160)]).loss().item() < 0.02


def test_a_camera_that_is_off_is_turned_back() -> None:
    ball = Painted()
    for degrees in (1.0, -1.0):
        motions = np.stack([np.eye(4), similarity(1.0, rotation_xyz_deg(0, degrees, 0), np.zeros(3))])
        pose = HeadPose(HEAD_FROM_WORLD, CPU, motions)
        loss = ball.loss(pose=pose)
        assert loss.item() > 0.05
        loss.backward()
        gradient = pose.camera_rotations.grad
        assert gradient is not None
        assert gradient[1, 1].item() * degrees > 0


def test_pairs_count_less_where_what_lies_around_them_differs() -> None:
    """A third of the surface is 12 mm off, the rest 2 mm."""
    pulls = []
    for wide_octaves in (0, 1):
        ball = Painted(wide_octaves=wide_octaves)
        upper = ball.world.directions[:, 1] > ball.world.directions[:, 1].quantile(2 / 3)
        radius = torch.where(upper, RADIUS + 0.06, RADIUS + 0.01).requires_grad_()
        (slope,) = torch.autograd.grad(ball.loss(radius, progress=0.0), radius)
        pulls.append((slope[upper].abs().sum() / slope[~upper].abs().sum()).item())
    assert pulls[1] < 0.5 * pulls[0]


def test_what_is_hidden_from_a_photo_is_not_compared() -> None:
    ball = Painted()
    wall = torch.minimum(ball.sdf, (ball.nodes - torch.tensor([0.0, 0.0, 0.75])).norm(dim=-1) - 0.12)
    assert 0 < ball.loss(RADIUS + 0.01, sdf=wall).item() < 0.9 * ball.loss(RADIUS + 0.01).item()
    assert ball.loss(RADIUS + 0.01, sdf=torch.where(ball.nodes.norm(dim=-1) > 0.7, -1.0, ball.sdf)).item() == 0.0


def test_photos_that_share_nothing_cost_nothing() -> None:
    assert Painted([photograph(-90), photograph(90)]).loss(RADIUS + 0.01).item() == 0.0


def test_a_photo_that_looks_away_is_not_compared() -> None:
    """The ball behind a camera would be seen upside down."""
    other = photograph(20)
    away = Camera(other.camera.intrinsics, other.camera.world_from_camera @ np.diag([-1.0, 1.0, -1.0, 1.0]), 200, 200)
    assert Painted([photograph(-20), dataclasses.replace(other, camera=away)]).loss(RADIUS + 0.01).item() == 0.0


def test_the_cost_does_not_depend_on_how_many_pairs_are_drawn() -> None:
    few, all_of_them = Painted(pairs=200).loss(RADIUS + 0.01).item(), Painted(pairs=10**6).loss(RADIUS + 0.01).item()
    assert few == pytest.approx(all_of_them, rel=0.15)


def test_spots_outside_a_mask_or_a_photo_are_not_compared() -> None:
    first, second = photograph(-20), photograph(20)
    half = second.mask.copy()
    half[:, :100] = False
    whole, masked = Painted([first, second]), Painted([first, dataclasses.replace(second, mask=half)])
    assert masked.loss(RADIUS + 0.01).item() < 0.75 * whole.loss(RADIUS + 0.01).item()
    camera = second.camera
    cropped = Photo(second.image[:, :100], second.mask[:, :100], Camera(camera.intrinsics, camera.world_from_camera, 100, camera.height))
    assert Painted([first, cropped]).loss().item() < 0.02


def test_spots_above_a_photo_are_not_compared_with_the_photo_over_it_in_the_stack() -> None:
    first, second = photograph(-20), photograph(20)
    head, foot = second.camera, first.camera
    intrinsics = head.intrinsics - np.array([[0, 0, 0], [0, 0, 70], [0, 0, 0]])  # without its crown
    below = Photo(second.image[70:], second.mask[70:], Camera(intrinsics, head.world_from_camera, head.width, head.height - 70))
    above = Photo(first.image[:130], first.mask[:130], Camera(foot.intrinsics, foot.world_from_camera, foot.width, 130))
    assert Painted([above, below]).loss().item() < 0.02

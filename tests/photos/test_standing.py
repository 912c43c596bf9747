"""Heads told from what is none by the coordinates of their pixels: balls through cameras whose poses are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sphere_pairs import sphere_pair

from avatar_kit.conventions import MM_PER_UNIT
from avatar_kit.normals.crop import NECK, whole_photo
from avatar_kit.normals.network import NormalMaps
from avatar_kit.normals.pose import HeadPose
from avatar_kit.normals.ray_frame import assumed_intrinsics
from avatar_kit.photos.find import find_heads
from avatar_kit.photos.standing import is_clear, share_of_head, standing, torso_between
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.types import Array, Camera, InputError

SIZE = 192


def maps_of(coordinates: Array, subject: Array, *, log_concentration: float = 3.0) -> NormalMaps:
    """What a network that is sure says of one crop, (S, S, 3) and (S, S)."""
    there = torch.from_numpy(np.ascontiguousarray(coordinates.transpose(2, 0, 1), np.float32))[None]
    found = torch.from_numpy(subject.astype(np.float32))[None]
    return NormalMaps(torch.zeros_like(there), found * 20 - 10, there, torch.full_like(found, log_concentration))


@pytest.fixture(scope="module")
def camera() -> Camera:
    focal = float(assumed_intrinsics(SIZE, SIZE)[0, 0])
    return orbit_camera(yaw_deg=25, pitch_deg=5, distance=3.0, target=np.zeros(3), focal_px=focal, size=SIZE)


def test_pixels_go_with_the_head_by_the_distance_of_their_coordinates(camera: Camera) -> None:
    pair = sphere_pair(camera)
    coordinates, crop = pair.coordinates.copy(), whole_photo(SIZE, SIZE)
    inner = np.zeros((SIZE, SIZE), bool)
    inner[90:100, 90:100] = True
    sideways = camera.world_from_camera[:3, 0]
    coordinates[inner] += 160 / MM_PER_UNIT * sideways
    maps = maps_of(coordinates, pair.foreground)
    pose = standing(maps, 0, crop, (SIZE, SIZE))
    np.testing.assert_allclose(pose.camera_from_head, camera.camera_from_world, atol=0.01)
    share = share_of_head(maps, 0, crop, (SIZE, SIZE), pose)
    assert share[pair.foreground & ~inner].min() > 0.999
    # twice as far as what halves the share, and a little less than 160 mm, in front of the middle where a unit is larger
    assert share[inner].mean() == pytest.approx(1 / 17, rel=0.1)


def test_shoulders_may_be_further_off_than_heads(camera: Camera) -> None:
    """The same offset of 100 mm above the height of the neck and below it."""
    pair, crop = sphere_pair(camera), whole_photo(SIZE, SIZE)
    pose = standing(maps_of(pair.coordinates, pair.foreground), 0, crop, (SIZE, SIZE))
    off = maps_of(pair.coordinates + 100 / MM_PER_UNIT * camera.world_from_camera[:3, 0], pair.foreground)
    head = share_of_head(off, 0, crop, (SIZE, SIZE), pose)[pair.foreground]
    raised = pose.camera_from_head.copy()
    raised[1, 3] -= 1.5  # the neck is above the picture now, and so is where all of it should be seen
    far = type(pose)(raised, 1.0)
    there = pair.coordinates + 1.5 * camera.world_from_camera[:3, 1] + 100 / MM_PER_UNIT * camera.world_from_camera[:3, 0]
    body = share_of_head(maps_of(there, pair.foreground), 0, crop, (SIZE, SIZE), far)[pair.foreground]
    assert head.mean() < 0.4
    assert body.mean() > 0.9


def test_a_torso_lies_between_what_is_seen_of_it_below_the_neck(camera: Camera) -> None:
    likely = np.zeros((SIZE, SIZE))
    likely[60:190, 40], likely[60:170, 150] = 0.9, 0.6  # two arms, one longer; the background's own 0.4 is none
    likely[60:190, 20] = 0.4
    neck = camera.project(np.array([0.0, NECK, 0.0]))[0][1]
    assert 100 < neck < 160
    expected = np.zeros((SIZE, SIZE), bool)
    expected[round(neck) : 170, 40:151], expected[170:190, 40] = True, True
    np.testing.assert_array_equal(torso_between(likely, HeadPose(camera.camera_from_world, 1.0)), expected)
    upside_down = np.diag([-1.0, -1.0, 1.0, 1.0]) @ camera.camera_from_world
    assert not torso_between(likely, HeadPose(upside_down, 1.0)).any()


def test_a_head_is_clear_and_noise_and_doubt_are_not(camera: Camera, rng: np.random.Generator) -> None:
    pair, crop = sphere_pair(camera), whole_photo(SIZE, SIZE)
    noise = np.where(pair.foreground[..., None], rng.uniform(-0.6, 0.6, pair.coordinates.shape), 0)
    assert is_clear(maps_of(pair.coordinates, pair.foreground), 0, crop, (SIZE, SIZE))
    assert not is_clear(maps_of(pair.coordinates, pair.foreground, log_concentration=1.5), 0, crop, (SIZE, SIZE))
    assert not is_clear(maps_of(noise, pair.foreground), 0, crop, (SIZE, SIZE))
    assert not is_clear(maps_of(pair.coordinates, np.zeros_like(pair.foreground)), 0, crop, (SIZE, SIZE))


class Decoder:
    """In place of a network: photos whose colours are coordinates. Subjects that cover less than `least` of the crop it does not see."""

    crop_px, finds_heads, in_ray_frame, device = SIZE, True, True, "cpu"

    def __init__(self, least: float) -> None:
        self.least = least

    def __call__(self, image: torch.Tensor) -> NormalMaps:
        seen = (image > 0.02).any(1)
        seen &= (seen.float().mean((1, 2)) > self.least).reshape(-1, 1, 1)
        coordinates = (image * 2 - 1) * seen[:, None]
        return NormalMaps(torch.zeros_like(image), seen.float() * 20 - 10, coordinates, torch.full_like(image[:, 0], 3.0))


def test_a_head_far_away_is_found_in_parts_of_the_photo(rng: np.random.Generator) -> None:
    height, width = 900, 600
    place = orbit_camera(yaw_deg=10, pitch_deg=0, distance=9.0, target=np.array([0.8, -1.0, 0.0]), focal_px=100, size=64)
    camera = Camera(assumed_intrinsics(height, width), place.world_from_camera, width, height)
    pair = sphere_pair(camera)
    image = np.where(pair.foreground[..., None], (pair.coordinates + 1) / 2, 0).astype(np.float32)
    rows, columns = np.nonzero(pair.foreground)
    for least in (0.0, 0.05):  # 1.5 % of the photo, some 6 % of a quarter of it
        (head,) = find_heads(image, Decoder(least), name="x")
        assert abs(head.left + head.side / 2 - columns.mean()) < 0.15 * head.side
        assert abs(head.top + head.side / 2 - rows.mean()) < 0.15 * head.side
        assert 0.6 < np.ptp(rows) / head.side < 0.9

    # a larger thing whose pixels do not agree is none, unless there is nothing else
    image[600:900, 100:400] = rng.uniform(0.3, 0.9, (300, 300, 3))
    (found,) = find_heads(image, Decoder(0.0), name="x")
    assert abs(found.top + found.side / 2 - rows.mean()) < 0.15 * found.side
    image[pair.foreground] = 0
    assert len(find_heads(image, Decoder(0.0), name="x")) >= 1
    with pytest.raises(InputError, match="no head found"):
        find_heads(0 * image, Decoder(0.0), name="x")

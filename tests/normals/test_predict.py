"""From a photo to maps on the photo: crops, frames, poses, files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sphere_pairs import BallNet, sphere_pair

from avatar_kit.conventions import MM_PER_UNIT
from avatar_kit.normals.crop import HEAD_SHARE, WIDE, Crop, crop_from_coordinates, crop_from_mask, whole_photo
from avatar_kit.normals.estimator import forward, mirrored
from avatar_kit.normals.network import NormalMaps
from avatar_kit.normals.pose import head_pose
from avatar_kit.normals.predict import predict_normals, predict_photos, predict_scene
from avatar_kit.normals.prediction import Prediction, check_frame, joined, preview
from avatar_kit.scene.cameras import orbit_camera, resized
from avatar_kit.scene.photo_file import read_mask, read_photo
from avatar_kit.types import Array, Camera, InputError, Photo, Scene


def photo_of_ball(width: int = 160, height: int = 120) -> tuple[Array, Array, Array]:
    """Photo, true normals and mask of a ball whose middle lies at (55, 70) px, 40 px wide."""
    camera = orbit_camera(yaw_deg=0, pitch_deg=0, distance=100.0, target=np.zeros(3), focal_px=100 / 0.6 * 20, size=8)
    intrinsics = camera.intrinsics.copy()
    intrinsics[:2, 2] = 55, 70
    pair = sphere_pair(Camera(intrinsics, camera.world_from_camera, width, height))
    return pair.image, pair.normals, pair.foreground


def test_crop_and_back_is_the_photo_inside_and_nothing_outside() -> None:
    photo = np.random.default_rng(0).random((40, 60, 3), np.float32)
    crop = Crop(10, 5, 32)
    cut = crop.cut(photo, 32)
    assert np.array_equal(cut, photo[5:37, 10:42])
    back = crop.paste(cut, 40, 60)
    assert np.array_equal(back[5:37, 10:42], photo[5:37, 10:42])
    assert back.sum() == pytest.approx(cut.sum(), rel=1e-4)


def test_crop_beyond_the_edge_and_resampled_comes_back_in_place() -> None:
    y, x = np.mgrid[:50, :70] + 0.5
    ramp = np.stack([x, y, x + y], axis=-1).astype(np.float32)
    crop = Crop.around(5, 45, 40)
    back = crop.paste(crop.cut(ramp, 160), 50, 70)
    rows, columns = slice(crop.top, 50), slice(0, crop.left + crop.side)
    assert np.abs(back[rows, columns] - ramp[rows, columns])[1:-1, 1:-1].max() < 0.2  # px
    assert not back[:10].any()


def person(height: int = 240, width: int = 200, *, shoulders: bool = True, head: int = 70) -> Array:
    """A mask: an elliptic head 0.78 as wide as high from row 30 on, a neck, shoulders."""
    y, x = np.mgrid[:height, :width] + 0.5
    mask = ((x - 100) / (0.39 * head)) ** 2 + ((y - 30 - head / 2) / (head / 2)) ** 2 < 1
    if shoulders:
        mask |= (np.abs(x - 100) < 0.22 * head) & (y > 30 + head / 2) & (y < 30 + head * 1.3)
        mask |= (np.abs(x - 100) < 1.1 * head) & (y > 30 + head * 1.25)
    return mask


@pytest.mark.parametrize("shoulders", [True, False])
@pytest.mark.parametrize("head", [40, 70, 100])
def test_mask_gives_the_head_not_the_shoulders(shoulders: bool, head: int) -> None:
    crop = crop_from_mask(person(shoulders=shoulders, head=head))
    assert crop.side == pytest.approx(head / HEAD_SHARE, rel=0.25)
    assert crop.left + crop.side / 2 == pytest.approx(100, abs=2)
    assert crop.top + crop.side / 2 == pytest.approx(30 + head / 2, abs=0.15 * head)


def test_empty_mask_is_refused() -> None:
    with pytest.raises(InputError, match="empty"):
        crop_from_mask(np.zeros((20, 20), bool))


def test_coordinates_refine_the_crop_and_leave_the_body_out() -> None:
    coordinates = np.zeros((64, 64, 3), np.float32)
    coordinates[40:, :, 1] = -0.9
    foreground = np.zeros((64, 64))
    foreground[16:64, 20:44] = 1  # head in rows 16 to 39, 24 px each way; body below
    crop = crop_from_coordinates(coordinates, foreground, Crop(100, 50, 128))
    assert crop is not None
    assert crop.side == pytest.approx(24 * 2 / HEAD_SHARE, abs=3)
    assert (crop.left + crop.side / 2, crop.top + crop.side / 2) == (pytest.approx(164, abs=2), pytest.approx(50 + 56, abs=2))
    coordinates[56:, :, 1] = 0.1  # further down than it ever saw, the network takes a belly for a face
    assert crop_from_coordinates(coordinates, foreground, Crop(100, 50, 128)) == crop
    speck = foreground.copy()
    speck[0, :6] = 1.0  # something above the head that passes for a piece of one, and below it a row of something else
    speck[1, :6], below = 1.0, coordinates.copy()
    below[1, :6, 1] = -1.0
    assert crop_from_coordinates(below, speck, Crop(100, 50, 128)) == crop
    assert crop_from_coordinates(coordinates, np.zeros((64, 64)), whole_photo(64, 64)) is None


@pytest.mark.parametrize("given", [True, False])
def test_prediction_lands_on_the_photo(given: bool) -> None:
    image, truth, mask = photo_of_ball()
    found = predict_normals(image, BallNet(), mask if given else None)  # pyright: ignore
    assert (found.mask & mask).sum() > 0.93 * (found.mask | mask).sum()
    both = found.mask & mask
    off = np.degrees(np.arccos(np.clip((found.normals * truth).sum(-1), -1, 1)))[both]
    assert off.mean() < 3.0  # the stand-in's ball is orthographic and measures its own radius
    assert np.allclose(np.linalg.norm(found.normals, axis=-1), found.mask, atol=1e-5)
    assert found.confidence[both].min() > 0.0
    assert 0.12 < np.median(found.confidence[both]) < 0.21  # 2 / kappa = 0.1 rad, less where the mirrored photo disagrees
    assert found.confidence[~found.mask].max() == 0.0
    assert 5.5 < np.median(found.expected_error_deg[both]) < 8  # 0.1 rad
    assert np.isinf(found.expected_error_deg[~found.mask]).all()
    assert preview(image, found).shape == (120, 640, 3)


def test_several_photos_are_each_themselves() -> None:
    image, _, mask = photo_of_ball()
    both = predict_photos([image, image[:, ::-1]], BallNet(), [None, mask[:, ::-1]])  # pyright: ignore
    assert np.abs(both[0].normals[..., 0] + both[1].normals[:, ::-1, 0])[mask].mean() < 0.1


def test_a_photo_without_a_head_and_maps_of_another_frame_are_refused() -> None:
    with pytest.raises(InputError, match="no head found"):
        predict_normals(np.zeros((64, 64, 3), np.float32), BallNet(), name="dark.jpg")  # pyright: ignore
    _, normals, mask = photo_of_ball()
    check_frame(normals, mask, "ball")
    for axis, flip in (("x", (-1, 1, 1)), ("y", (1, -1, 1)), ("z", (1, 1, -1))):
        with pytest.raises(InputError, match=f"normals' {axis} point the wrong way"):
            check_frame(normals * flip, mask, "ball")


def test_a_border_that_cuts_the_subject_is_no_outline() -> None:
    camera = orbit_camera(yaw_deg=0, pitch_deg=0, distance=4, target=np.zeros(3), focal_px=250, size=128)
    pair = sphere_pair(camera)
    for rows, columns in ((slice(64, None), slice(None)), (slice(None), slice(64, None)), (slice(None), slice(0, 64))):
        check_frame(pair.normals[rows, columns], pair.foreground[rows, columns], "half a ball")
    with pytest.raises(InputError, match="x point"):
        check_frame(pair.normals[64:] * (-1, 1, 1), pair.foreground[64:], "half a ball")


def test_mirrored_twice_is_the_same() -> None:
    maps = BallNet()(torch.rand(1, 3, 32, 32))
    assert all(torch.equal(a, b) for a, b in zip(mirrored(mirrored(maps)), maps))


@pytest.mark.parametrize("yaw_deg", [-80.0, 0.0, 35.0])
def test_pose_is_found_again_despite_wrong_pixels(yaw_deg: float, rng: np.random.Generator) -> None:
    camera = orbit_camera(yaw_deg=yaw_deg, pitch_deg=10, roll_deg=8, distance=4, target=np.array([0.1, 0, 0]), focal_px=250, size=128)
    pair = sphere_pair(camera)
    coordinates = pair.coordinates + rng.normal(0, 3 / MM_PER_UNIT, pair.coordinates.shape)
    wrong = rng.random(pair.foreground.shape) < 0.2
    coordinates[wrong] = rng.uniform(-0.6, 0.6, (wrong.sum(), 3))
    pose = head_pose(coordinates, pair.foreground, camera.intrinsics, confidence=np.ones_like(pair.foreground, np.float32))
    turn = pose.camera_from_head[:3, :3] @ camera.camera_from_world[:3, :3].T
    assert np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))) < 1.0
    assert np.linalg.norm(pose.camera_from_head[:3, 3] - camera.camera_from_world[:3, 3]) * MM_PER_UNIT < 15.0  # of 800 mm
    assert 0.6 < pose.inlier_share < 0.9
    with pytest.raises(InputError, match="pixels show the head"):
        head_pose(coordinates, np.zeros_like(pair.foreground), camera.intrinsics)


def test_pose_does_not_depend_on_the_size_of_the_picture() -> None:
    camera = orbit_camera(yaw_deg=20, pitch_deg=0, distance=4, target=np.zeros(3), focal_px=250, size=128)
    for size in (64, 256):
        other = resized(camera, size, size)
        pose = head_pose(sphere_pair(other).coordinates, sphere_pair(other).foreground, other.intrinsics)
        assert np.allclose(pose.camera_from_head, other.camera_from_world, atol=0.01)
        assert pose.inlier_share > 0.99


def test_pose_is_found_through_the_longest_lenses() -> None:
    """A ball that spans 0.4 degrees, which OpenCV's SQPNP refuses from its version 5 on."""
    camera = orbit_camera(yaw_deg=20, pitch_deg=0, distance=160, target=np.zeros(3), focal_px=10_000, size=128)
    pair = sphere_pair(camera)
    pose = head_pose(pair.coordinates, pair.foreground, camera.intrinsics)
    turn = pose.camera_from_head[:3, :3] @ camera.camera_from_world[:3, :3].T
    assert np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))) < 0.1
    assert pose.camera_from_head[2, 3] == pytest.approx(160, rel=0.01)


def test_coordinates_that_are_all_the_same_have_no_pose() -> None:
    coordinates = np.broadcast_to(np.array([0.0, 0.1, 0.5]), (64, 64, 3))
    with pytest.raises(InputError, match="No pose explains"):
        head_pose(coordinates, np.ones((64, 64), bool), np.diag([100.0, 100.0, 1.0]))


PICTURE = np.zeros((40, 64, 3), np.uint8)
PICTURE[:, :32] = (200, 100, 50)


def save(file: Path, picture: Image.Image, **options) -> Path:
    picture.save(file, **options)
    return file


def test_photos_of_every_kind_are_read(tmp_path: Path) -> None:
    rgb = Image.fromarray(PICTURE)
    expected = PICTURE.astype(np.float32) / 255
    plain = read_photo(save(tmp_path / "plain.png", rgb))
    assert np.allclose(plain.image, expected)
    assert plain.mask is None
    cmyk = read_photo(save(tmp_path / "cmyk.jpg", rgb.convert("CMYK"), quality=100))
    assert np.abs(cmyk.image - expected).mean() < 0.05
    grey16 = np.repeat(np.linspace(0, 65535, 64)[None], 40, 0).astype(np.uint16)
    deep = read_photo(save(tmp_path / "deep.png", Image.fromarray(grey16)))
    assert np.allclose(deep.image[..., 0], grey16 / 65535, atol=1 / 255)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    turned = read_photo(save(tmp_path / "turned.jpg", rgb, exif=exif, quality=100))
    assert turned.image.shape == (64, 40, 3)
    assert turned.image[:20].mean() > turned.image[-20:].mean() + 0.2
    alpha = Image.fromarray(np.dstack([PICTURE, np.uint8(255) * (PICTURE[..., 0] > 0)]))
    cut_out = read_photo(save(tmp_path / "alpha.png", alpha))
    assert cut_out.mask is not None
    assert np.array_equal(cut_out.mask, PICTURE[..., 0] > 0)


def test_huge_photos_are_shrunk(tmp_path: Path) -> None:
    huge = read_photo(save(tmp_path / "huge.jpg", Image.new("RGB", (9000, 6000), (10, 200, 30))), longest=1024)
    assert huge.image.shape == (683, 1024, 3)
    assert huge.size == (9000, 6000)


def test_what_is_no_photo_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("this is no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    whole = save(tmp_path / "whole.png", Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)))
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:2000])
    save(tmp_path / "pixel.png", Image.new("RGB", (1, 1)))
    for name in ("text.jpg", "empty.png", "cut.png", "pixel.png", "missing.png"):
        with pytest.raises(InputError, match=name):
            read_photo(tmp_path / name)


def test_masks_are_read_at_the_photos_size(tmp_path: Path) -> None:
    file = save(tmp_path / "mask.png", Image.fromarray(np.uint8(255) * (PICTURE[..., 0] > 0)))
    assert read_mask(file, (20, 32)).mean() == pytest.approx(0.5, abs=0.05)
    with pytest.raises(InputError, match="same shape"):
        read_mask(file, (64, 64))
    with pytest.raises(InputError, match="all black"):
        read_mask(save(tmp_path / "black.png", Image.new("L", (64, 40))), (40, 64))


def test_a_scene_goes_on_without_the_maps_of_one_photo_but_not_of_all() -> None:
    image, _, mask = photo_of_ball()
    camera = Camera(np.array([[200.0, 0, 80], [0, 200, 60], [0, 0, 1]]), np.eye(4), 160, 120)
    good = Photo(image.astype(np.float32), mask, camera, name="good.jpg")
    bad = dataclasses.replace(good, mask=np.zeros_like(mask), name="bad.jpg")
    with pytest.warns(UserWarning, match="Goes on without"):
        scene = predict_scene(Scene((good, bad), (0, 1), "two"), BallNet())
    first, second = scene.photos
    assert first.normals is not None
    assert first.confidence is not None
    assert second.normals is None
    with pytest.raises(InputError):
        predict_scene(Scene((bad,), (0,), "one"), BallNet())


def test_a_photo_with_normals_is_given_coordinates_alone_where_the_head_must_be_located() -> None:
    image, normals, mask = photo_of_ball()
    camera = Camera(np.array([[200.0, 0, 80], [0, 200, 60], [0, 0, 1]]), np.eye(4), 160, 120)
    given = Photo(image.astype(np.float32), mask, camera, normals=normals.astype(np.float32))
    alone = predict_scene(Scene((given,), (0,), "one"), BallNet())
    assert alone.photos[0].normals is given.normals
    assert alone.photos[0].confidence is None
    assert alone.photos[0].coordinates is not None
    stated = predict_scene(Scene((given,), (0,), "stated", head_from_world=np.eye(4)), BallNet())
    assert stated.photos[0].coordinates is None


def test_a_network_that_finds_no_heads_gives_no_coordinates() -> None:
    image, _, mask = photo_of_ball()
    camera = Camera(np.array([[200.0, 0, 80], [0, 200, 60], [0, 0, 1]]), np.eye(4), 160, 120)
    net = BallNet()
    net.finds_heads = False  # as those of others
    (photo,) = predict_scene(Scene((Photo(image.astype(np.float32), mask, camera),), (0,), "one"), net).photos
    assert photo.normals is not None
    assert photo.coordinates is None


def test_the_wider_look_costs_nothing_where_it_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    image, _, mask = photo_of_ball()
    cut, made = Crop.cut, list[Crop]()

    def counted(self: Crop, photo: Array, size: int) -> Array:
        made.append(self)
        return cut(self, photo, size)

    monkeypatch.setattr(Crop, "cut", counted)
    near = predict_normals(image, BallNet(), mask, wide=False).crop
    assert near in made
    assert near.larger(WIDE) not in made
    predict_normals(image, BallNet(), mask, wide=True)
    assert near.larger(WIDE) in made


def test_two_looks_that_disagree_go_over_into_each_other() -> None:
    """Of two maps that are 40 degrees apart, the closer one's in the middle of its crop, the wider one's outside, no jump between them."""
    half = np.radians(20)
    crop, subject = Crop(16, 16, 64), np.zeros((96, 96), bool)
    subject[8:88, 30:60] = True

    def look(angle: float, there: Array) -> Prediction:
        on = (subject & there).astype(np.float32)
        normals = on[..., None] * np.array([0.0, np.sin(angle), -np.cos(angle)])
        return Prediction(normals, on, on[..., None] * np.ones(3) * angle, on, crop)

    inside = np.zeros((96, 96), bool)
    inside[16:80, 16:80] = True
    both = joined(look(-half, inside), look(half, np.ones_like(inside)))
    tilt = np.degrees(np.arctan2(both.normals[..., 1], -both.normals[..., 2]))
    assert np.array_equal(both.mask, subject)
    np.testing.assert_allclose(np.linalg.norm(both.normals, axis=-1), subject, atol=1e-5)
    assert tilt[48, 45] == pytest.approx(-20, abs=0.1)
    assert tilt[82, 45] == pytest.approx(20, abs=0.1)
    assert np.abs(np.diff(tilt[8:88, 45])).max() < 9
    np.testing.assert_allclose(both.coordinates[[48, 82], 45, 0], [-half, half], atol=1e-3)
    np.testing.assert_allclose(both.confidence[[48, 82], 45], [1.0, 0.5], atol=1e-3)


def test_what_a_look_says_off_its_subject_does_not_count() -> None:
    """The closer look has no subject and random normals there; along its rim the wider one's mask still holds, and its normals alone."""
    crop, ones = Crop(16, 16, 64), np.ones((96, 96), np.float32)
    sideways, facing = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, -1.0])
    near = Prediction(ones[..., None] * sideways, 0 * ones, ones[..., None] * sideways, ones, crop)
    far = Prediction(ones[..., None] * facing, ones, ones[..., None] * facing, ones, crop)
    both = joined(near, far)
    rim = both.mask & (crop.paste(np.ones((64, 64), np.float32), 96, 96) > 0)
    assert rim.any()
    assert not both.mask[48, 48]
    np.testing.assert_allclose(both.normals[rim], np.broadcast_to(facing, (rim.sum(), 3)), atol=1e-6)
    np.testing.assert_allclose(both.coordinates[rim], np.broadcast_to(facing, (rim.sum(), 3)), atol=1e-6)
    np.testing.assert_allclose(both.confidence[rim], 0.5, atol=1e-6)


class Leaning(torch.nn.Module):
    """Sees every picture's surface leaning by an angle to the right, mirrored or not."""

    def __init__(self, degrees: float, concentration: float) -> None:
        super().__init__()
        self.lean, self.log_concentration = np.radians(degrees), np.log(concentration)

    def forward(self, image: torch.Tensor) -> NormalMaps:
        one = torch.ones_like(image[:, :1])
        normals = torch.cat([np.sin(self.lean) * one, 0 * one, -np.cos(self.lean) * one], dim=1)
        return NormalMaps(normals, one[:, 0], normals, self.log_concentration * one[:, 0])


@pytest.mark.parametrize("degrees", [0.0, 15.0])
def test_disagreement_with_the_mirror_image_costs_confidence(degrees: float) -> None:
    """The expected error, 2 over the concentration, and half the angle between the two looks add up as independent errors do."""
    crop, net = np.zeros((32, 32, 3), np.float32), Leaning(degrees, 10.0)
    alone, both = forward(net, [crop], flips=False), forward(net, [crop], flips=True)
    assert alone.normals[0, 0, 0, 0] == pytest.approx(np.sin(np.radians(degrees)))
    np.testing.assert_allclose(both.normals[0, :, 0, 0], (0, 0, -1), atol=1e-6)
    np.testing.assert_allclose(both.log_concentration.numpy(), np.log(2 / np.hypot(2 / 10, np.radians(degrees))), atol=1e-3)

"""Plain photos: what is read, what is found on them, and what is refused in words. The photos are the bundled scene's."""

from __future__ import annotations

import dataclasses
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_fill_holes

from avatar_kit import load_prior
from avatar_kit.backends import BackendMissing
from avatar_kit.config import MeshConfig
from avatar_kit.mesh.extraction import extract
from avatar_kit.normals.evaluate import angle_between_deg
from avatar_kit.normals.network import NormalNet
from avatar_kit.normals.storage import load_estimator
from avatar_kit.photos.contact import contact_sheet, estimates
from avatar_kit.photos.find import find_heads, guided_filter, without_holes
from avatar_kit.photos.focal import with_focal_lengths
from avatar_kit.photos.folder import PlainPhoto, check_there, is_plain, photo_files, read_plain_photos
from avatar_kit.photos.scene import PlainScene, scene_from_photos
from avatar_kit.photos.understand import pose_again, understand, view_angles_deg
from avatar_kit.scene import photo_file
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.scene.h3ds import H3dsFolder
from avatar_kit.scene.photo_file import FULL_FRAME_DIAGONAL_MM, read_photo
from avatar_kit.types import Array, InputError

DEMO = Path(str(resources.files("avatar_kit") / "weights" / "demo"))


@pytest.fixture(scope="module")
def net() -> NormalNet:
    return load_estimator(None)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled scene's photos without cameras and masks."""
    place = tmp_path_factory.mktemp("photos")
    for file in sorted((DEMO / "image").iterdir()):
        (place / file.name).write_bytes(file.read_bytes())
    return place


@pytest.fixture(scope="module")
def plain(folder: Path, net: NormalNet) -> PlainScene:
    return scene_from_photos(folder, net)


def photo(number: int = 0) -> Array:
    return read_photo(DEMO / f"image/img_{number:04d}.jpg").image


def save(file: Path, image: Array, **options: object) -> Path:
    Image.fromarray(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)).save(file, **options)  # type: ignore[arg-type]
    return file


def test_angles_of_a_camera_are_those_it_was_placed_with() -> None:
    for yaw, pitch, roll in ((0, 0, 0), (40, 10, 5), (-75, -20, -12), (120, 5, 0)):
        camera = orbit_camera(yaw_deg=yaw, pitch_deg=pitch, roll_deg=roll, distance=900, target=np.zeros(3), focal_px=500, size=100)
        np.testing.assert_allclose(view_angles_deg(camera.world_from_camera), (yaw, pitch, roll), atol=1e-6)


def test_heads_are_found_with_their_masks_and_cameras(plain: PlainScene) -> None:
    """Within what the network can do: coordinates of 7 mm on faces, that is some 6 degrees."""
    truth = H3dsFolder(DEMO)
    assert len(plain.understood) == len(truth.view_ids)
    assert not plain.left_out
    true = [truth.photo(view).camera.world_from_camera[:3, :3] for view in truth.view_ids]
    found = [seen.photo.camera.world_from_camera[:3, :3] for seen in plain.understood]
    turned = [angle_between_deg(true[0].T @ t, found[0].T @ f) for t, f in zip(true[1:], found[1:], strict=True)]
    assert np.median(turned) < 12.0
    for seen, view in zip(plain.understood, truth.view_ids, strict=True):
        assert 400 < seen.distance_mm < 2000
        k, mask = seen.photo.camera.intrinsics, truth.photo(view).mask
        scale = k[0, 0] / seen.focal_px
        rows, columns = np.mgrid[: seen.photo.camera.height, : seen.photo.camera.width] + 0.5
        x, y = (columns - k[0, 2]) / scale + mask.shape[1] / 2, (rows - k[1, 2]) / scale + mask.shape[0] / 2
        same = mask[np.clip(y, 0, mask.shape[0] - 1).astype(int), np.clip(x, 0, mask.shape[1] - 1).astype(int)]
        assert (same & seen.photo.mask).sum() / (same | seen.photo.mask).sum() > 0.93


def test_views_are_chosen_by_the_estimated_angles(folder: Path, net: NormalNet) -> None:
    three = scene_from_photos(folder, net, views=3)
    yaws = [seen.yaw_deg for seen in three.understood]
    assert abs(yaws[0]) < 15
    assert 25 < yaws[1] < 65
    assert -65 < yaws[2] < -25
    assert set(three.left_out.values()) == {"not needed"}
    with pytest.raises(InputError, match="--views 6"):
        scene_from_photos(folder, net, views=9)


def test_the_focal_length_of_exif_is_taken_and_perspective_says_the_rest(tmp_path: Path, net: NormalNet) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 50  # 35 mm equivalent
    save(tmp_path / "a.jpg", photo(), exif=exif)
    read = next(read_plain_photos(tmp_path))
    assert read.focal_px == pytest.approx(50 * np.hypot(*read.image.shape[:2]) / FULL_FRAME_DIAGONAL_MM)
    assert next(read_plain_photos(tmp_path, focal_mm=100.0)).focal_px == pytest.approx(2 * read.focal_px)
    seen = understand(read, net)
    assert seen.focal_source == "exif"
    silent = understand(dataclasses.replace(read, focal_px=None), net)
    (estimated,) = with_focal_lengths([silent])
    true = H3dsFolder(DEMO).photo(0).camera.intrinsics[0, 0]
    assert abs(np.log(estimated.focal_px / true)) < np.log(1.6)
    assert with_focal_lengths([seen]) == [seen]


def test_a_head_nearer_than_an_arm_is_a_cropped_photos_unless_the_user_says_otherwise(tmp_path: Path, net: NormalNet) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 10
    save(tmp_path / "a.jpg", photo(), exif=exif)
    (cropped,) = with_focal_lengths([understand(next(read_plain_photos(tmp_path)), net)])
    assert cropped.focal_source == "cropped"
    assert cropped.distance_mm == pytest.approx(800, rel=0.1)
    assert any("taken for a cropped photo" in note for note in cropped.notes)
    (stated,) = with_focal_lengths([understand(next(read_plain_photos(tmp_path, focal_mm=10.0)), net)])
    assert stated.focal_source == "stated"
    assert stated.distance_mm < 450


def test_another_focal_length_turns_normals_with_their_rays(net: NormalNet) -> None:
    seen = understand(PlainPhoto("a.jpg", photo(), None, None), net)
    there = pose_again(seen, 2 * seen.focal_px)
    back = pose_again(there, seen.focal_px)
    assert there.distance_mm == pytest.approx(2 * seen.distance_mm, rel=0.15)
    assert seen.photo.normals is not None
    assert back.photo.normals is not None
    np.testing.assert_allclose(back.photo.normals, seen.photo.normals, atol=1e-3)
    np.testing.assert_allclose(back.photo.camera.world_from_camera, seen.photo.camera.world_from_camera, atol=1.0)


def test_of_several_people_the_largest_head_is_used_or_the_one_asked_for(net: NormalNet) -> None:
    one = photo()
    small = cv2.resize(one, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    both = np.ones((one.shape[0], one.shape[1] + small.shape[1], 3), np.float32) * one[0, 0]
    both[:, : one.shape[1]] = one
    both[-small.shape[0] :, one.shape[1] :] = small
    crops = find_heads(both, net, name="both")
    assert len(crops) == 2
    assert crops[0].left + crops[0].side / 2 < one.shape[1] < crops[1].left + crops[1].side / 2
    seen = understand(PlainPhoto("both.jpg", both, None, None), net)
    assert any("2 people" in note for note in seen.notes)
    assert seen.crop.left + seen.crop.side / 2 < one.shape[1]
    assert understand(PlainPhoto("both.jpg", both, None, None), net, person=2).crop.left > one.shape[1] / 2
    with pytest.raises(InputError, match="person"):
        understand(PlainPhoto("both.jpg", both, None, None), net, person=3)


def test_photos_that_cannot_be_used_say_why(net: NormalNet) -> None:
    good = photo()

    def refused(image: Array, words: str) -> None:
        with pytest.raises(InputError, match=words):
            understand(PlainPhoto("x.jpg", np.asarray(image, np.float32), None, None), net)

    refused(np.full((300, 300, 3), 0.5), "no head")
    tiny = np.full((1024, 1024, 3), good[0, 0])
    tiny[400:490, 400:490] = cv2.resize(good, (90, 90), interpolation=cv2.INTER_AREA)
    refused(tiny, "px long")
    head = find_heads(good, net, name="x")[0]
    refused(good[:, head.left + head.side // 2 :], "cut off")
    refused(good[: head.top + 9 * head.side // 20], "cut off")
    refused(good * 0.05, "dark")
    refused(cv2.GaussianBlur(good, None, 9.0), "sharper")  # type: ignore[call-overload]
    blurred = understand(PlainPhoto("x.jpg", cv2.GaussianBlur(good, None, 6.0), None, None), net)  # type: ignore[call-overload]
    assert any("blurred" in note for note in blurred.notes)
    assert not any("blurred" in note for note in understand(PlainPhoto("x.jpg", good, None, None), net).notes)


def test_photos_that_do_not_belong_together_are_named(tmp_path: Path, net: NormalNet) -> None:
    save(tmp_path / "a.jpg", photo(0), quality=95)
    save(tmp_path / "b.jpg", photo(0), quality=70)
    save(tmp_path / "b2.jpg", cv2.resize(photo(0), None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA), quality=50)
    save(tmp_path / "b3.jpg", photo(0) * 1.1)
    save(tmp_path / "c.png", photo(2) * (0.55, 0.8, 1.0))  # in blue light
    save(tmp_path / "d.jpg", photo(3))
    (tmp_path / "notes.txt").write_text("not a photo")
    found = scene_from_photos(tmp_path, net)
    assert found.left_out == dict.fromkeys(("b.jpg", "b2.jpg", "b3.jpg"), "is the same photo as a.jpg")
    assert [note.split(":")[0] for note in found.notes] == ["c.png"]


def test_a_photo_that_cannot_be_read_is_left_out(tmp_path: Path, net: NormalNet) -> None:
    save(tmp_path / "a.jpg", photo(0))
    save(tmp_path / "c.jpg", photo(2))
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "masks").mkdir()
    Image.fromarray(H3dsFolder(DEMO).photo(0).mask).save(tmp_path / "masks/a.png")
    found = scene_from_photos(tmp_path, net, masks=tmp_path / "masks")
    assert [seen.name for seen in found.understood] == ["a.jpg", "c.jpg"]
    assert found.left_out["b.jpg"].startswith("cannot be read")
    assert found.notes[0] == f"no mask in {tmp_path / 'masks'} for c.jpg: predicted"


def test_a_photo_that_nothing_installed_can_read_is_left_out(tmp_path: Path, net: NormalNet, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.jpg", photo(0))
    (tmp_path / "b.heic").write_bytes(b"anything")

    def missing(*_: object) -> None:
        raise BackendMissing("nothing that is installed can read HEIC photos")

    monkeypatch.setattr(photo_file, "pick", missing)
    found = scene_from_photos(tmp_path, net)
    assert [seen.name for seen in found.understood] == ["a.jpg"]
    assert "can read HEIC" in found.left_out["b.heic"]


def test_what_is_neither_photos_nor_a_scene_is_said_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a photo")
    for path, says in (
        (tmp_path, "holds no photos"),
        (tmp_path / "notes.txt", "is no photo by its name"),
        (tmp_path / "me.jpg", "no such file"),
    ):
        with pytest.raises(InputError, match=says):
            check_there(path)
    save(tmp_path / "me.jpg", np.zeros((40, 40, 3)))
    for path in (tmp_path, tmp_path / "me.jpg", DEMO):
        check_there(path)


def test_a_folder_without_a_usable_photo_is_refused_with_every_reason(tmp_path: Path, net: NormalNet) -> None:
    save(tmp_path / "grey.png", np.full((200, 200, 3), 0.5))
    with pytest.raises(InputError, match=r"grey\.png: no head"):
        scene_from_photos(tmp_path, net)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no photos"):
        read_plain_photos(tmp_path / "empty")


def test_masks_are_taken_from_a_folder_or_from_alpha(tmp_path: Path) -> None:
    truth = H3dsFolder(DEMO).photo(0)
    save(tmp_path / "a.jpg", truth.image)
    (tmp_path / "masks").mkdir()
    Image.fromarray(truth.mask).save(tmp_path / "masks/a.png")
    rgba = np.dstack([truth.image, truth.mask.astype(np.float32)])
    save(tmp_path / "b.png", rgba)
    a, b = read_plain_photos(tmp_path, masks=tmp_path / "masks")
    assert a.mask is not None
    assert b.mask is not None
    assert (a.mask == truth.mask).all()
    assert (b.mask == truth.mask).all()


def test_photos_are_read_one_at_a_time(tmp_path: Path) -> None:
    save(tmp_path / "a.png", np.full((40, 40, 3), 0.5))
    (tmp_path / "b.png").write_text("no picture")
    photos = read_plain_photos(tmp_path)
    assert next(photos).name == "a.png"
    with pytest.raises(InputError, match=r"b\.png"):
        next(photos)


def test_plain_folders_are_told_from_scenes(tmp_path: Path) -> None:
    assert not is_plain(DEMO)
    assert not is_plain(tmp_path)
    for number in (10, 9):
        save(tmp_path / f"p{number}.png", np.zeros((40, 40, 3)))
    assert is_plain(tmp_path)
    assert is_plain(tmp_path / "p9.png")
    assert [file.name for file in photo_files(tmp_path)] == ["p9.png", "p10.png"]


def test_a_guided_filter_brings_an_edge_to_the_photos(rng: np.random.Generator) -> None:
    image = np.zeros((40, 60, 3), np.float32)
    image[:, 30:] = 0.8
    soft = np.clip((np.arange(60) - 20) / 14, 0, 1)[None].repeat(40, 0)  # 0.5 at column 27, three pixels off
    refined = guided_filter(image + rng.normal(0, 0.01, image.shape).astype(np.float32), soft, 6, 1e-3)
    assert (np.argmax(refined > 0.5, axis=1) == 30).all()
    flat = guided_filter(np.full((40, 60, 3), 0.5, np.float32), np.full((40, 60), 0.3), 6, 1e-3)
    np.testing.assert_allclose(flat, 0.3, atol=1e-5)


def test_holes_are_filled_and_bays_are_not_but_below() -> None:
    mask = np.zeros((9, 12), bool)
    mask[1:9, 1:11] = True
    mask[3:5, 3:5] = False  # a hole
    mask[5, 8:] = False  # a bay
    mask[7:9, 4:6] = False  # what a body that goes on below the picture surrounds
    filled = without_holes(mask)
    assert filled[3:5, 3:5].all()
    assert not filled[5, 8:].any()
    assert filled[7:9, 4:6].all()
    assert not filled[0].any()
    rng = np.random.default_rng(1)
    for _ in range(20):
        mask = rng.random((30, 40)) < 0.6
        closed = np.concatenate([mask, np.ones((1, 40), bool)])
        np.testing.assert_array_equal(without_holes(mask), binary_fill_holes(np.pad(closed, ((0, 0), (1, 1))))[:-1, 1:-1])


def test_the_sheet_shows_every_photo_and_the_json_every_estimate(plain: PlainScene) -> None:
    prior = load_prior()
    head = extract(prior.field, prior.mean_latent, MeshConfig(resolution=48, coarse=24, extractor="warp"))
    sheet = contact_sheet(plain, head)
    assert sheet.width == 288 * len(plain.understood)
    said = estimates(plain)
    assert [entry["name"] for entry in said["photos"]] == [seen.name for seen in plain.understood]
    assert all(entry["focal_source"] == "estimated" and 0 < entry["agreement"] <= 1 for entry in said["photos"])

"""Reading and writing scene folders; every defect gives a message that names the file and the remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avatar_kit.conventions import rotation_xyz_deg, similarity
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.scene.capture import add_normals, capture_head
from avatar_kit.scene.h3ds import H3dsFolder, read_normal_map, write_normal_map, write_scene
from avatar_kit.scene.views import choose_views, load_scene, nearest_to_layout
from avatar_kit.types import Head, InputError, Mesh, Photo


@pytest.fixture
def scene_folder(tmp_path: Path, sphere: Mesh, rng: np.random.Generator) -> Path:
    head = Head("ball", {"body": sphere}, landmarks={"nose_tip": np.array([0, 0, 0.5])})
    photos, reference = capture_head(head, size=96, views=6, rng=rng)
    notes = {"view_configs": {"3": [0, 2, 3]}, "units": "mm"}
    write_scene(tmp_path / "ball", photos, reference=reference, notes=notes)
    return tmp_path / "ball"


def test_round_trip(scene_folder: Path) -> None:
    folder = H3dsFolder(scene_folder)
    scene = folder.scene([0, 2])
    assert [photo.name for photo in scene.photos] == ["image/img_0000.jpg", "image/img_0002.jpg"]
    photo = scene.photos[0]
    assert photo.image.shape == (96, 96, 3)
    assert photo.image.dtype == np.float32
    assert photo.normals is not None
    reference = folder.reference()
    assert reference is not None
    radius = np.linalg.norm(reference.mesh.vertices - reference.mesh.vertices.mean(0), axis=1)
    np.testing.assert_allclose(radius, 100, atol=2.0)  # 0.5 units of 200 mm
    centre = reference.mesh.vertices.mean(0)
    for size, inside in ((0.9, 1.0), (0.0, 1.0)):
        pixels, _ = photo.camera.project(centre + size * (reference.mesh.vertices - centre))
        assert photo.mask[tuple(np.floor(pixels).astype(int).T[::-1])].mean() == inside
    assert photo.mask.mean() == pytest.approx(np.pi * (100 / 860 * 192) ** 2 / 96**2, rel=0.15)  # a disc, 820 to 900 mm away


def test_normals_face_the_camera_and_point_outwards(scene_folder: Path) -> None:
    photo = load_scene(scene_folder, views=1).photos[0]
    assert photo.normals is not None
    normals = photo.normals[photo.mask]
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-4)
    rows, columns = np.nonzero(photo.mask)
    middle = (np.abs(rows - rows.mean()) < 3) & (np.abs(columns - columns.mean()) < 3)
    assert (normals[middle] @ (0, 0, -1) > 0.98).all()
    right, low = columns > columns.max() - 4, rows > rows.max() - 4
    assert (normals[right][:, 0] > 0.7).all()
    assert (normals[low][:, 1] > 0.7).all()


@pytest.mark.parametrize(("bits", "degrees"), [(16, 0.01), (8, 0.6)])
def test_normal_maps_survive_the_file(tmp_path: Path, rng: np.random.Generator, bits: int, degrees: float) -> None:
    normals = rng.normal(size=(20, 30, 3)).astype(np.float32)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    normals[:5] = 0
    write_normal_map(tmp_path / "n.png", normals, bits=bits)
    back = read_normal_map(tmp_path / "n.png")
    assert np.array_equal(back[:5], np.zeros((5, 30, 3)))
    angle = np.degrees(np.linalg.norm(np.cross(back[5:], normals[5:]), axis=-1))
    assert angle.max() < degrees


def test_normals_can_be_added_to_a_scene_with_a_truth(scene_folder: Path) -> None:
    before = read_normal_map(scene_folder / "normal/normal_0001.png")
    for file in (scene_folder / "normal").iterdir():
        file.unlink()
    assert add_normals(scene_folder) == 6
    after = read_normal_map(scene_folder / "normal/normal_0001.png")
    both = (np.abs(before).sum(-1) > 0) & (np.abs(after).sum(-1) > 0)
    cosine = (before * after).sum(-1)[both]
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean() < 1.5  # the first were averaged over 2 x 2 samples


def _drop_mask(path: Path) -> None:
    (path / "mask/mask_0002.png").unlink()


def _shrink_mask(path: Path) -> None:
    Image.fromarray(np.zeros((50, 96), np.uint8)).save(path / "mask/mask_0002.png")


def _white_mask(path: Path) -> None:
    Image.fromarray(np.full((96, 96), 255, np.uint8)).save(path / "mask/mask_0002.png")


def _black_mask(path: Path) -> None:
    Image.fromarray(np.zeros((96, 96), np.uint8)).save(path / "mask/mask_0002.png")


def _corrupt_photo(path: Path) -> None:
    data = (path / "image/img_0002.jpg").read_bytes()
    (path / "image/img_0002.jpg").write_bytes(data[: len(data) // 3])


def _edit_cameras(path: Path, change: str) -> None:
    with np.load(path / "cameras.npz") as pack:
        arrays = {name: pack[name] for name in pack.files}
    if change == "drop":
        del arrays["world_mat_2"]
    elif change == "nan":
        arrays["world_mat_2"][0, 0] = np.nan
    else:
        arrays["world_mat_2"] = arrays["world_mat_2"] @ np.diag([-1.0, 1, 1, 1])
    np.savez(path / "cameras.npz", **arrays)


def _write_notes(notes: object) -> Callable[[Path], object]:
    return lambda path: (path / "views.json").write_text(json.dumps(notes))


DEFECTS = {
    "missing mask": (_drop_mask, "mask_0002.png: missing.*Add a mask"),
    "mask of another size": (_shrink_mask, "mask_0002.png: is 96 x 50.*same size"),
    "white mask": (_white_mask, "mask_0002.png: is all white"),
    "black mask": (_black_mask, "mask_0002.png: is all black"),
    "corrupt photo": (_corrupt_photo, "img_0002.jpg: cannot be read.*Export"),
    "camera missing": (lambda path: _edit_cameras(path, "drop"), "cameras.npz: lacks world_mat_2.*Add it"),
    "camera with NaN": (lambda path: _edit_cameras(path, "nan"), "cameras.npz: world_mat_2 holds NaN.*export it again"),
    "mirrored camera": (lambda path: _edit_cameras(path, "mirror"), "cameras.npz: world_mat_2 is mirrored"),
    "notes that are a list": (_write_notes([]), r"views\.json: must hold an object"),
    "no lists of views": (_write_notes({"view_configs": {"3": 2}}), r"views\.json: view_configs must list .*\[0, 2, 3\]"),
    "views that are no numbers": (_write_notes({"view_configs": {"3": ["a"]}}), r"views\.json: view_configs must list"),
    "fewer views than promised": (_write_notes({"view_configs": {"3": [0, 1]}}), r"views\.json: view_configs must list"),
    "a view three times": (_write_notes({"view_configs": {"3": [0, 0, 0]}}), r"views\.json: view_configs must list"),
    "view_configs as a list": (_write_notes({"view_configs": [0, 2, 3]}), r"views\.json: view_configs must list"),
    "a unit that is no word": (_write_notes({"units": ["mm"]}), r"views\.json: units .* is unknown"),
    "a place that is no matrix": (_write_notes({"head_from_world": [0, 0, 1]}), r"views\.json: head_from_world must be a 4 x 4 similarity"),
    "a place in words": (_write_notes({"head_from_world": "here"}), "head_from_world must be a 4 x 4 similarity"),
    "a place that is not finite": (_write_notes({"head_from_world": np.diag([np.nan, 1, 1, 1]).tolist()}), "head_from_world must be"),
    "a mirrored place": (_write_notes({"head_from_world": np.diag([-1.0, 1, 1, 1]).tolist()}), "head_from_world must be"),
    "a place that is squeezed": (_write_notes({"head_from_world": np.diag([1.0, 2, 1, 1]).tolist()}), "head_from_world must be"),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_defects_are_named_with_file_and_remedy(scene_folder: Path, name: str) -> None:
    load_scene(scene_folder, views=3)
    damage, message = DEFECTS[name]
    damage(scene_folder)
    with pytest.raises(InputError, match=message):
        load_scene(scene_folder, views=3)


def test_more_views_than_photos(scene_folder: Path) -> None:
    with pytest.raises(InputError, match=r"found 6 photos, --views asked for 9\. Use --views 1 to 6"):
        load_scene(scene_folder, views=9)


def test_a_stated_place_is_read_as_it_was_rounded(scene_folder: Path) -> None:
    stated = np.round(similarity(0.005, rotation_xyz_deg(10, 20, 30), np.array([0.1, 0.2, 0.3])), 5)
    (scene_folder / "views.json").write_text(json.dumps({"head_from_world": stated.tolist()}))
    np.testing.assert_array_equal(load_scene(scene_folder, views=1).head_from_world, stated)
    (scene_folder / "views.json").write_text(json.dumps({"head_from_world": None}))
    assert load_scene(scene_folder, views=1).head_from_world is None


def test_two_views_are_a_frontal_one_and_one_from_a_side() -> None:
    yaw_pitch = np.array([[-90.0, 0], [-45, 0], [3, 0], [45, 0], [90, 0]])
    assert nearest_to_layout(yaw_pitch, 2) == [2, 3]


def test_views_follow_the_scene_else_the_papers_layout(scene_folder: Path) -> None:
    assert choose_views(H3dsFolder(scene_folder), 3) == [0, 2, 3]
    (scene_folder / "views.json").write_text(json.dumps({}))
    folder = H3dsFolder(scene_folder)
    assert choose_views(folder, 3)[1:] == [2, 3]
    assert choose_views(folder, 1)[0] in (0, 1)
    assert choose_views(folder, 6) == [0, 1, 2, 3, 4, 5]


def test_without_a_number_three_views_are_used_or_all_there_are(scene_folder: Path) -> None:
    assert load_scene(scene_folder).view_ids == (0, 2, 3)
    for view in range(2, 6):
        (scene_folder / f"image/img_{view:04d}.jpg").unlink()
    (scene_folder / "views.json").write_text(json.dumps({}))
    assert load_scene(scene_folder).view_ids == (0, 1)


def _ring(tmp_path: Path, yaws_deg: list[float], turned_deg: float, *, stated: bool) -> H3dsFolder:
    """Photos from around a head that looks `turned_deg` past the z axis of the cameras' world."""
    head_from_world = similarity(1 / 200, rotation_xyz_deg(0, -turned_deg, 0), np.zeros(3))
    cameras = [
        orbit_camera(yaw_deg=yaw + turned_deg, pitch_deg=0, distance=900.0, target=np.zeros(3), focal_px=60, size=64) for yaw in yaws_deg
    ]
    mask = np.zeros((64, 64), bool)
    mask[16:48, 16:48] = True
    photos = [Photo(np.zeros((64, 64, 3), np.float32), mask, camera) for camera in cameras]
    write_scene(tmp_path / "ring", photos, notes={"head_from_world": head_from_world.tolist()} if stated else {})
    return H3dsFolder(tmp_path / "ring")


def test_a_stated_place_says_which_of_the_cameras_all_around_see_the_face(tmp_path: Path) -> None:
    yaws = [float(yaw) for yaw in range(0, 360, 45)]
    folder = _ring(tmp_path, yaws, 110.0, stated=True)
    assert [yaws[view] for view in choose_views(folder, 3)] == [0, 45, 315]
    one_sided = _ring(tmp_path / "sided", [0.0, 20, 45, 70, 90], 110.0, stated=True)
    assert choose_views(one_sided, 1) == [0]


def test_cameras_all_around_without_a_place_are_warned_of(tmp_path: Path) -> None:
    folder = _ring(tmp_path, [float(yaw) for yaw in range(0, 360, 45)], 0.0, stated=False)
    with pytest.warns(UserWarning, match=r"nothing says which of them see the face\. Choose them by --view-ids"):
        choose_views(folder, 3)


def test_a_cut_out_is_a_mask_by_its_alpha_and_sixteen_bits_are_not_white(scene_folder: Path) -> None:
    folder = H3dsFolder(scene_folder)
    photo = folder.photo(2)
    cut_out = np.concatenate([np.round(photo.image * 255), 255.0 * photo.mask[..., None]], axis=-1).astype(np.uint8)
    Image.fromarray(cut_out, "RGBA").save(scene_folder / "mask/mask_0002.png")
    np.testing.assert_array_equal(folder.photo(2).mask, photo.mask)
    (scene_folder / "image/img_0002.jpg").unlink()
    Image.fromarray(np.full(photo.mask.shape, 30_000, np.uint16)).save(scene_folder / "image/img_0002.png")
    assert H3dsFolder(scene_folder).photo(2).image.mean() == pytest.approx(30_000 / 65_535, abs=0.01)

"""Cameras of other tools: the same photographs described by each, read back as the same cameras."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.scene.posed_files import PosedFile, read_posed
from avatar_kit.types import Camera, InputError

PLACED = dict(roll_deg=3, distance=4.0, target=np.array([0.1, 0, 0.2]), focal_px=90, size=64)
CAMERAS = {f"photo {i}.jpg": orbit_camera(yaw_deg=yaw, pitch_deg=5 * i, **PLACED) for i, yaw in enumerate((0, 40, -70))}
POINT = np.array([[0.2, -0.1, 0.3]])


def same(found: list[PosedFile], folder: Path) -> None:
    assert [posed.file for posed in found] == [folder / name for name in sorted(CAMERAS)]
    for posed, (_, camera) in zip(found, sorted(CAMERAS.items()), strict=True):
        np.testing.assert_allclose(posed.camera.intrinsics, camera.intrinsics, atol=1e-6)
        np.testing.assert_allclose(posed.camera.world_from_camera, camera.world_from_camera, atol=1e-6)
        np.testing.assert_allclose(posed.camera.project(POINT)[0], camera.project(POINT)[0], atol=1e-4)
        assert (posed.camera.width, posed.camera.height) == (64, 64)


def write_transforms(folder: Path, **changes: object) -> Path:
    frames = []
    for name, camera in CAMERAS.items():
        Image.new("RGB", (64, 64)).save(folder / name)
        opengl = camera.world_from_camera @ np.diag([1.0, -1, -1, 1])
        frames.append({"file_path": f"./{name}", "transform_matrix": opengl.tolist()})
    content = {"fl_x": 90.0, "cx": 32.0, "cy": 32.0, "w": 64, "h": 64, "frames": frames, **changes}
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder / "transforms.json"


def quaternion(camera: Camera) -> np.ndarray:
    return np.roll(Rotation.from_matrix(camera.camera_from_world[:3, :3]).as_quat(), 1)


def write_colmap_text(folder: Path) -> None:
    (folder / "cameras.txt").write_text("# comment\n1 OPENCV 64 64 90 90 32 32 0.1 -0.02 0.001 0.002\n")
    lines = ["# comment"]
    for i, (name, camera) in enumerate(CAMERAS.items()):
        pose = [*quaternion(camera), *camera.camera_from_world[:3, 3]]
        lines += [f"{i + 1} {' '.join(map(repr, map(float, pose)))} 1 {name}", "1.0 2.0 -1" if i else ""]  # a photo may have no points
    (folder / "images.txt").write_text("\n".join(lines) + "\n")


def write_colmap_binary(folder: Path) -> None:
    (folder / "cameras.bin").write_bytes(struct.pack("<QiiQQ", 1, 7, 0, 64, 64) + struct.pack("<3d", 90, 32, 32))
    data = struct.pack("<Q", len(CAMERAS))
    for i, (name, camera) in enumerate(CAMERAS.items()):
        data += struct.pack("<i7di", i + 1, *quaternion(camera), *camera.camera_from_world[:3, 3], 7)
        data += name.encode() + b"\0" + struct.pack("<Q", i) + struct.pack("<ddq", 1.0, 2.0, -1) * i
    (folder / "images.bin").write_bytes(data)


def test_transforms_json_is_read(tmp_path: Path) -> None:
    same(read_posed(write_transforms(tmp_path)), tmp_path)
    same(read_posed(tmp_path), tmp_path)


def test_an_angle_will_do_for_a_focal_length_and_the_photo_for_the_size(tmp_path: Path) -> None:
    file = write_transforms(tmp_path, camera_angle_x=2 * np.arctan(32 / 90))
    content = json.loads(file.read_text())
    for name in ("fl_x", "w", "h"):
        del content[name]
    file.write_text(json.dumps(content))
    same(read_posed(file), tmp_path)


@pytest.mark.parametrize("place", ["", "sparse/0"])
def test_colmap_models_are_read(tmp_path: Path, place: str) -> None:
    (tmp_path / "images").mkdir()
    model = tmp_path / place
    model.mkdir(parents=True, exist_ok=True)
    write_colmap_text(model)
    found = read_posed(tmp_path)
    same(found, tmp_path / "images")
    np.testing.assert_allclose(found[0].distortion, [0.1, -0.02, 0.001, 0.002, 0])
    for file in model.glob("*.txt"):
        file.unlink()
    write_colmap_binary(model)
    found = read_posed(tmp_path)
    same(found, tmp_path / "images")
    assert not found[0].distortion.any()


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither"):
        read_posed(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        read_posed(tmp_path / "transforms.json")
    (tmp_path / "transforms.json").write_text("{}")
    with pytest.raises(InputError, match="no frames"):
        read_posed(tmp_path)
    mirrored = {"file_path": "a.jpg", "transform_matrix": np.diag([1.0, 1, -1, 1]).tolist()}
    write_transforms(tmp_path, frames=[mirrored])
    with pytest.raises(InputError, match="not a rotation"):
        read_posed(tmp_path)
    (tmp_path / "transforms.json").unlink()
    write_colmap_binary(tmp_path)
    (tmp_path / "images.bin").write_bytes((tmp_path / "images.bin").read_bytes()[:60])
    with pytest.raises(InputError, match="too early"):
        read_posed(tmp_path)
    (tmp_path / "cameras.bin").unlink()
    write_colmap_text(tmp_path)
    (tmp_path / "cameras.txt").write_text("1 THIN_PRISM_FISHEYE 64 64 90 90 32 32 0 0 0 0 0 0 0 0\n")
    with pytest.raises(InputError, match="THIN_PRISM_FISHEYE"):
        read_posed(tmp_path)
    (tmp_path / "cameras.txt").write_text("2 PINHOLE 64 64 90 90 32 32\n")
    with pytest.raises(InputError, match="camera 1"):
        read_posed(tmp_path)


def test_lenses_of_transforms_json_are_read_or_refused(tmp_path: Path) -> None:
    lens = {"camera_model": "OPENCV", "k1": 0.1, "k2": -0.02, "k3": 0.003, "k4": 0.0, "p1": 0.001, "p2": 0.002}
    found = read_posed(write_transforms(tmp_path, **lens))
    np.testing.assert_allclose(found[0].distortion, [0.1, -0.02, 0.001, 0.002, 0.003])
    for change, message in (
        ({"camera_model": "OPENCV_FISHEYE"}, r"photo 0\.jpg is of model OPENCV_FISHEYE\. .*image_undistorter"),
        ({"camera_model": "EQUIRECTANGULAR"}, "EQUIRECTANGULAR"),
        ({"camera_model": None, "is_fisheye": True}, "OPENCV_FISHEYE"),
        ({"k4": 0.01}, "k4.*image_undistorter"),
    ):
        with pytest.raises(InputError, match=message):
            read_posed(write_transforms(tmp_path, **{**lens, **change}))


def test_angles_along_both_sides_are_pixels_that_are_not_square(tmp_path: Path) -> None:
    file = write_transforms(tmp_path, fl_x=None, camera_angle_x=2 * np.arctan(32 / 90), camera_angle_y=2 * np.arctan(32 / 70))
    np.testing.assert_allclose(np.diag(read_posed(file)[0].camera.intrinsics), [90, 70, 1])
    file = write_transforms(tmp_path, camera_angle_y=2 * np.arctan(32 / 70))  # beside fl_x it is of square pixels
    np.testing.assert_allclose(np.diag(read_posed(file)[0].camera.intrinsics), [90, 90, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": []}, "no frames"),
        ({"frames": None}, "no frames"),
        ({"frames": ["a"]}, "no frames"),
        ({"cx": "middle"}, r"photo 0\.jpg cannot be read"),
        ({"fl_x": -90.0}, "no focal length above 0"),
        ({"fl_x": float("nan")}, "no focal length above 0"),
        ({"frames": [{"file_path": "photo 0.jpg", "transform_matrix": [[1.0], [1.0, 2.0]]}]}, r"photo 0\.jpg cannot be read"),
    ],
)
def test_malformed_entries_are_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_posed(write_transforms(tmp_path, **change))


def test_null_says_nothing(tmp_path: Path) -> None:
    same(read_posed(write_transforms(tmp_path, k1=None, fl_y=None)), tmp_path)


@pytest.mark.parametrize("line", ["1 0 0 0 0 1 2 3 1 photo 0.jpg", "1 a 0 0 0 1 2 3 1 photo 0.jpg", "1 1 0 0"])
def test_damaged_colmap_models_are_named(tmp_path: Path, line: str) -> None:
    write_colmap_text(tmp_path)
    (tmp_path / "images.txt").write_text(f"{line}\n\n")
    with pytest.raises(InputError, match="Export the COLMAP model again"):
        read_posed(tmp_path)

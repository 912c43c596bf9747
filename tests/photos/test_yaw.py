"""A stated yaw: it decides where coordinates are unclear, is overruled where they are clear, and is then called in question."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avatar_kit.normals.pose import head_pose
from avatar_kit.normals.storage import load_estimator
from avatar_kit.photos.folder import read_plain_photos
from avatar_kit.photos.scene import scene_from_photos
from avatar_kit.photos.understand import view_angles_deg
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.types import Array, Camera, InputError

DEMO = Path(str(resources.files("avatar_kit") / "weights" / "demo"))


def seen(yaw: float, rng: np.random.Generator, *, wrong: float) -> tuple[Array, Array, Camera]:
    """Coordinates (H, W, 3) of an ellipsoid, of which a share is `wrong`, where they are, and the camera."""
    camera = orbit_camera(yaw_deg=yaw, pitch_deg=5, distance=4, target=np.zeros(3), focal_px=200, size=96)
    radii = np.array([0.4, 0.6, 0.5])
    origins, rays = camera.rays(camera.pixel_grid())
    o, v = origins / radii, rays / radii
    a, b, c = (v * v).sum(-1), (o * v).sum(-1), (o * o).sum(-1) - 1
    inside = b * b > a * c
    depth = (-b - np.sqrt(np.maximum(b * b - a * c, 0))) / a
    coordinates = np.where(inside[..., None], origins + depth[..., None] * rays, 0)
    outliers = inside & (rng.random(inside.shape) < wrong)
    coordinates[outliers] = rng.uniform(-0.4, 0.4, (outliers.sum(), 3))
    return coordinates, inside, camera


def yaw_of(camera_from_head: Array) -> float:
    return view_angles_deg(np.linalg.inv(camera_from_head))[0]


@pytest.mark.parametrize("stated", [40.0, 55.0, -40.0])
def test_clear_coordinates_overrule_it(stated: float, rng: np.random.Generator) -> None:
    coordinates, inside, camera = seen(40, rng, wrong=0.1)
    found = head_pose(coordinates, inside, camera.intrinsics, yaw_deg=stated)
    assert yaw_of(found.camera_from_head) == pytest.approx(40, abs=1.5)


def test_it_decides_where_coordinates_say_nothing(rng: np.random.Generator) -> None:
    coordinates, inside, camera = seen(40, rng, wrong=1.0)
    with pytest.raises(InputError, match="No pose"):
        head_pose(coordinates, inside, camera.intrinsics)
    for stated in (40.0, -70.0):
        found = head_pose(coordinates, inside, camera.intrinsics, yaw_deg=stated)
        assert yaw_of(found.camera_from_head) == pytest.approx(stated, abs=12)
        assert found.inlier_share < 0.35  # which `understand` says


def test_one_yaw_a_photo_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("p10.png", "p9.png"):
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / name)
    nine, ten = read_plain_photos(tmp_path, yaws_deg=[45.0, -45.0])
    assert (nine.name, nine.yaw_deg, ten.name, ten.yaw_deg) == ("p9.png", 45.0, "p10.png", -45.0)
    with pytest.raises(InputError, match=r"names 3 angles.*holds 2 photos.*p9\.png, p10\.png"):
        read_plain_photos(tmp_path, yaws_deg=[0.0, 45.0, -45.0])


def test_a_photo_that_shows_something_else_is_named(tmp_path: Path) -> None:
    for number in (0, 2, 3):  # frontal, 45 degrees to the subject's left, and to the right
        (tmp_path / f"{number}.jpg").symlink_to(DEMO / f"image/img_{number:04d}.jpg")
    plain = scene_from_photos(tmp_path, load_estimator(None), yaws_deg=[0.0, 45.0, 45.0])
    assert [photo.yaw_deg for photo in plain.understood] == pytest.approx([0, 45, -45], abs=15)
    doubts = {photo.name: [note for note in photo.notes if "--yaw" in note] for photo in plain.understood}
    assert [name for name, notes in doubts.items() if notes] == ["3.jpg"]
    assert "--yaw says +45 deg, the photo shows -" in doubts["3.jpg"][0]


@pytest.mark.parametrize(("yaw", "words"), [("-45,zero", "such as 0,45,-45"), ("-45,270", "between -180 and 180"), ("-45,0", "6 photos")])
def test_wrong_angles_are_usage_errors(tmp_path: Path, yaw: str, words: str) -> None:
    command = [
        sys.executable,
        "-m",
        "avatar_kit_cli.main",
        "recon",
        str(DEMO / "image"),
        "--yaw",
        yaw,
        "--check",
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert words in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()

"""Cameras: decomposition, projection of known points, orbit, size changes; and scenes rendered elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avatar_kit.render.renderer import Renderer
from avatar_kit.scene.cameras import decompose_projection, orbit_camera, projection_matrix, resized, turned
from avatar_kit.scene.h3ds import H3dsFolder
from avatar_kit.types import Camera


def make_camera(yaw: float = 30.0, pitch: float = -10.0, roll: float = 5.0) -> Camera:
    return orbit_camera(
        yaw_deg=yaw, pitch_deg=pitch, roll_deg=roll, distance=900.0, target=np.array([3.0, -4.0, 5.0]), focal_px=700, size=400
    )


@given(st.floats(-179, 179), st.floats(-80, 80), st.floats(-90, 90), st.sampled_from([1.0, 0.3, 40.0]))
@settings(max_examples=40, deadline=None)
def test_projection_round_trip(yaw: float, pitch: float, roll: float, factor: float) -> None:
    """A projection is defined up to a positive factor."""
    camera = make_camera(yaw, pitch, roll)
    intrinsics, camera_from_world = decompose_projection(factor * projection_matrix(camera)[:3])
    np.testing.assert_allclose(intrinsics, camera.intrinsics, atol=1e-6)
    np.testing.assert_allclose(camera_from_world, camera.camera_from_world, atol=1e-6)


def test_a_point_on_the_axis_projects_to_the_centre_and_above_goes_up() -> None:
    camera = orbit_camera(yaw_deg=0, pitch_deg=0, distance=100.0, target=np.zeros(3), focal_px=500, size=200)
    pixels, depth = camera.project(np.array([[0.0, 0, 0], [0, 10.0, 0], [10.0, 0, 0]]))
    np.testing.assert_allclose(pixels, [[100, 100], [100, 50], [150, 100]])
    np.testing.assert_allclose(depth, 100)


def test_rays_pass_through_what_projects_to_their_pixel(rng: np.random.Generator) -> None:
    camera, points = make_camera(), rng.normal(0, 60, (20, 3))
    pixels, _ = camera.project(points)
    origins, directions = camera.rays(pixels)
    off = np.linalg.norm(np.cross(points - origins, directions), axis=1)
    np.testing.assert_allclose(off, 0, atol=1e-9)


def test_resizing_moves_pixels_in_proportion(rng: np.random.Generator) -> None:
    camera, points = make_camera(), rng.normal(0, 60, (20, 3))
    np.testing.assert_allclose(resized(camera, 100, 100).project(points)[0], camera.project(points)[0] / 4)


@pytest.mark.parametrize(("change", "message"), [("nan", "NaN"), ("singular", "singular"), ("mirror", "mirrored")])
def test_unusable_projections_are_rejected(change: str, message: str) -> None:
    projection = projection_matrix(make_camera())[:3]
    if change == "nan":
        projection[0, 0] = np.nan
    elif change == "singular":
        projection[2, :3] = 0
    else:
        projection = projection @ np.diag([-1.0, 1, 1, 1])
    with pytest.raises(ValueError, match=message):
        decompose_projection(projection)


@pytest.mark.parametrize("name", ["marble_bust", "acoustic_head", "wreath_bust_anyframe"])
def test_masks_rendered_elsewhere_agree_with_our_cameras(shared: Path, name: str) -> None:
    folder = H3dsFolder(shared / "scenes" / name)
    reference = folder.reference()
    assert reference is not None
    for view in (0, 3):
        photo = folder.photo(view)
        ours = Renderer(reference.mesh).render(photo.camera).mask
        overlap = (ours & photo.mask).sum() / (ours | photo.mask).sum()
        assert overlap > 0.995  # half a pixel along the outline of a head 250 px wide is 0.8 %


@pytest.mark.parametrize("turns", [1, 2, 3, 4])
def test_turning_the_picture_turns_the_camera(turns: int, rng: np.random.Generator) -> None:
    """Clockwise: what was at the left of the bottom is then at the left of the top."""
    camera, points = make_camera(), rng.normal(0, 60, (20, 3))
    camera = Camera(camera.intrinsics, camera.world_from_camera, 400, 300)
    pixels, depth = camera.project(points)
    other = turned(camera, turns)
    for turn in range(turns):
        height = 400 if turn % 2 else 300
        pixels = np.stack([height - pixels[:, 1], pixels[:, 0]], axis=1)
    np.testing.assert_allclose(other.project(points)[0], pixels, atol=1e-9)
    np.testing.assert_allclose(other.project(points)[1], depth)
    assert (other.width, other.height) == ((300, 400) if turns % 2 else (400, 300))
    assert (np.diag(other.intrinsics) > 0).all()
    assert np.linalg.det(other.world_from_camera) == pytest.approx(1.0)

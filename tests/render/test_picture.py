"""Smooth outlines, textures in pictures, heads that turn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from avatar_kit_cli.main import main
from PIL import Image

from avatar_kit.mesh.files import write_mesh
from avatar_kit.render.picture import on_white, picture
from avatar_kit.render.renderer import Renderer, look_up
from avatar_kit.render.turntable import frames, write_turntable
from avatar_kit.types import Camera, InputError, Mesh, Texture


def square(texture: Texture | None = None) -> Mesh:
    """Two triangles, x and y from -1 to 1, in the plane z = 2, seen from the origin along +z."""
    corners = np.array([[-1, -1, 2], [1, -1, 2], [1, 1, 2], [-1, 1, 2]], float)
    return Mesh(corners, np.array([[0, 2, 1], [0, 3, 2]], np.int32), None, texture)


def camera(focal: float, size: int = 16) -> Camera:
    return Camera(np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]]), np.eye(4), size, size)


def test_an_edge_pixel_is_covered_by_its_share() -> None:
    # the square spans 2 f / 2 = f pixels: with f = 9.5 its edges cut pixels at 3.25 and 12.75
    coverage = picture(Renderer(square()), camera(9.5), samples=4)[..., 3]
    np.testing.assert_allclose(coverage[8, 2:5], [0, 0.75, 1])
    np.testing.assert_allclose(coverage[8, 11:14], [1, 0.75, 0])
    np.testing.assert_allclose(coverage[3, 3], 0.75**2)


def test_colours_of_edge_pixels_are_not_mixed_with_what_is_behind() -> None:
    white = square(Texture(np.full((2, 2, 3), 0.3), np.array([[0, 0], [1, 0], [1, 1], [0, 1.0]])))
    rgba = picture(Renderer(white), camera(9.5), "colors", samples=4)
    np.testing.assert_allclose(rgba[8, 3], [0.3, 0.3, 0.3, 0.75])
    np.testing.assert_allclose(on_white(rgba)[8, 3], 0.3 * 0.75 + 0.25)
    np.testing.assert_allclose(on_white(rgba)[0, 0], 1.0)


def test_texels_are_met_at_their_middles_and_mixed_between() -> None:
    image = np.array([[[1.0], [2.0]], [[3.0], [4.0]]])  # the upper row first
    uv = np.array([[0.25, 0.75], [0.75, 0.25], [0.5, 0.5], [0.0, 0.0], [1.0, 1.0]])
    np.testing.assert_allclose(look_up(image, uv)[:, 0], [1, 4, 2.5, 3, 2])


def test_a_texture_is_the_right_way_up() -> None:
    image = np.zeros((2, 2, 3))
    image[0, 0] = 1, 0, 0  # upper left red
    # y points down in this camera's frame, so the vertices with y = -1 are the upper ones
    upright = square(Texture(image, np.array([[0, 1], [1, 1], [1, 0], [0, 0.0]])))
    seen = Renderer(upright).render(camera(12.0))
    assert seen.colors is not None
    np.testing.assert_allclose(seen.colors[3, 3], [1, 0, 0], atol=0.01)
    np.testing.assert_allclose(seen.colors[12, 12], 0, atol=0.01)


def wedge() -> Mesh:
    """A tetrahedron that points to +z, with its front and back told apart by colour."""
    corners = np.array([[-1, -1, -0.5], [1, -1, -0.5], [0, 1, -0.5], [0, 0, 1]], float)
    faces = np.array([[0, 1, 3], [1, 2, 3], [2, 0, 3], [0, 2, 1]], np.int32)
    return Mesh(corners, faces, np.array([[0, 0, 1.0], [0, 0, 1], [0, 0, 1], [1, 0, 0]]))


def test_a_head_turns_from_its_front_towards_its_left() -> None:
    front, left, back, right = frames(Renderer(wedge()), count=4, size=64, shading="colors")
    assert front[34, 32, 0] > 0.5  # the red tip is before us
    assert back[34, 32, 2] == pytest.approx(1.0)
    red_left, red_right = ((view[..., 0] - view[..., 2]) > 0.5 for view in (left, right))
    assert np.nonzero(red_left)[1].mean() < 32 < np.nonzero(red_right)[1].mean()  # seen from its left, it looks to our left


def test_turntables_are_written_as_their_names_say(tmp_path: Path) -> None:
    renderer = Renderer(wedge())
    write_turntable(tmp_path / "a.gif", renderer, count=4, size=32)
    write_turntable(tmp_path / "a.png", renderer, count=4, size=32)
    with Image.open(tmp_path / "a.gif") as moving, Image.open(tmp_path / "a.png") as strip:
        assert getattr(moving, "n_frames", 1) == 4
        assert strip.size == (128, 32)
    with pytest.raises(InputError, match=r"\.gif"):
        write_turntable(tmp_path / "a.mp4", renderer, count=4, size=32)
    write_mesh(tmp_path / "wedge.ply", wedge())
    main(["render", str(tmp_path / "wedge.ply"), "--out", str(tmp_path / "b.png"), "--frames", "3", "--size", "16"])
    with Image.open(tmp_path / "b.png") as strip:
        assert strip.size == (48, 16)
    for file in ("b.png", "wedge.ply"):
        (tmp_path / file).unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gif", "a.png"]

"""Pictures of meshes: closed forms, and one picture from both backends."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
import torch
import trimesh
from conftest import as_mesh
from reference import raster_twin

from avatar_kit import backends
from avatar_kit.backends import BackendMissing
from avatar_kit.kernels.mesh_queries import NO_HIT
from avatar_kit.render import rasterize
from avatar_kit.render.rasterize import Rasterizer, clip_coordinates
from avatar_kit.render.renderer import RayCaster, Renderer
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.types import Camera, Mesh, concatenate

needs_nvdiffrast = pytest.mark.skipif(
    backends.why_not("nvdiffrast.torch", "rasterize") is not None or not torch.cuda.is_available(), reason="needs nvdiffrast and CUDA"
)


@pytest.fixture
def twin(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Brute force in place of nvdiffrast."""
    monkeypatch.setitem(sys.modules, "nvdiffrast", types.ModuleType("nvdiffrast"))
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", raster_twin)
    return raster_twin


@pytest.fixture
def camera() -> Camera:
    """Off its axis, turned and tilted, pixels that are not square, a picture that is not: nothing cancels out."""
    plain = orbit_camera(yaw_deg=35, pitch_deg=20, roll_deg=15, distance=2.5, target=np.array([0.1, 0, 0]), focal_px=70, size=64)
    intrinsics = plain.intrinsics.copy()
    intrinsics[0, 0] *= 1.2
    intrinsics[:2, 2] = 30, 18
    return Camera(intrinsics, plain.world_from_camera, 56, 40)


@pytest.fixture
def heap() -> Mesh:
    """A ball half in front of a box: something hidden, edges, a curved surface."""
    ball = as_mesh(trimesh.creation.icosphere(subdivisions=2, radius=0.4))
    box = as_mesh(trimesh.creation.box(extents=(1.2, 0.3, 0.5)))
    return concatenate([ball, Mesh(box.vertices + (0.1, 0.2, -0.3), box.faces)])


def test_a_ball_has_its_own_normals_and_depth() -> None:
    camera = orbit_camera(yaw_deg=0, pitch_deg=0, distance=3.0, target=np.zeros(3), focal_px=80, size=64)
    ball = as_mesh(trimesh.creation.icosphere(subdivisions=4, radius=0.5))
    seen = Renderer(ball).render(camera)
    _, rays = camera.rays(camera.pixel_grid())
    middle = rays @ -camera.centre
    inside = middle**2 - 9 + 0.25
    distance = middle - np.sqrt(np.maximum(inside, 0))
    sure = inside > 0.01
    assert (seen.mask == (inside > 0)).mean() > 0.99
    points = camera.centre + rays * distance[..., None]
    normals = points / 0.5 @ camera.world_from_camera[:3, :3]
    assert np.degrees(np.arccos(np.clip((normals * seen.normals).sum(-1)[sure], -1, 1))).max() < 2.0
    assert np.abs(seen.points - points)[sure].max() < 0.005
    along = distance * (rays @ camera.world_from_camera[:3, 2])
    assert np.abs(seen.depth - along)[sure].max() < 0.005


def test_clip_coordinates_hold_the_picture_and_the_mesh(camera: Camera, heap: Mesh) -> None:
    clip = clip_coordinates(torch.as_tensor(heap.vertices, dtype=torch.float32), camera).double().numpy()
    pixels, depth = camera.project(heap.vertices)
    np.testing.assert_allclose(clip[:, 3], depth, rtol=1e-5)
    np.testing.assert_allclose((clip[:, 0] / clip[:, 3] + 1) / 2 * camera.width, pixels[:, 0], atol=1e-3)
    np.testing.assert_allclose((clip[:, 1] / clip[:, 3] + 1) / 2 * camera.height, pixels[:, 1], atol=1e-3)
    z = clip[:, 2] / clip[:, 3]
    assert z.min() > -1
    assert z.max() < 1
    order = np.argsort(depth)
    assert (np.diff(z[order]) > -1e-6).all()


@pytest.mark.parametrize("tile", [2048, 24])
def test_rasterising_sees_what_ray_casting_sees(twin, camera: Camera, heap: Mesh, monkeypatch: pytest.MonkeyPatch, tile: int) -> None:
    monkeypatch.setattr(rasterize, "_TILE", tile)
    compare(Rasterizer(heap, "cpu"), camera, heap)


def test_faces_behind_the_camera_are_not_seen(twin) -> None:
    camera = orbit_camera(yaw_deg=0, pitch_deg=0, distance=3.0, target=np.zeros(3), focal_px=40, size=32)
    ball = as_mesh(trimesh.creation.icosphere(subdivisions=1, radius=0.4))
    behind = Mesh(ball.vertices + (0, 0, 6.0), ball.faces)
    assert (Rasterizer(behind, "cpu").hits(camera).face == NO_HIT).all()
    assert (Rasterizer(concatenate([ball, behind]), "cpu").hits(camera).face < len(ball.faces)).all()


@pytest.mark.cuda
@pytest.mark.nvdiffrast
@needs_nvdiffrast
def test_nvdiffrast_sees_what_warp_sees(camera: Camera, heap: Mesh) -> None:
    compare(Rasterizer(heap, "cuda"), camera, heap)
    mine, theirs = Renderer(heap, device="cuda").render(camera), Renderer(heap, backend="warp").render(camera)
    both = mine.mask & theirs.mask
    assert np.degrees(np.arccos(np.clip((mine.normals * theirs.normals).sum(-1)[both], -1, 1))).mean() < 0.5


def test_a_backend_that_cannot_is_refused_in_words(heap: Mesh) -> None:
    with pytest.raises(BackendMissing, match="nvdiffrast: works on cuda only"):
        Renderer(heap, backend="nvdiffrast")


def compare(raster: Rasterizer, camera: Camera, mesh: Mesh) -> None:
    """The same face, place and depth at every pixel but those on edges."""
    mine, theirs = raster.hits(camera), RayCaster(mesh, "cpu").hits(camera)
    same = mine.face.cpu() == theirs.face
    assert same.float().mean() > 0.98  # an edge through the middle of a pixel may go either way
    assert (theirs.face != NO_HIT).float().mean() > 0.2
    on = same & (theirs.face != NO_HIT)
    torch.testing.assert_close(mine.barycentric.cpu()[on], theirs.barycentric[on], atol=2e-3, rtol=0)
    torch.testing.assert_close(mine.depth.cpu()[on], theirs.depth[on], atol=1e-3, rtol=0)
    assert torch.isinf(mine.depth.cpu()[mine.face.cpu() == NO_HIT]).all()

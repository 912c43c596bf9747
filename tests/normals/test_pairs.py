"""The pair generator against closed forms: a head that is a sphere, so that every label is known."""

from __future__ import annotations

import dataclasses
import json
import sys
import types

import numpy as np
import pytest
import torch
import trimesh
from reference import raster_twin

from avatar_kit.backends import why_not
from avatar_kit.conventions import CANONICAL_LANDMARKS
from avatar_kit.normals.lens import crop_camera, draw_pose
from avatar_kit.normals.light import _shine
from avatar_kit.normals.materials import Wardrobe
from avatar_kit.normals.noise import Noise
from avatar_kit.normals.pairs import PAIRS_PER_HEAD, PairStream, pair_sheet
from avatar_kit.normals.shards import write_shards
from avatar_kit.normals.subject import Seen, Subject
from avatar_kit.normals.surface import Surface, bumped
from avatar_kit.render.rasterize import Rasterizer
from avatar_kit.render.renderer import Renderer
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.types import Array, Head, Mesh

RADIUS = 0.62
SIZE = 64


class SphereHeads:
    """Heads that are spheres, with two small spheres as eyes and, if asked for, a cap of "hair"."""

    name = "folder"  # what HeadSampler leaves as it is

    def __init__(self, *, dressed: bool = False) -> None:
        self.dressed = dressed

    def sample(self, rng: np.random.Generator) -> Head:
        def ball(radius: float, centre: tuple[float, float, float], level: int = 4) -> Mesh:
            sphere = trimesh.creation.icosphere(level, radius)
            return Mesh(np.asarray(sphere.vertices) + centre, np.asarray(sphere.faces, np.int32))

        rng.random()
        parts = {"body": ball(RADIUS, (0, 0, 0))}
        if self.dressed:
            parts |= {"eyes": ball(0.06, (0.16, 0.18, 0.55), 2), "hair": ball(0.5, (0, 0.35, -0.1), 3)}
        return Head("sphere", parts, {"source": "sphere"}, {name: np.array(p) for name, p in CANONICAL_LANDMARKS.items()})


def stream(seed: int = 0, size: int = SIZE, *, dressed: bool = False, without: tuple[str, ...] = ()) -> PairStream:
    return PairStream.of([SphereHeads(dressed=dressed)], seed=seed, size=size, without=without)


def test_without_relief_the_normals_of_a_sphere_point_where_its_points_do():
    # "textures" switches off the relief that is drawn onto smooth heads
    for index in range(6):
        pair = stream(without=("textures",)).pair(index)
        world_from_camera = pair.camera.world_from_camera[:3, :3]
        inner = pair.foreground & (np.linalg.norm(pair.coordinates, axis=-1) > 0.99 * RADIUS)
        outward = pair.coordinates[inner] / np.linalg.norm(pair.coordinates[inner], axis=1, keepdims=True)
        cosine = (pair.normals[inner] @ world_from_camera.T * outward).sum(1)
        # facets of 4.5 degrees with interpolated normals, and a pixel's width at the rim
        assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean() < 1.0
        assert cosine.min() > np.cos(np.radians(25))


def test_labels_are_unit_outward_and_zero_off_the_subject():
    for index in range(0, 5 * PAIRS_PER_HEAD, 7):
        pair = stream(dressed=True).pair(index)
        length = np.linalg.norm(pair.normals, axis=-1)
        assert pair.foreground.any()
        np.testing.assert_allclose(length[pair.foreground], 1.0, atol=1e-5)
        assert not length[~pair.foreground].any()
        assert not pair.coordinates[~pair.foreground].any()
        _, rays = pair.camera.rays(pair.camera.pixel_grid())
        rays = rays @ pair.camera.world_from_camera[:3, :3]
        assert (pair.normals * rays).sum(-1)[pair.foreground].max() < 0
        assert not (pair.face & ~pair.foreground).any()
        assert pair.image.dtype == np.float32
        assert pair.image.min() >= 0
        assert pair.image.max() <= 1


def test_projected_coordinates_are_the_pixels():
    for index in range(6):
        pair = stream(dressed=True).pair(index)
        projected, depth = pair.camera.project(pair.coordinates[pair.foreground].astype(float))
        assert (depth > 0).all()
        off = np.abs(projected - pair.camera.pixel_grid()[pair.foreground]).max(1)
        assert off.max() < 1.0  # subsamples lie within half a pixel; their mean stays in the pixel but for the curvature


def test_the_same_index_gives_the_same_pair_in_any_order():
    first, again = stream(dressed=True), stream(dressed=True)
    again.pair(PAIRS_PER_HEAD + 3)
    a, b = first.pair(4), again.pair(4)
    for name in ("image", "normals", "coordinates", "foreground", "face"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert dict(a.attributes) == dict(b.attributes)


def test_other_seeds_and_indices_give_other_pairs():
    base = stream().pair(0)
    assert np.abs(base.image - stream(seed=1).pair(0).image).mean() > 0.02
    assert np.abs(base.image - stream().pair(1).image).mean() > 0.02


def test_without_hair_only_skin_and_eyes_are_left():
    pair, bare = stream(dressed=True).pair(0), stream(dressed=True, without=("hair",)).pair(0)
    farthest = np.linalg.norm(pair.coordinates, axis=-1).max()
    assert farthest > RADIUS + 0.1
    assert np.linalg.norm(bare.coordinates, axis=-1).max() < RADIUS + 0.05  # the eye stands out by 38 thousandths


def test_without_hard_light_nothing_but_flat_light_is_left():
    kinds = {stream().pair(i).attributes["light"] for i in range(12)}
    flat = {stream(without=("hard_light",)).pair(i).attributes["light"] for i in range(6)}
    assert len(kinds) > 2
    assert flat == {"flat"}


def test_without_textures_each_part_has_one_albedo():
    subject = Subject(SphereHeads().sample(np.random.default_rng(0)))
    rng = np.random.default_rng(3)
    camera = crop_camera(draw_pose(rng), subject.parts["body"].vertices, size=SIZE, rng=rng)
    seen = subject.see(camera)
    flat = Wardrobe(subject, np.random.default_rng(5), image=None, textured=False).surface(seen)
    rich = Wardrobe(subject, np.random.default_rng(5), image=None, textured=True).surface(seen)
    assert len(np.unique(flat.albedo, axis=0)) <= 2  # skin, and a painted shirt
    assert not flat.bump.any()
    assert not flat.relief.any()
    assert len(np.unique(rich.albedo, axis=0)) > 50


def test_without_occluders_nothing_stands_in_front():
    worn = [stream().pair(i).attributes for i in range(40)]
    assert any(a.get("hand") for a in worn)
    assert any(a.get("glasses") not in (None, "none") for a in worn)
    assert any(a.get("strands") for a in worn)
    index = next(i for i, a in enumerate(worn) if a.get("hand"))
    free, covered = stream(without=("occluders",)).pair(index), stream().pair(index)
    assert "hand" not in free.attributes
    assert (free.foreground & ~covered.foreground).sum() >= 0
    assert free.foreground[covered.foreground].all()


def test_an_unknown_ingredient_is_rejected():
    with pytest.raises(ValueError, match="beards"):
        stream(without=("beards",))


def test_the_head_takes_its_share_of_the_crop():
    points = np.asarray(trimesh.creation.icosphere(3, RADIUS).vertices)
    for seed in range(50):
        rng = np.random.default_rng(seed)
        camera = crop_camera(draw_pose(rng), points, size=100, rng=rng)
        projected, depth = camera.project(points)
        assert depth.min() > 0
        assert 39 < np.ptp(projected, axis=0).max() < 100


def test_a_relief_tilts_normals_by_the_arctangent_of_its_slope():
    tilted = bumped(np.array([[0.0, 0.0, 1.0]]), np.array([[0.5, 0.0, 7.0]]))
    np.testing.assert_allclose(tilted[0], np.array([-0.5, 0.0, 1.0]) / np.sqrt(1.25), atol=1e-6)


def test_labels_show_the_coarser_relief_and_not_the_finer(monkeypatch: pytest.MonkeyPatch) -> None:
    def labels(**slopes: float) -> Array:
        def surface(self: Wardrobe, seen: Seen) -> Surface:
            blank = Surface.blank(len(seen.pixel))
            return dataclasses.replace(blank, **{name: np.full_like(blank.bump, slope) * (0, 1, 0) for name, slope in slopes.items()})

        monkeypatch.setattr(Wardrobe, "surface", surface)
        pair = stream(without=("occluders",)).pair(0)
        return (pair.normals @ pair.camera.world_from_camera[:3, :3].T)[pair.foreground]

    plain = labels()
    np.testing.assert_array_equal(labels(bump=0.3), plain)
    upright = np.abs(plain[:, 1]) < 0.2  # there a slope of 0.3 upwards tilts by nearly its arctangent, downwards
    turned = np.degrees(np.arcsin(plain[:, 1]) - np.arcsin(labels(relief=0.3)[:, 1]))[upright]
    assert np.median(turned) == pytest.approx(np.degrees(np.arctan(0.3)), abs=1.5)


def test_a_shirt_that_is_painted_on_is_no_face(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wardrobe, "shirt", lambda self, points: points[:, 1] < 0)
    face = [pair.coordinates[pair.face][:, 1] for pair in map(stream(without=("occluders",)).pair, range(2))]
    assert all(len(height) > 20 for height in face)
    assert min(height.min() for height in face) > -0.02


def test_noise_has_unit_deviation_its_own_gradient_and_a_period():
    rng = np.random.default_rng(0)
    noise = Noise(rng)
    points = rng.uniform(-1, 1, (4000, 3)).astype(np.float32)
    values = noise.values(points, 12.0)
    np.testing.assert_allclose(values.std(0), 1.0, atol=0.15)
    step, slopes = 0.02, noise.slopes(points, 12.0)
    for axis in range(3):
        ahead = points + step / 12.0 * np.eye(3, dtype=np.float32)[axis]
        measured = (noise.values(ahead, 12.0)[:, 0] - values[:, 0]) / step
        assert np.corrcoef(measured, slopes[:, axis])[0, 1] > 0.9


def small_head() -> Head:
    ball = trimesh.creation.icosphere(2, RADIUS)
    eye = trimesh.creation.icosphere(1, 0.1)
    parts = {
        "body": Mesh(np.asarray(ball.vertices), np.asarray(ball.faces, np.int32)),
        "eyes": Mesh(np.asarray(eye.vertices) + (0.16, 0.18, 0.55), np.asarray(eye.faces, np.int32)),
    }
    return Head("sphere", parts, {"source": "sphere"}, {name: np.array(p) for name, p in CANONICAL_LANDMARKS.items()})


def compare_backends(rasterized: Subject, traced: Subject) -> None:
    """The same maps from a rasteriser as from ray casting, but for pixels on edges."""
    camera = orbit_camera(yaw_deg=20, pitch_deg=10, distance=4, target=np.zeros(3), focal_px=130, size=48)
    one, other = rasterized.see(camera), traced.see(camera)
    masks = [seen.image(np.ones(len(seen.pixel))) for seen in (one, other)]
    assert np.abs(masks[0] - masks[1]).mean() < 0.01
    both = (masks[0] > 0) & (masks[1] > 0)
    assert (one.image(one.part) == other.image(other.part))[both].mean() > 0.99
    normals = [seen.image(seen.normals)[both] for seen in (one, other)]
    assert np.degrees(np.arccos(np.clip((normals[0] * normals[1]).sum(1), -1, 1))).mean() < 0.5
    assert np.median(np.linalg.norm(one.image(one.points)[both] - other.image(other.points)[both], axis=1)) < 1e-3


def test_pairs_are_the_same_by_a_rasteriser(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvdiffrast", types.ModuleType("nvdiffrast"))
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", raster_twin)
    rasterized = Subject(small_head())
    rasterized._renderer = Renderer(rasterized.mesh)
    rasterized._renderer._first = Rasterizer(rasterized.mesh, "cpu")
    compare_backends(rasterized, Subject(small_head()))


@pytest.mark.cuda
@pytest.mark.nvdiffrast
@pytest.mark.skipif(
    why_not("nvdiffrast.torch", "rasterize") is not None or not torch.cuda.is_available(), reason="needs nvdiffrast and CUDA"
)
def test_pairs_are_the_same_by_nvdiffrast():
    rasterized, traced = Subject(small_head()), Subject(small_head())
    assert rasterized._renderer is not None
    traced._renderer = None
    compare_backends(rasterized, traced)


def test_shards_hold_the_pairs_and_tell_how_to_read_them(tmp_path):
    seen: list[int] = []
    source = stream()
    files = write_shards(source, count=3, out=tmp_path, on_pair=seen.append)
    assert seen == [0, 1, 2]
    with np.load(files[0]) as shard:
        pair = stream().pair(2)
        assert np.abs(shard["normals"][2] / 127.0 - pair.normals).max() < 0.01
        mask = np.unpackbits(shard["foreground"][2])[: SIZE * SIZE].reshape(SIZE, SIZE).astype(bool)
        np.testing.assert_array_equal(mask, pair.foreground)
    notes = json.loads((tmp_path / "pairs.json").read_text())
    assert [p["index"] for p in notes["pairs"]] == [0, 1, 2]
    assert (tmp_path / "sheet.png").is_file()
    with pytest.raises(ValueError, match="at least 1"):
        write_shards(source, count=0, out=tmp_path)


def test_a_sheet_shows_three_pictures_a_pair():
    assert pair_sheet([stream().pair(0)], per_row=1).size == (3 * SIZE, SIZE)


@pytest.mark.parametrize("roughness", [0.4, 0.7, 1.0])
def test_a_highlight_is_as_bright_and_as_wide_as_its_roughness_says(roughness: float) -> None:
    """GGX with its width alpha = roughness^2: 1 / (pi alpha^2) at its middle, a quarter of that where tan^2 is alpha^2 and cos^4 is left
    out; over all half vectors the projected area of its facets is 1."""
    surface = dataclasses.replace(Surface.blank(1), roughness=np.full(1, roughness))
    up, alpha2 = np.array([[0.0, 0.0, 1.0]]), roughness**4

    def lobe(angle: float) -> float:
        """Facets a solid angle, from a highlight seen and lit along the same half vector."""
        half = np.array([[np.sin(angle), 0.0, np.cos(angle)]])
        return float(_shine(up, half, half, surface)[0] * 4 * (roughness + 0.5) / np.pi)

    assert lobe(0.0) == pytest.approx(1 / (np.pi * alpha2))
    wide = np.arctan(np.sqrt(alpha2))
    assert lobe(wide) == pytest.approx(lobe(0.0) / (4 * np.cos(wide) ** 4))
    angles = (np.arange(2000) + 0.5) / 2000 * np.pi / 2
    area = sum(lobe(angle) * np.cos(angle) * np.sin(angle) for angle in angles) * 2 * np.pi * (np.pi / 2 / 2000)
    assert area == pytest.approx(1.0, rel=1e-3)

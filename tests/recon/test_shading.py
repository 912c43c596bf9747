"""The light on faces: spheres in closed form, the loss against finite differences, and what it does in the start and the fit. The start's
residuals are in `test_residuals.py`."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from avatar_kit import load_prior, override
from avatar_kit.config import PRESETS, MeshConfig, ShadingConfig
from avatar_kit.conventions import similarity, transform_points
from avatar_kit.mesh.extraction import extract
from avatar_kit.recon.fit import fit
from avatar_kit.recon.posed_head import PosedHead, Start
from avatar_kit.recon.rays import RayBank
from avatar_kit.recon.shading import light_on, on_face, shading_loss, shading_residuals
from avatar_kit.recon.start import solve_start
from avatar_kit.recon.surface import SurfaceHits
from avatar_kit.render.renderer import Renderer
from avatar_kit.scene.cameras import orbit_camera
from avatar_kit.types import Photo, Scene

CPU = torch.device("cpu")
CONFIG = PRESETS["fast"]
WORLD_FROM_HEAD = similarity(200.0, np.eye(3), np.array([5.0, -9.0, 20.0]))


def facing(count: int, seed: int = 0) -> Tensor:
    """Unit normals (N, 3) that look at least a little towards +z."""
    normals = torch.nn.functional.normalize(torch.randn(4 * count, 3, generator=torch.Generator().manual_seed(seed)), dim=-1)
    return normals[normals[:, 2] > 0.1][:count]


def gray(brightness: Tensor) -> Tensor:
    """Colours (N, 3) of linear light (N,)."""
    return brightness.clamp(0, 1).pow(1 / 2.2)[:, None].expand(-1, 3)


def test_a_lamp_in_the_sky_is_found_and_brows_and_lips_are_not_believed() -> None:
    normals, photo = facing(800), torch.arange(800) % 2
    lamp = torch.tensor([[0.3, -0.4, 0.8], [-0.6, 0.2, 0.5]])[photo]  # each photo its own
    brightness = 0.4 + 0.25 * (normals * lamp).sum(-1) - 0.1 * normals[:, 0] * normals[:, 2]
    painted = brightness.clone()
    painted[::10] *= 0.2
    light = light_on(normals, gray(painted), photo, width=0.3)
    own = torch.stack([torch.ones(800), *normals.T, torch.zeros(800), normals[:, 0] * normals[:, 2]], dim=-1)
    for number in (0, 1):
        chosen = photo == number
        truth = torch.linalg.lstsq(own[chosen][:, [0, 1, 2, 3, 5]], brightness[chosen, None]).solution[:, 0] / painted[chosen].mean()
        torch.testing.assert_close(light.coefficients[number, [0, 1, 2, 3, 5]], truth, atol=0.06, rtol=0)
    brows = torch.zeros(800, dtype=torch.bool)
    brows[::10] = True
    assert light.off[~brows].abs().max() < 0.03
    assert light.weights[brows].max() < 0.5 < 0.95 < light.weights[~brows].min()


def test_one_lamp_on_a_ball_is_nearly_a_quadratic_of_the_normal() -> None:
    """Basri and Jacobs (2003): nine harmonics have more than 98 % of the energy of any one light on a convex matte body."""
    normals = torch.nn.functional.normalize(torch.randn(4000, 3, generator=torch.Generator().manual_seed(1)), dim=-1)
    lambert = (normals @ torch.tensor([0.6, 0.0, 0.8])).clamp_min(0.0)
    light = light_on(normals, gray(lambert), torch.zeros(4000, dtype=torch.long), width=100.0)
    assert light.off.square().sum() < 0.02 * light.brightness.square().sum()
    assert light.off.square().sum() > 0.001 * light.brightness.square().sum()  # a cosine cut off at zero is no quadratic


def test_photos_that_hardly_show_the_face_have_no_say() -> None:
    normals, photo = facing(440), torch.tensor([0] * 400 + [2] * 40)
    light = light_on(normals, gray(0.5 + 0.3 * normals[:, 0]), photo, width=0.6)
    assert (light.weights[:400] > 0.9).all()
    assert (light.weights[400:] == 0).all()
    assert torch.isfinite(light.coefficients).all()
    nobody = light_on(normals[:0], gray(normals[:0, 0]), photo[:0], width=0.6)
    assert len(nobody.off) == 0


def test_loss_falls_along_its_gradient_to_the_true_normals() -> None:
    """With the light solved for anew, against finite differences, and down to the truth."""
    config, truth = ShadingConfig(width=0.6), facing(600)
    points = torch.zeros(600, 3) + torch.tensor([0.0, 0.0, 0.5])
    colors, photo = gray(0.45 + 0.3 * truth @ torch.tensor([0.5, 0.3, 0.4]) + 0.1 * truth[:, 1] * truth[:, 2]), torch.zeros(600).long()

    def loss(normals: Tensor) -> Tensor:
        return shading_loss(SurfaceHits(points, normals, torch.full((600,), -0.8)), colors, photo, config, 1000)

    wave = torch.stack([torch.sin(7 * truth[:, 1]), torch.cos(5 * truth[:, 0]), torch.zeros(600)], dim=-1)
    wave = wave - (wave * truth).sum(-1, keepdim=True) * truth
    size = torch.tensor(0.15, requires_grad=True)
    bent = loss(torch.nn.functional.normalize(truth + size * wave, dim=-1))
    (slope,) = torch.autograd.grad(bent, size)
    with torch.no_grad():
        ahead, behind = (loss(torch.nn.functional.normalize(truth + s * wave, dim=-1)) for s in (0.151, 0.149))
        flat = loss(truth)
    assert float(slope) == pytest.approx(float(ahead - behind) / 0.002, rel=0.05)
    assert float(flat) < 0.02 * float(bent.detach())


def test_only_what_faces_the_camera_on_the_face_counts_and_no_lips() -> None:
    assert on_face(torch.tensor([[0.0, 0.0, 0.5], [0.2, -0.3, 0.4]])).all()
    elsewhere = torch.tensor([[0.0, 0.35, 0.5], [0.4, 0.0, 0.4], [0.0, 0.0, -0.5], [0.0, -0.6, 0.4]])  # hair, ear, nape, neck
    assert not on_face(elsewhere).any()
    normals = facing(400)
    colors, photo, points = gray(normals[:, 0].abs()), torch.zeros(400).long(), torch.zeros(400, 3) + torch.tensor([0.0, 0.0, 0.5])
    loss = [
        float(shading_loss(SurfaceHits(at, normals, torch.full((400,), slope)), colors, photo, ShadingConfig(), 400))
        for at, slope in (
            (points, -0.8),
            (points, -0.05),
            (points - torch.tensor([0.0, 0.0, 1.0]), -0.8),
            (points - torch.tensor([0.1, 0.2, 0.0]), -0.8),
        )
    ]
    assert loss[0] > 0 == loss[1] == loss[2] == loss[3]


@pytest.fixture(scope="module")
def code() -> Tensor:
    """Of a head that differs from the mean."""
    code = torch.zeros(load_prior().latent_basis.shape[1])
    code[:8] = torch.tensor([0.7, -0.9, 0.8, 0.6, -0.9, 0.7, 0.8, -0.6])
    return code


@pytest.fixture(scope="module")
def lit_scene(code: Tensor) -> Scene:
    """One photo of that head, matte and of one colour, under one sky; without normals."""
    prior = load_prior()
    whole = MeshConfig(resolution=128, sliver_depth=0, cut_handles=False)  # the field's own surface
    head = extract(prior.field, prior.mean_latent + prior.latent_basis @ code, whole)
    renderer = Renderer(dataclasses.replace(head, vertices=transform_points(WORLD_FROM_HEAD, head.vertices)))
    camera = orbit_camera(yaw_deg=10.0, pitch_deg=0.0, distance=850.0, target=np.array([5.0, -9, 30]), focal_px=400.0, size=200)
    seen = renderer.render(camera)
    linear = 0.4 + 0.3 * (seen.normals @ np.array([0.5, -0.5, -0.6]))
    image = np.repeat(np.clip(linear, 0, 1)[..., None] ** (1 / 2.2), 3, axis=-1) * seen.mask[..., None]
    return Scene((Photo(image.astype(np.float32), seen.mask, camera, None, "0.png"),), (0,), "lit")


def test_the_start_explains_the_light_that_it_looks_at(lit_scene: Scene) -> None:
    prior, bank = load_prior(), RayBank(lit_scene, 200, CPU, located=True)

    def cost(shading: ShadingConfig | None) -> float:
        start = solve_start(bank, prior, np.linalg.inv(WORLD_FROM_HEAD), CONFIG.start, CONFIG.rays, shading=shading)
        head = PosedHead(prior, 64, CPU, code=start.code)
        head.move(start)
        return shading_residuals(head, bank.subject(3000, with_normals=False), ShadingConfig(), CONFIG.rays).cost

    assert cost(ShadingConfig()) < 0.7 * cost(None)


def test_the_start_does_not_look_at_the_light_where_normals_are_certain_or_nothing_is_to_be_found(lit_scene: Scene) -> None:
    photo, rough = lit_scene.photos[0], np.linalg.inv(WORLD_FROM_HEAD)
    towards = np.where(photo.mask[..., None], (0.0, 0.0, -1.0), 0.0).astype(np.float32)
    sure = RayBank(dataclasses.replace(lit_scene, photos=(dataclasses.replace(photo, normals=towards),)), 200, CPU, located=True)
    with_light, without = (solve_start(sure, load_prior(), rough, CONFIG.start, CONFIG.rays, shading=s) for s in (ShadingConfig(), None))
    np.testing.assert_array_equal(with_light.head_from_world, without.head_from_world)
    assert torch.equal(with_light.code, without.code)
    still = dataclasses.replace(CONFIG.start, steps=0)
    kept = solve_start(RayBank(lit_scene, 200, CPU, located=True), load_prior(), rough, still, CONFIG.rays, shading=ShadingConfig())
    np.testing.assert_array_equal(kept.head_from_world, rough)
    assert not kept.code.any()


@pytest.mark.parametrize("trust", [0.1, 1.0])
def test_the_fit_looks_at_the_light_where_normals_are_not_trusted(lit_scene: Scene, trust: float) -> None:
    photo = lit_scene.photos[0]
    towards = np.zeros((*photo.mask.shape, 3), np.float32)
    towards[photo.mask] = (0.0, 0.0, -1.0)
    photo = dataclasses.replace(photo, normals=towards, confidence=np.full(photo.mask.shape, trust, np.float32))
    bank = RayBank(dataclasses.replace(lit_scene, photos=(photo,)), 200, CPU, located=True)
    start = Start(np.linalg.inv(WORLD_FROM_HEAD), torch.zeros(load_prior().latent_basis.shape[1]), 0.0)
    fitted = fit(bank, load_prior(), override(CONFIG, ["fit.steps=1"]), start, torch.Generator().manual_seed(0))
    assert ("shading" in fitted.curve[0]) == (trust < 1)

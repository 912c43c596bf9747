"""`avatar-kit normals predict` and `eval` on an untrained network: files, refusals, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from avatar_kit_cli.main import main
from PIL import Image
from sphere_pairs import SphereRequest

from avatar_kit.config import Config, NormalsConfig
from avatar_kit.normals.evaluate import Scores, evaluate_pairs
from avatar_kit.normals.network import NormalMaps, NormalNet
from avatar_kit.normals.pool import pack, unpack
from avatar_kit.normals.ray_frame import assumed_intrinsics, pixel_rays
from avatar_kit.normals.storage import save_normals
from avatar_kit.scene.h3ds import read_normal_map
from avatar_kit.types import InputError


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that says "foreground, facing the camera" everywhere, its normals leaning outwards on the picture's edge."""
    net = NormalNet(NormalsConfig(decoder_channels=(16, 16, 16, 16, 8)))
    with torch.no_grad():
        head = net.unet.segmentation_head[0]
        assert isinstance(head, torch.nn.Conv2d)
        assert head.bias is not None
        head.weight.zero_()
        head.bias[3] = 5.0
    file = tmp_path_factory.mktemp("weights") / "flat.safetensors"
    save_normals(file, net, {})
    return file


def test_predict_writes_maps_of_the_photos_size(weights: Path, tmp_path: Path) -> None:
    Image.new("RGB", (80, 60), (120, 90, 80)).save(tmp_path / "photo.jpg")
    main(["normals", "predict", str(tmp_path / "photo.jpg"), "--weights", str(weights), "--out", str(tmp_path / "out")])
    normals = read_normal_map(tmp_path / "out/photo_normal.png")
    assert normals.shape == (60, 80, 3)
    assert np.allclose(normals, -pixel_rays(assumed_intrinsics(60, 80), 60, 80), atol=2e-3)
    assert np.asarray(Image.open(tmp_path / "out/photo_mask.png")).min() == 255
    assert (tmp_path / "out/photo_preview.png").is_file()


def test_bad_photos_and_missing_weights_end_with_code_3(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.jpg").write_text("no")
    for arguments, word in (
        ([str(tmp_path / "text.jpg"), "--weights", str(weights)], "text.jpg"),
        ([str(tmp_path / "text.jpg"), "--weights", str(tmp_path / "none.safetensors")], "none.safetensors"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["normals", "predict", *arguments, "--out", str(tmp_path / "out")])
        assert stopped.value.code == 3
        assert word in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_scores_see_each_damage() -> None:
    pairs = [SphereRequest().open(64).pair(i) for i in range(2)]
    truth = unpack([pack(pair) for pair in pairs])
    perfect = NormalMaps(truth.normals, truth.foreground * 20 - 10, truth.coordinates, truth.foreground)
    turn = torch.tensor([[np.cos(0.2), np.sin(0.2), 0], [-np.sin(0.2), np.cos(0.2), 0], [0, 0, 1]], dtype=torch.float32)
    damaged = {
        "degrees": perfect._replace(normals=torch.einsum("ij,bjhw->bihw", turn, perfect.normals)),
        "iou": perfect._replace(foreground=perfect.foreground.roll(8, -1)),
        "coordinates_mm": perfect._replace(coordinates=perfect.coordinates + 0.05),
    }

    def scored(maps: NormalMaps) -> dict[str, float]:
        scores = Scores()
        scores.add(maps, truth, yaws_deg=[10.0, -50.0])
        return scores.means()

    best = scored(perfect)
    assert best["degrees"] < 0.1
    assert best["iou"] == 1.0
    assert best["coordinates_mm"] == 0.0
    assert {"degrees_yaw_0_20", "degrees_yaw_45_70"} <= best.keys()
    assert scored(damaged["degrees"])["degrees"] > 5
    assert scored(damaged["iou"])["iou"] < 0.9
    assert scored(damaged["coordinates_mm"])["coordinates_mm"] == pytest.approx(0.05 * 200 * 3**0.5, rel=1e-3)


def test_pairs_are_scored_with_their_pose() -> None:
    pair = SphereRequest().open(64).pair(1)

    class Knows(torch.nn.Module):
        in_ray_frame = True

        def forward(self, image: torch.Tensor) -> NormalMaps:
            truth = unpack([pack(pair)])
            return NormalMaps(truth.normals, truth.foreground * 20 - 10, truth.coordinates, truth.foreground + 3)

    scores = evaluate_pairs(Knows(), [pair], flips=False)  # pyright: ignore
    assert scores["pose_degrees"] < 0.5
    assert scores["pose_missing"] == 0.0
    assert json.dumps(scores)


def test_unknown_ingredients_and_an_earlier_training_are_usage_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/training.ckpt").write_bytes(b"")
    train = ["normals", "train", "--out", str(tmp_path / "n.safetensors"), "--work", str(tmp_path / "work")]
    small = ["--set", "normals.decoder_channels=16,16,16,16,8", "--set", "normals_training.pool=8"]
    for arguments, words in (
        ([*train, "--without", "noses"], "no such ingredient"),
        ([*train, *small], "--resume"),
        ([*train, "--pairs-first", "9,5"], "give one count"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(("options", "wanted"), [([], 160), (["normals_training.sizes=192"], 224), (["normals.crop_px=96"], 96)])
def test_a_network_predicts_on_a_fifth_more_than_it_was_trained_on(
    options: list[str], wanted: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def session(config: Config, *_: Any, **__: Any) -> None:
        asked.append(config.normals.crop_px)
        raise InputError("enough")

    monkeypatch.setattr("avatar_kit.normals.session.TrainingSession", session)
    with pytest.raises(SystemExit):
        main(["normals", "train", "--out", str(tmp_path / "n.safetensors"), *[part for text in options for part in ("--set", text)]])
    assert asked == [wanted]

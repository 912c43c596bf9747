"""Fixtures: shapes with closed forms, a tiny prior, the shared development data (or a reason to skip)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from avatar_kit.config import Config, FieldConfig, FitConfig, MeshConfig, PriorConfig, RaysConfig
from avatar_kit.prior.samples import HeadRequest, SampleFolder, write_samples
from avatar_kit.types import Mesh

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def shared() -> Path:
    """The development data beside the repository."""
    if not SHARED.is_dir():
        pytest.skip("needs the development data in ../shared")
    return SHARED


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def as_mesh(shape: trimesh.Trimesh) -> Mesh:
    return Mesh(np.asarray(shape.vertices), np.asarray(shape.faces, np.int32))


@pytest.fixture
def sphere() -> Mesh:
    """Radius 0.5, 1 mm from round where the unit is 200 mm."""
    return as_mesh(trimesh.creation.icosphere(subdivisions=4, radius=0.5))


@pytest.fixture
def box() -> Mesh:
    """Extents 1.0, 0.6 and 0.4 around the origin."""
    return as_mesh(trimesh.creation.box(extents=(1.0, 0.6, 0.4)))


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    """Every stage at a size that runs in seconds."""
    return Config(
        field=FieldConfig(
            frequencies=2, latent=4, width=32, layers=2, levels=(2, 3), features=4, local_rank=4, local_level=2, initial_radius=0.5
        ),
        prior=PriorConfig(epochs=(30, 10, 0), heads_per_step=4, points_per_head=256, mask_epochs=5, learning_rate=5e-3),
        rays=RaysConfig(per_step=512, cache_resolution=32),
        fit=FitConfig(steps=30, image_size=64, color_weight=0.0),
        mesh=MeshConfig(resolution=64, coarse=32),
    )


@pytest.fixture(scope="session")
def balls(tmp_path_factory: pytest.TempPathFactory) -> SampleFolder:
    """Samples of twelve balls with radii of 60 to 110 mm, made through the folder source."""
    folder = tmp_path_factory.mktemp("balls")
    for i, radius in enumerate(np.linspace(60, 110, 12)):
        trimesh.creation.icosphere(subdivisions=4, radius=radius).export(folder / f"ball_{i:02d}.ply")
    return write_samples(folder / "samples", [HeadRequest(f"folder:{folder}", 12)])


@pytest.fixture(scope="session")
def ball_prior(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a prior of eight balls around the origin, with radii of 60 to 110 mm, and history.jsonl beside it."""
    from avatar_kit.prior.history import History
    from avatar_kit.prior.storage import save_prior
    from avatar_kit.prior.train import PriorTrainer

    folder = tmp_path_factory.mktemp("ball_prior")
    for i, radius in enumerate(np.linspace(60, 110, 8)):
        trimesh.creation.icosphere(subdivisions=3, radius=radius).export(folder / f"ball_{i:02d}.ply")
    trainer = PriorTrainer(write_samples(folder / "samples", [HeadRequest(f"folder:{folder}", 8)]), tiny_config, seed=0)
    history = History(folder / "history.jsonl")
    trainer.train(checkpoint=folder / "training.ckpt", on_epoch=lambda epoch, terms: history.add(epoch, trainer.seconds, terms))
    save_prior(folder / "prior.safetensors", trainer.field, trainer.latents.data, {"heads": [{"source": "folder", "count": 8}]})
    return folder / "prior.safetensors"

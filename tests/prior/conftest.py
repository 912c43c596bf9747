"""Heads with a closed form: balls of many sizes."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from avatar_kit.prior.samples import HeadRequest, SampleFolder, write_samples


@pytest.fixture(scope="session")
def balls(tmp_path_factory: pytest.TempPathFactory) -> SampleFolder:
    """Samples of twelve balls with radii of 60 to 110 mm, made through the folder source."""
    folder = tmp_path_factory.mktemp("balls")
    for i, radius in enumerate(np.linspace(60, 110, 12)):
        shape = trimesh.creation.icosphere(subdivisions=4, radius=radius)
        shape.export(folder / f"ball_{i:02d}.ply")
    return write_samples(folder / "samples", [HeadRequest(f"folder:{folder}", 12)])

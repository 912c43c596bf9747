"""USD files come back as they were written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatar_kit import backends
from avatar_kit.backends import BackendMissing
from avatar_kit.mesh.usd import write_usd
from avatar_kit.types import Mesh

missing = backends.why_not("pxr.Usd", "Stage")


@pytest.mark.skipif(missing is not None, reason=f"needs usd-core: {missing}")
def test_a_mesh_comes_back(tmp_path: Path, box: Mesh) -> None:
    from pxr import Usd, UsdGeom

    colors = np.linspace(0, 1, 3 * len(box.vertices)).reshape(-1, 3)
    for _ in range(2):  # a second time replaces the first
        write_usd(tmp_path / "head.usdc", Mesh(box.vertices, box.faces, colors))
    assert [file.name for file in tmp_path.iterdir()] == ["head.usdc"]
    stage = Usd.Stage.Open(str(tmp_path / "head.usdc"))
    head = UsdGeom.Mesh(stage.GetDefaultPrim())
    np.testing.assert_allclose(np.array(head.GetPointsAttr().Get()), box.vertices, atol=1e-6)
    assert np.array_equal(np.array(head.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3), box.faces)
    np.testing.assert_allclose(np.array(head.GetDisplayColorAttr().Get()) ** (1 / 2.2), colors, atol=1e-5)
    assert UsdGeom.GetStageMetersPerUnit(stage) == 1.0
    assert UsdGeom.GetStageUpAxis(stage) == "Y"


@pytest.mark.skipif(missing is None, reason="needs a machine without usd-core")
def test_without_usd_core_it_says_what_to_install(tmp_path: Path, box: Mesh) -> None:
    with pytest.raises(BackendMissing, match="pip install usd-core"):
        write_usd(tmp_path / "head.usdc", box)
    assert not list(tmp_path.iterdir())

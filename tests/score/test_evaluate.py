"""Subjects of a dataset, from photos to scores: the bad ones are named and counted, the others scored, in any number of processes."""

from __future__ import annotations

import json
import shutil
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avatar_kit.config import PRESETS, Config, override
from avatar_kit.conventions import MM_PER_UNIT
from avatar_kit.mesh.files import read_mesh, write_mesh
from avatar_kit.prior.storage import load_prior
from avatar_kit.score.datasets import subjects
from avatar_kit.score.evaluate import SubjectScorer
from avatar_kit.score.page import table_page
from avatar_kit.score.rivals import Rival
from avatar_kit.score.tables import run, summaries, write_tables
from avatar_kit.types import Mesh

DEMO = Path(str(resources.files("avatar_kit") / "weights" / "demo"))


@pytest.fixture
def quick() -> Config:
    settings = "fit.steps=2 fit.image_size=64 rays.per_step=512 rays.cache_resolution=32 start.steps=1 mesh.resolution=64 mesh.refine=false"
    return override(PRESETS["fast"], [*settings.split(), "texture.size=0"])


def copies(place: Path, *names: str) -> None:
    """Of the demo, which say where the head is: that need not be found anew."""
    for name in names:
        shutil.copytree(DEMO, place / name)
        notes = json.loads((place / name / "views.json").read_text())
        notes["head_from_world"] = np.diag([1 / MM_PER_UNIT] * 3 + [1.0]).tolist()
        (place / name / "views.json").write_text(json.dumps(notes))


def rival_that_gives(name: str, file: Path) -> Rival:
    return Rival(name, f"{sys.executable} -c 'import shutil, sys; shutil.copy(*sys.argv[1:])' {file} {{out}}")


@pytest.mark.slow
def test_each_kind_of_bad_input_is_named_and_counted_and_the_rest_is_scored(tmp_path: Path, quick: Config) -> None:
    root = tmp_path / "heads"
    copies(root, "good", "in_metres", "without_camera", "without_mask", "without_photos", "without_truth")
    truth = read_mesh(DEMO / "full_head.obj")
    small = Mesh(truth.vertices / 1000, truth.faces)
    (root / "in_metres/full_head.obj").write_text(
        "".join(f"v {x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in small.vertices) + "".join(f"f {a} {b} {c}\n" for a, b, c in small.faces + 1)
    )
    (root / "without_camera/cameras.npz").unlink()
    (root / "without_mask/mask/mask_0000.png").unlink()
    shutil.rmtree(root / "without_photos/image")
    (root / "without_truth/full_head.obj").unlink()
    write_mesh(tmp_path / "truth.ply", truth)
    write_mesh(tmp_path / "small.ply", small)
    (tmp_path / "empty.ply").write_bytes(b"")
    rivals = [rival_that_gives(name, tmp_path / f"{name}.ply") for name in ("truth", "small", "empty")]
    scorer = SubjectScorer(load_prior(), config=quick, rivals=rivals)
    results = run(subjects("scenes", root), [1], tmp_path / "out", scorer)
    errors = {result["subject"]: result["error"] for result in results if "error" in result}
    assert set(errors) == {"in_metres", "without_camera", "without_mask", "without_photos", "without_truth"}
    for name, words in (
        ("in_metres", "metres"), ("without_camera", "cameras.npz"), ("without_mask", "mask_0000.png"), ("without_photos", "image"),
        ("without_truth", "full_head.obj: missing"),
    ):  # fmt: skip
        assert words in errors[name]
        assert str(root / name) in errors[name]
    text = write_tables(results, tmp_path / "out", dataset="scenes").read_text()
    assert "Not reconstructed: 5 of 6." in text
    assert "Rivals' meshes without a score: 2." in text
    assert "small: is 0.001 times" in text
    assert "empty: good, " in text
    assert "| truth | 1 | 0.00 (0.00, 0.00)" in text
    assert "| ours | 1 | " in text
    assert "| small |" not in text
    page = table_page(results, summaries(results), dataset="scenes")
    assert "Not reconstructed" in page
    assert "small: is 0.001 times" in page


@pytest.mark.slow
def test_two_processes_give_what_one_gives_and_go_on_where_they_were(tmp_path: Path, quick: Config) -> None:
    copies(tmp_path / "heads", "anna", "bert", "carl")
    (tmp_path / "heads/bert/full_head.obj").unlink()
    found = subjects("scenes", tmp_path / "heads")
    scorer = SubjectScorer(load_prior(), config=quick)

    def kept(results: list[dict[str, Any]]) -> list[tuple]:
        return [(result["subject"], result.get("scores"), result.get("error")) for result in results]

    one = run(found, [1], tmp_path / "one", scorer)
    (tmp_path / "two").mkdir()
    (tmp_path / "two/results.jsonl").write_text((tmp_path / "one/results.jsonl").read_text().splitlines(keepends=True)[0])
    two = run(found, [1], tmp_path / "two", scorer, jobs=2)
    assert json.dumps(kept(two)) == json.dumps(kept(one))  # NaN too
    assert np.isfinite(two[0]["scores"]["ours"]["h3ds"]["face_mm"])
    assert len((tmp_path / "two/results.jsonl").read_text().splitlines()) == 3

"""The commands as a user meets them: help at once, errors in words, nothing half-written."""

from __future__ import annotations

import ast
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import warnings
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from avatar_kit_cli import main

DEMO = Path(str(resources.files("avatar_kit") / "weights" / "demo"))
QUICK = ["--set", "fit.steps=3", "--set", "start.steps=2", "--set", "mesh.resolution=64", "--set", "mesh.refine=false"]


def run(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "avatar_kit_cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


def test_importing_the_package_and_asking_for_help_loads_nothing_heavy() -> None:
    code = "import avatar_kit, avatar_kit_cli.main, sys; print([m for m in ('torch', 'warp', 'scipy', 'trimesh') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
    for command in ([], ["recon"], ["prior", "train"], ["data", "capture"], ["eval"], ["doctor"]):
        assert "Usage" in run(*command, "--help").stdout


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told what to do with freed memory")
def test_memory_that_is_freed_is_used_again() -> None:
    code = """
import contextlib, resource
import numpy as np
from avatar_kit_cli.main import main
with contextlib.suppress(SystemExit):
    main(["--version"])
faults = []
for _ in range(3):
    np.ones(100 << 17)  # 100 MB
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[2] - faults[1])
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(answer.stdout.splitlines()[-1]) < 20  # pages of 2 MB would be 50, those of 4 KB 25 thousand


def test_recon_writes_its_paths_to_stdout_and_the_rest_to_stderr(tmp_path: Path) -> None:
    done = run("recon", DEMO, "--views", "1", "--out", tmp_path / "out", *QUICK)
    assert done.returncode == 0, done.stderr
    paths = [Path(line) for line in done.stdout.splitlines()]
    assert [path.name for path in paths] == [
        "mesh.ply",
        "avatar.glb",
        "preview.png",
        "report.json",
        "fit.safetensors",
        "errors.png",
        "report.html",
    ]
    assert all(path.is_file() for path in paths)
    assert "mean head" in done.stderr
    assert "Warp" not in done.stderr
    again = run("recon", DEMO, "--views", "1", "--out", tmp_path / "out", *QUICK)
    assert again.returncode == 2
    assert "--overwrite" in again.stderr
    scored = run("eval", tmp_path / "out", "--reference", DEMO, "--protocol", "metric")
    assert scored.returncode == 0, scored.stderr
    assert "mean head" in scored.stdout


def test_several_scenes_share_a_call_and_a_finished_one_is_kept(tmp_path: Path) -> None:
    first, second = (Path(shutil.copytree(DEMO, tmp_path / name)) for name in ("one", "two"))
    (second / "cameras.npz").write_text("no arrays")
    command = ["recon", first, second, "--views", "1", "--out", tmp_path / "out", *QUICK]
    done = run(*command)
    assert done.returncode == 3
    assert "1 of 2 scenes" in done.stderr
    assert "cameras.npz" in done.stderr
    assert (tmp_path / "out/one/mesh.ply").is_file()
    assert not (tmp_path / "out/two").exists()
    assert run(*command).returncode == 2  # one is there
    before = (tmp_path / "out/one/report.json").stat().st_mtime_ns
    shutil.copy(DEMO / "cameras.npz", second)
    again = run(*command, "--resume")
    assert again.returncode == 0, again.stderr
    assert "finished already" in again.stderr
    assert (tmp_path / "out/one/report.json").stat().st_mtime_ns == before
    assert (tmp_path / "out/two/mesh.ply").is_file()
    assert "named one" in run("recon", first, first, "--out", tmp_path / "x").stderr


def test_plain_photos_are_checked_and_then_reconstructed(tmp_path: Path) -> None:
    photos = Path(shutil.copytree(DEMO / "image", tmp_path / "photos"))
    out = tmp_path / "out"
    checked = run("recon", photos, "--check", "--out", out)
    assert checked.returncode == 0, checked.stderr
    assert [Path(line).name for line in checked.stdout.splitlines()] == ["photos.json", "photos.png"]
    assert "yaw" in checked.stderr
    done = run("recon", photos, "--views", "2", "--out", out, *QUICK, "--set", "cameras.rotation_std_deg=9")
    assert done.returncode == 0, done.stderr
    assert {"mesh.ply", "avatar.glb", "report.json", "photos.json", "photos.png"} <= {file.name for file in out.iterdir()}
    report = json.loads((out / "report.json").read_text())
    assert report["normals"] == "predicted"
    cameras = report["config"]["cameras"]
    assert (cameras["refine"], cameras["rotation_std_deg"], cameras["translation_std"]) == (True, 9.0, 0.2)  # set on those of plain photos
    stated = json.loads((out / "photos.json").read_text())["photos"]
    moved = np.abs(np.array(report["world_from_camera"]) - [photo["world_from_camera"] for photo in stated])
    assert 0 < moved.max() < 100  # mm
    assert run("recon", photos, "--normals", "none", "--out", tmp_path / "x").returncode == 2
    assert run("recon", DEMO, "--check", "--out", tmp_path / "x").returncode == 2


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO, tmp_path / "scene"))


@pytest.mark.parametrize("defect", ["mask", "photo", "camera", "views"])
def test_bad_input_is_one_line_exit_3_and_no_output(scene: Path, tmp_path: Path, defect: str) -> None:
    views = "3"
    if defect == "mask":
        (scene / "mask/mask_0002.png").unlink()
    elif defect == "photo":
        (scene / "image/img_0003.jpg").write_bytes(b"no picture")
    elif defect == "camera":
        with np.load(scene / "cameras.npz") as pack:
            arrays = {name: pack[name] for name in pack.files}
        arrays["world_mat_0"][1, 1] = np.nan
        np.savez(scene / "cameras.npz", **arrays)
    else:
        views = "9"
    done = run("recon", scene, "--views", views, "--out", tmp_path / "out", *QUICK)
    assert done.returncode == 3
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob("*.part"))


def test_usage_errors_exit_2(tmp_path: Path) -> None:
    wrong = run("recon", DEMO, "--out", tmp_path / "out", "--set", "fit.step=3")
    assert wrong.returncode == 2
    assert "Did you mean fit.steps" in wrong.stderr


def test_warnings_are_a_line_each(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(main.cli, "main", lambda **_: warnings.warn("img_2.jpg: is blurred", stacklevel=1))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        shown = warnings.showwarning
        main.main(["recon"])
        assert warnings.showwarning is shown
    assert capsys.readouterr().err == "warning: img_2.jpg: is blurred\n"


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "avatar_kit_cli.main", "recon", str(DEMO), "--views", "3", "--out", str(tmp_path / "out")]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests in the background ignore it, and children inherit that
    try:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ.copy())
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stderr
    assert process.stderr.read(1), "it has begun"
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    # to a shell both are 130: Python ends by the signal itself where that met code that is executed from a string, as imports do
    assert process.returncode in (130, -signal.SIGINT), errors
    assert "nothing unfinished was written" in errors
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_becomes_a_table_that_can_be_resumed(tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(DEMO, tmp_path / "heads" / name)
    (tmp_path / "heads/two/full_head.obj").unlink()
    command = ["eval", "--dataset", "scenes", "--root", tmp_path / "heads", "--views", "1", "--out", tmp_path / "out", *QUICK]
    done = run(*command)
    assert done.returncode == 0, done.stderr
    text = Path(done.stdout.strip()).read_text()
    assert "| ours | 1 |" in text
    assert "two/full_head.obj: missing" in text
    again = run(*command)
    assert again.stderr.count("there already") == 1  # what failed is tried again
    assert Path(again.stdout.strip()).read_text() == text
    other = run(*command, "--set", "fit.steps=4")
    assert "3 lines of other settings are kept aside" in other.stderr
    assert "there already" not in other.stderr
    assert run("eval").returncode == 2
    assert "--root" in run("eval", "--dataset", "scenes").stderr


def test_doctor_knows_the_placeholder_and_passes_its_self_test(tmp_path: Path) -> None:
    (tmp_path / "kaolin").mkdir()
    (tmp_path / "kaolin/__init__.py").write_text('raise ImportError("this is a placeholder; see the install page")\n')
    done = run("doctor", "--json", "--device", "cpu", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert "placeholder" in found["backends"]["extract"]["kaolin"]
    assert found["backends"]["extract"]["warp"] == "used"
    assert found["backends"]["render"]["nvdiffrast"] == "works on cuda only"
    assert "non-commercial" in found["licences"]["nvdiffrast"]
    assert found["self_test"]["passed"]
    assert found["weights"]["prior"]["megabytes"] < 12


@pytest.mark.parametrize(
    ("option", "words"),
    [(["--backend", "kaolin"], "kaolin: not usable"), (["--usd"], "pip install usd-core"), (["--set", "mesh.extractor=balls"], "balls")],
)
def test_a_missing_library_is_named_before_anything_is_computed(tmp_path: Path, option: list[str], words: str) -> None:
    for name in ("kaolin", "pxr"):
        (tmp_path / f"lib/{name}").mkdir(parents=True)
        (tmp_path / f"lib/{name}/__init__.py").write_text("raise ImportError('not here')\n")
    done = run("recon", DEMO, "--out", tmp_path / "out", *option, env={**os.environ, "PYTHONPATH": str(tmp_path / "lib")})
    assert done.returncode == 4
    assert words in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_failed_self_test_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from avatar_kit_cli.doctor import doctor
    from click.testing import CliRunner

    from avatar_kit.score import self_test

    monkeypatch.setattr(self_test, "self_test", lambda device: self_test.SelfTest(9.0, 0.85, False, {"total": 1.0}))
    done = CliRunner().invoke(doctor, ["--device", "cpu"])
    assert done.exit_code == 1
    assert "FAILED: face 9.00 mm" in done.output
    assert "make demo" in done.output


def test_optional_libraries_are_imported_in_their_own_modules_only() -> None:
    homes = {
        "kaolin": {"mesh/kaolin_extraction.py", "score/distances.py"},
        "nvdiffrast": {"render/rasterize.py"},
        "torchvision": {"torchvision_import.py"},
        "onnxruntime": {"normals/onnx.py"},
        "pxr": {"mesh/usd.py"},
    }
    package = Path(__file__).resolve().parents[1] / "avatar_kit"
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                root = name.split(".")[0]
                assert str(file.relative_to(package)) in homes.get(root, {str(file.relative_to(package))}), f"{file} imports {root}"

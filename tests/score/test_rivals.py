"""Meshes of other methods: a command in, a mesh and its seconds out."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from avatar_kit.mesh.files import write_mesh
from avatar_kit.score.rivals import Rival
from avatar_kit.types import InputError, Mesh


def test_a_command_is_given_scene_views_and_out(tmp_path: Path, box: Mesh) -> None:
    scene = tmp_path / "a scene"
    scene.mkdir()
    write_mesh(scene / "truth.ply", box)
    script = tmp_path / "copy.py"
    script.write_text("import shutil, sys; scene, views, out = sys.argv[1:]; assert views == '0,2'; shutil.copy(scene + '/truth.ply', out)")
    rival = Rival.parse(f"copy = {sys.executable} {script} {{scene}} {{views}} {{out}}")
    assert rival.name == "copy"
    mesh, seconds = rival.mesh(scene, [0, 2])
    np.testing.assert_allclose(mesh.vertices, box.vertices, atol=1e-6)
    assert 0 < seconds < 60


def test_commands_that_fail_say_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="NAME=COMMAND"):
        Rival.parse("python {scene}")
    with pytest.raises(InputError, match="no mesh"):
        Rival("idle", f"{sys.executable} -c pass {{scene}} {{out}}").mesh(tmp_path, [0])
    with pytest.raises(InputError, match="out of memory"):
        Rival("bad", f"{sys.executable} -c 'raise SystemExit(\"out of memory\")' {{scene}} {{out}}").mesh(tmp_path, [0])
    with pytest.raises(InputError, match="cannot be run"):
        Rival("none", "no-such-program {scene} {out}").mesh(tmp_path, [0])

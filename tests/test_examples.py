"""Every example runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example: Path, tmp_path: Path) -> None:
    arguments = [sys.executable, str(example)]
    if example.stem == "reconstruct":
        from avatar_kit.recon import pipeline

        demo = Path(pipeline.__file__).parents[1] / "weights" / "demo"
        arguments += [str(demo), "--quick"]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()

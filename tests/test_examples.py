"""Every example runs."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(example: Path, tmp_path: Path) -> None:
    arguments = [sys.executable, str(example)]
    photo = resources.files("avatar_kit") / "weights" / "demo" / "image" / "img_0000.jpg"
    arguments += {"reconstruct": ["--quick"], "plain_photos": [str(photo), "--quick"]}.get(example.stem, [])
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()

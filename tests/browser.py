"""A real browser, headless and cut off from the network, to see pages that are made here.

python tests/browser.py PAGE.html PICTURE.png [--size 1160x2400]     # as docs/report.png was made
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--headless", "--no-sandbox", "--no-first-run", "--disable-quic", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--enable-logging=stderr", "--v=0",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",  # WebGL without a GPU
)  # fmt: skip
_CONSOLE = re.compile(r':CONSOLE[:(]\d+\)?\] "(.*?)", source:', re.DOTALL)


@dataclass
class Visit:
    """What came of opening a page.

    Attributes:
        picture: of the window, (H, W, 3) uint8.
        console: what scripts and the browser wrote there.
        requests: addresses that the page asked the network for; no name is resolved, so it got nothing.
    """

    picture: np.ndarray
    console: list[str]
    requests: list[str]


def browser() -> str | None:
    """Path of a Chromium or Chrome, or None."""
    return next((found for found in map(shutil.which, _NAMES) if found), None)


def visit(page: Path, *, size: tuple[int, int] = (1160, 2400), milliseconds: int = 10_000, timeout: float = 120.0) -> Visit:
    """Open a page, let its scripts run for some virtual time, take a picture.

    Args:
        size: of the window, width and height in px.

    Raises:
        RuntimeError: no browser, or it took no picture.
    """
    program = browser()
    if program is None:
        raise RuntimeError(f"none of {', '.join(_NAMES)} is on PATH.")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        shot, log = Path(place) / "shot.png", Path(place) / "net.json"
        command = [program, *_FLAGS, f"--user-data-dir={place}/profile", f"--log-net-log={log}",
                   f"--screenshot={shot}", f"--window-size={size[0]},{size[1]}", f"--virtual-time-budget={milliseconds}",
                   page.resolve().as_uri()]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
        if not shot.is_file():
            raise RuntimeError(f"{program} ended with {done.returncode} and no picture. {done.stderr[-2000:]}")
        with Image.open(shot) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        return Visit(pixels, _CONSOLE.findall(done.stderr), _requests(log))


def _requests(log: Path) -> list[str]:
    """From Chromium's own log of the network. What the browser itself asks for, such as its updates, has no page for its origin."""
    kept = json.loads(log.read_text())
    start = kept["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    asked = [event["params"] for event in kept["events"] if event["type"] == start and "url" in event.get("params", {})]
    return [request["url"] for request in asked if request.get("initiator") != "not an origin"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--size", default="1160x2400")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    seen = visit(options.page, size=(width, height))
    picture = Image.fromarray(seen.picture)
    small = picture.resize((width * 2 // 3, height * 2 // 3), Image.Resampling.LANCZOS)
    # by octree: a median cut gives the few pixels of a face the hues of others
    small.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(options.picture, optimize=True)
    for line in [*seen.console, *seen.requests]:
        print(line)  # noqa: T201


if __name__ == "__main__":
    main()

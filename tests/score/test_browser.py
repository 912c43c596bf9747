"""Pages in a real browser: they show what they should, the head in 3D too, and ask the network for nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import browser, visit
from PIL import Image

from avatar_kit.render.picture import png
from avatar_kit.score.page import Page, head_viewer, table_page
from avatar_kit.score.tables import summaries
from avatar_kit.types import Mesh, Texture

pytestmark = pytest.mark.skipif(browser() is None, reason="needs chromium, chromium-browser or google-chrome on PATH")

GREEN, MAGENTA = (0.0, 1.0, 0.0), (255, 0, 255)
_PROBE = """<canvas></canvas><script>
const gl = document.querySelector("canvas").getContext("webgl2");
if (gl) { document.body.style.background = "#f0f"; }
</script>"""


def share(picture: np.ndarray, color: tuple[int, int, int], within: int = 40) -> float:
    """Of the pixels, those of about this colour."""
    return float((np.abs(picture.astype(int) - color).max(-1) < within).mean())


def has_webgl(place: Path) -> bool:
    probe = place / "probe.html"
    probe.write_text(f"<body>{_PROBE}</body>")
    return share(visit(probe, size=(200, 200)).picture, MAGENTA) > 0.5


def test_a_page_shows_its_head_its_pictures_and_its_curves_and_fetches_nothing(tmp_path: Path, box: Mesh) -> None:
    green = replace(box, colors=np.tile(GREEN, (len(box.vertices), 1)))
    page = Page("A head", ["0.50 mm"], head_viewer(green), [("Scores", ["", "ours"], [["face", "0.50"]])])
    page.pictures = [("A picture", "", png(Image.new("RGB", (400, 200), MAGENTA)))]
    page.plots = [("A plot", "", '<svg width="400" height="200"><rect width="400" height="200" fill="#00f"/></svg>')]
    file = tmp_path / "report.html"
    file.write_text(page.html())
    seen = visit(file, size=(1000, 1500))
    assert seen.requests == []
    assert seen.console == []
    area = seen.picture.shape[0] * seen.picture.shape[1]
    assert share(seen.picture, MAGENTA) * area == pytest.approx(400 * 200, rel=0.02)
    assert share(seen.picture, (0, 0, 255)) * area == pytest.approx(400 * 200, rel=0.02)
    if not has_webgl(tmp_path):
        pytest.skip("this browser has no WebGL: all but the view in 3D was checked")
    r, g, b = np.moveaxis(seen.picture.astype(int), -1, 0)
    assert ((g > r + 60) & (g > b + 60)).sum() > 10_000  # px of the box; nothing else on the page is green


def test_the_head_has_the_colours_of_its_texture(tmp_path: Path) -> None:
    """A square that faces the camera, tan as faces are: lit it is up to a tenth lighter, in linear light."""
    if not has_webgl(tmp_path):
        pytest.skip("this browser has no WebGL")
    tan = np.array([0.6, 0.45, 0.35])
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
    corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float64)
    square = Mesh(corners, np.array([[0, 1, 2], [0, 2, 3]], np.int32), texture=Texture(np.tile(tan, (8, 8, 1)).astype(np.float32), uv))
    file = tmp_path / "head.html"
    file.write_text(head_viewer(square))
    found = visit(file, size=(400, 400)).picture[150:250, 150:250].reshape(-1, 3) / 255
    np.testing.assert_allclose(np.median(found, axis=0), tan * 1.1 ** (1 / 2.2), atol=0.03)


def test_the_page_of_a_table_is_drawn(tmp_path: Path) -> None:
    scores = {"h3ds": {"face_mm": 0.5, "head_mm": 1.0}, "metric": {"face_mm": 0.5, "head_visible_mm": 0.6}}
    both = {"ours": scores, "mean head": scores}
    results = [{"subject": name, "views": 3, "seed": 0, "scores": both, "seconds": {"total": 17.0}} for name in ("anna", "bert")]
    file = tmp_path / "report.html"
    file.write_text(table_page(results, summaries(results), dataset="scenes"))
    seen = visit(file, size=(1000, 1200))
    assert seen.requests == []
    assert seen.console == []
    rows = (seen.picture < 128).any(-1).any(1)  # rows of pixels with ink
    assert rows[:200].any()  # the headline
    assert rows[rows.nonzero()[0].max() - 300 :].sum() > 100  # the plot
    assert not (seen.picture[:, -1] < 200).any()  # nothing runs over the edge


def test_a_page_that_asks_the_network_or_fails_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "bad.html"
    file.write_text('<img src="http://pictures.example/a.png"><script>throw new Error("lost")</script>')
    seen = visit(file, size=(200, 200))
    assert any("pictures.example/a.png" in line for line in seen.requests)
    assert any("lost" in line for line in seen.console)

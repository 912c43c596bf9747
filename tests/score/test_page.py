"""Pages: whole, without anything to fetch, and with what they are about."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from avatar_kit.render.picture import png
from avatar_kit.score.page import Page, head_viewer, table_page
from avatar_kit.score.tables import summaries
from avatar_kit.types import Mesh


class Outline(HTMLParser):
    """Tags that are opened and closed, what is asked for from elsewhere, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.text, self.frames = "", []  # type: ignore[var-annotated]
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "link", "br", "path", "use", "rect", "input"):
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and value and not value.startswith(("data:", "#")):
                self.fetched.append(value)
            if name == "srcdoc":
                self.frames.append(value)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def result(subject: str, face: float, views: int = 3) -> dict:
    scores = {name: {"h3ds": {"face_mm": f, "head_mm": 2 * f}, "metric": {"face_mm": f, "head_visible_mm": f}}
              for name, f in (("ours", face), ("mean head", 2 * face))}  # fmt: skip
    return {"subject": subject, "views": views, "seed": 0, "scores": scores, "seconds": {"total": 17.0}}


def test_a_page_is_whole_and_fetches_nothing(box: Mesh) -> None:
    viewer = head_viewer(box)
    page = Page("a <b> & c", ["one"], viewer, [("T", ["x"], [["<script>alert(1)</script>"]])])
    page.pictures = [("P", "a picture", png(Image.fromarray(np.zeros((4, 4, 3), np.uint8))))]
    found = Outline(page.html())
    assert found.open == []
    assert found.fetched == []
    assert "alert(1)" in found.text  # as text, not as a script
    assert "a <b> & c" in found.text
    assert found.frames == [viewer]  # survives the quoting
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=[\"']?https?:", viewer)
    assert viewer.count("renderer.outputEncoding=THREE.sRGBEncoding") == 1
    assert "0xffffff,1.75" not in viewer  # the light that trimesh's page makes up for it with


def test_a_table_page_names_subjects_and_failures() -> None:
    results = [result("anna", 0.5), result("bert", 0.7), {"subject": "carl", "views": 3, "seed": 0, "error": "no photos"}]
    page = table_page(results, summaries(results), dataset="scenes")
    found = Outline(page)
    assert found.fetched == []
    for words in ("anna", "0.50", "bert", "carl", "no photos", "2 subjects", "other data"):
        assert words in found.text
    assert "<svg" in page
    assert "same data" in table_page(results, summaries(results), dataset="h3ds")


def test_a_page_without_results_still_says_so() -> None:
    failed = [{"subject": "carl", "views": 3, "seed": 0, "error": "no photos"}]
    assert "no photos" in table_page(failed, summaries(failed), dataset="scenes")


@pytest.mark.parametrize("views", [1, 3, 6])
def test_reported_times_are_read(views: int) -> None:
    assert table_page([result("anna", 0.5, views)], summaries([result("anna", 0.5, views)]), dataset="scenes").count("<svg") == 1


def test_a_page_shows_the_pictures_of_a_run_that_it_knows_in_its_own_order() -> None:
    page = Page("me")
    packed = {name: png(Image.new("RGB", (2, 2), color)) for name, color in (("other.png", 1), ("preview.png", 2), ("photos.png", 3))}
    page.show(packed)
    assert [picture for *_, picture in page.pictures] == [packed["photos.png"], packed["preview.png"]]

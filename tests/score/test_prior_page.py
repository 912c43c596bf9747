"""The page of a prior: whole, nothing to fetch, and with what it is about."""

from __future__ import annotations

from pathlib import Path

import pytest
from avatar_kit_cli.main import main
from score.test_page import Outline


def test_the_page_is_whole_and_fetches_nothing(ball_prior: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    command = ["prior", "page", str(ball_prior), "--resolution", "32", "--count", "3", "--out", str(out)]
    main([*command, "--history", str(ball_prior.parent / "history.jsonl")])
    assert capsys.readouterr().out.strip() == str(out)
    text = out.read_text()
    found = Outline(text)
    assert found.open == []
    assert found.fetched == []
    for words in ("8 heads", "Random heads", "Interpolation", "Learning curves", "40 epochs", "folder"):
        assert words in found.text
    assert text.count("<svg") == 1
    assert text.count("data:image/png") == 2
    main([*command, "--overwrite"])
    assert "<svg" not in out.read_text()
    for wrong, code in (([], 2), (["--overwrite", "--history", str(tmp_path / "none.jsonl")], 3)):
        with pytest.raises(SystemExit) as refused:
            main([*command, *wrong])
        assert refused.value.code == code


def test_the_shipped_priors_card_is_on_it(tmp_path: Path) -> None:
    main(["prior", "page", "--resolution", "32", "--count", "2", "--out", str(tmp_path / "page.html")])
    found = Outline((tmp_path / "page.html").read_text())
    for words in ("540", "heads it never saw: latent alone", "1.26", "CC0", "hours on", "avatar-kit prior train"):
        assert words in found.text

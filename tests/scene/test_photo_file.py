"""Photos of iPhones are read like any other; the rest of reading is in tests/normals/test_predict.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avatar_kit import backends
from avatar_kit.backends import BackendMissing
from avatar_kit.scene.photo_file import FULL_FRAME_DIAGONAL_MM, read_photo
from avatar_kit.types import InputError


@pytest.fixture
def picture() -> Image.Image:
    """Red on top, blue below, wider than high."""
    codes = np.zeros((60, 100, 3), np.uint8)
    codes[:30, :, 0], codes[30:, :, 2] = 220, 220
    return Image.fromarray(codes)


def test_heic_is_read_upright_with_its_focal_length(tmp_path: Path, picture: Image.Image) -> None:
    heif = pytest.importorskip("pillow_heif", reason="HEIC needs pillow-heif")
    heif.register_heif_opener()
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 26  # 35 mm equivalent
    picture.save(tmp_path / "a.heic", quality=95, exif=exif.tobytes())
    exif[0x0112] = 6  # was taken upright: to be turned by 90 degrees clockwise
    picture.save(tmp_path / "turned.HEIC", quality=95, exif=exif.tobytes())
    read = read_photo(tmp_path / "a.heic")
    assert read.image.shape == (60, 100, 3)
    assert read.mask is None
    assert read.focal_px == pytest.approx(26 * np.hypot(60, 100) / FULL_FRAME_DIAGONAL_MM)
    assert np.abs(read.image - np.asarray(picture) / 255)[:28].max() < 0.06
    turned = read_photo(tmp_path / "turned.HEIC")
    assert turned.image.shape == (100, 60, 3)
    assert turned.image[50, 10, 2] > 0.7  # what was below is on the left
    assert turned.image[50, 50, 0] > 0.7
    (tmp_path / "broken.heic").write_bytes((tmp_path / "a.heic").read_bytes()[:200])
    with pytest.raises(InputError, match="JPEG"):
        read_photo(tmp_path / "broken.heic")


def test_heic_without_its_library_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.heic").write_bytes(b"whatever")
    monkeypatch.setattr(backends, "why_not", lambda *_: "ModuleNotFoundError: No module named 'pillow_heif'")
    with pytest.raises(BackendMissing, match="pip install pillow-heif"):
        read_photo(tmp_path / "a.heic")


def test_large_jpegs_are_decoded_small(tmp_path: Path) -> None:
    """12 megapixels at half their size, which is near enough to what was asked for; of other sizes never less than nine tenths."""
    for width, height, expected in (
        (4000, 3000, (2000, 1500)),
        (3000, 4000, (1500, 2000)),
        (2048, 1000, (2048, 1000)),
        (5000, 3000, (2048, 1229)),
    ):
        Image.new("RGB", (width, height), (10, 200, 30)).save(tmp_path / "a.jpg")
        read = read_photo(tmp_path / "a.jpg")
        assert read.image.shape[1::-1] == expected
        assert read.size == (width, height)


def test_a_path_may_be_text_and_the_files_size_and_turns_are_known(tmp_path: Path, picture: Image.Image) -> None:
    picture.save(tmp_path / "a.png")
    plain = read_photo(str(tmp_path / "a.png"))
    assert (plain.size, plain.quarter_turns) == ((100, 60), 0)
    exif = Image.Exif()
    for orientation, size, turns in ((3, (100, 60), 2), (6, (60, 100), 1), (8, (60, 100), 3), (5, (60, 100), None)):
        exif[0x0112] = orientation
        for name in ("a.jpg", "a.tif"):
            picture.save(tmp_path / name, exif=exif)
            turned = read_photo(tmp_path / name)
            assert (turned.size, turned.quarter_turns) == (size, turns), (name, orientation)
            assert turned.image.shape == (*size[::-1], 3)
    with pytest.raises(InputError, match="no such file"):
        read_photo(str(tmp_path / "b.jpg"))

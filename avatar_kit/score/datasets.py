"""Datasets as lists of subjects: scene folders, and which of their photos make up a view configuration."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import util
from pathlib import Path

from avatar_kit.photos.folder import is_plain, photo_files
from avatar_kit.scene.h3ds import H3dsFolder
from avatar_kit.scene.views import choose_views
from avatar_kit.types import InputError

_PARTS = ("image", "mask", "cameras.npz", "full_head.obj")
H3DS_PAGE = "https://github.com/CrisalixSA/h3ds"


@dataclass(frozen=True)
class Subject:
    """One head to reconstruct.

    Attributes:
        folder: in the H3DS layout (docs/formats.md).
        views: photos of each configuration that the dataset states, by their number ("3"); others are chosen by the cameras.
        scan: the truth where it is not in the folder, in a frame of its own (`score.scans`).
    """

    name: str
    folder: Path
    views: Mapping[str, Sequence[int]] = field(default_factory=dict)
    scan: Path | None = None

    def view_ids(self, count: int) -> list[int]:
        """Numbers of the photos of a configuration.

        Raises:
            InputError: the folder cannot be read or has too few photos.
        """
        stated = self.views.get(str(count))
        if stated is not None:
            return list(stated)
        if self.scan is None or not is_plain(self.folder):
            return choose_views(H3dsFolder(self.folder), count)
        there = len(photo_files(self.folder))
        if count > there:
            raise InputError(f"{self.folder}: found {there} photos, --views asked for {count}. Use --views 1 to {there} or add photos.")
        return list(range(count))  # which, is known when all have been looked at


def scenes(root: Path) -> list[Subject]:
    """Any folder of scene folders, by name: those with any of a scene's parts, so that one that lacks some is missed."""
    found = sorted(path for path in root.iterdir() if any((path / part).exists() for part in _PARTS))
    if not found:
        raise InputError(f"{root}: holds no scene folders. Each has image/, mask/ and cameras.npz (docs/formats.md).")
    return [Subject(path.name, path) for path in found]


def h3ds(root: Path) -> list[Subject]:
    """The H3DS dataset as it is unzipped: ROOT/version.txt and a folder per scene.

    Which scenes, views and configurations belong to the version is read from the installed `h3ds` package; without it all
    scene folders are taken and views are chosen by the cameras.
    """
    version = root / "version.txt"
    if not version.is_file():
        raise InputError(
            f"{version}: missing. ROOT is the folder into which the H3DS dataset was unzipped. The data is gated, for research: "
            f"ask for access at {H3DS_PAGE}."
        )
    configuration = h3ds_configuration(version.read_text().split()[0])
    if configuration is None:
        return scenes(root)
    stated = configuration["scenes"]
    return [Subject(name, root / name, stated[name].get("default_views_configs", {})) for name in stated]


def h3ds_configuration(version: str) -> dict | None:
    """The h3ds package's own description of a version of its dataset; None where the package is not installed."""
    spec = util.find_spec("h3ds")
    for folder in spec.submodule_search_locations or () if spec else ():
        for file in sorted(Path(folder).glob("config*.toml")):
            configuration = tomllib.loads(file.read_text())
            if str(configuration.get("version")) == version:
                return configuration
    return None


def photos(root: Path) -> list[Subject]:
    """Single photos of people without a truth, each a subject: CelebA-HQ's images, or any folder of portraits.

    CelebAMask-HQ keeps its photos in CelebA-HQ-img/ of the folder into which it is unzipped.
    """
    files = photo_files(root / "CelebA-HQ-img") or photo_files(root)
    if not files:
        raise InputError(f"{root}: holds no photos. Give the folder of CelebA-HQ's images (or that of CelebAMask-HQ), jpg or png.")
    return [Subject(file.stem, file, {"1": [0]}) for file in files]


def three_dfaw(root: Path) -> list[Subject]:
    """3DFAW-Video: scans mesh001.obj with VertexLandmarks001.txt, as its evaluation program reads them, and beside each a folder 001/.

    How the dataset itself lays out its videos is not public, so the folder is the user's to make: photos of the subject, such as
    frames of the video, or a posed scene in whatever frame (docs/evaluation.md).
    """
    scans = sorted(root.glob("mesh*.obj"))
    if not scans:
        raise InputError(
            f"{root}: holds no scans. Put 3DFAW-Video's mesh001.obj and VertexLandmarks001.txt there, and photos of the subject into 001/ "
            "(docs/evaluation.md)."
        )
    return [Subject(name, root / name, scan=scan) for scan in scans for name in [scan.stem.removeprefix("mesh")]]


DATASETS: dict[str, Callable[[Path], list[Subject]]] = {"scenes": scenes, "h3ds": h3ds, "celeba-hq": photos, "3dfaw": three_dfaw}
WITHOUT_TRUTH = ("celeba-hq",)
"""Datasets of which there are pictures to look at, and nothing to score."""


def subjects(dataset: str, root: Path) -> list[Subject]:
    """The subjects of a dataset of `DATASETS` in the folder `root`.

    Raises:
        InputError: no such folder, or not that dataset.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder. Give --root, the folder that holds the dataset.")
    return DATASETS[dataset](root)

"""From a source to a stream of finished heads: identity, hair, clothes, and where the bust ends."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from avatar_kit.heads import hair, surgery
from avatar_kit.types import Head, InputError, Mesh


class HeadSource(Protocol):
    """Where bare heads come from."""

    name: str

    def sample(self, rng: np.random.Generator) -> Head:
        """One head in the head frame with the parts "body" and, where it has them, "eyes"."""
        ...


@runtime_checkable
class NumberedSource(HeadSource, Protocol):
    """One with so many heads and no more, which gives each once before it gives one again."""

    def numbered(self, seed: int, number: int) -> Head:
        """Head `number` of a seed, as `HeadSource.sample` gives it."""
        ...


def open_source(spec: str, *, scans: Collection[str] = (), without: Collection[str] = ()) -> HeadSource:
    """The source that `spec` names: "anny", "ict:FILE" or "folder:DIR".

    Args:
        scans, without: of a folder, names of the files to use (all by default) and to leave.

    Raises:
        InputError: unknown kind, or its file is missing.
    """
    check_source(spec)
    kind, _, path = spec.partition(":")
    if kind == "anny":
        from avatar_kit.heads.anny import AnnyHeads

        return AnnyHeads()
    if kind == "ict":
        from avatar_kit.heads.ict import IctHeads

        return IctHeads(Path(path).expanduser())
    from avatar_kit.heads.folder import FolderHeads

    return FolderHeads(Path(path).expanduser(), scans=scans, without=without)


def check_source(spec: str) -> None:
    """Refuse, without opening it, a source that there is not.

    Raises:
        InputError: as `open_source`.
    """
    kind, _, path = spec.partition(":")
    if spec != "anny" and not (kind in ("ict", "folder") and path):
        raise InputError(f"{spec}: unknown source of heads. Use anny, ict:FILE or folder:DIR.")
    if path and not Path(path).expanduser().exists():
        raise InputError(f"{spec}: no such file or folder. Give {'the file' if kind == 'ict' else 'the folder'} that holds the heads.")


_STYLE_ODDS = {"none": 0.16, "cropped": 0.17, "short": 0.27, "long": 0.22, "tied": 0.1, "receding": 0.08}
_CLOTHES_ODDS = {"none": 0.62, "neckline": 0.2, "collar": 0.12, "hood": 0.06}


class HeadSampler:
    """Head number `index` of a source, the same whenever it is asked for."""

    def __init__(self, source: HeadSource, *, seed: int, makehuman_hair: Path | None = None) -> None:
        self.source = source
        self.seed = seed
        self._styles = None
        if makehuman_hair is not None:
            from avatar_kit.heads.makehuman import MakeHumanHair

            self._styles = MakeHumanHair(makehuman_hair)

    def head(self, index: int) -> Head:
        """Head `index`: reproducible from (seed, source, index) alone."""
        rng = np.random.default_rng([self.seed, index])
        bare = self.source.numbered(self.seed, index) if isinstance(self.source, NumberedSource) else self.source.sample(rng)
        attributes = dict(bare.attributes)
        base_vertices = attributes.pop("base_vertices", None)
        parts = dict(bare.parts)
        if self.source.name != "folder":  # scans come with their own hair and clothes
            grid = hair.head_grid(parts["body"])
            style = str(rng.choice(list(_STYLE_ODDS), p=list(_STYLE_ODDS.values())))
            if self._styles is not None and base_vertices is not None and style != "none" and rng.random() < 0.3:
                style, volume = self._styles.fit(self.source.template, base_vertices, grid, rng)  # type: ignore[attr-defined]
            else:
                volume = hair.hair_volume(grid, style, rng)
            kind = str(rng.choice(list(_CLOTHES_ODDS), p=list(_CLOTHES_ODDS.values())))
            clothes = hair.clothes_volume(grid, kind, rng)
            parts |= {name: mesh for name, mesh in (("hair", volume), ("clothes", clothes)) if mesh is not None}
            attributes |= {"hair": style, "clothes": kind}
            if rng.random() < 0.35:
                parts = _cut_bust(parts, rng)
        return Head(f"{bare.name}_{index:05d}", parts, attributes, bare.landmarks)


def _cut_bust(parts: dict[str, Mesh], rng: np.random.Generator) -> dict[str, Mesh]:
    """End the head at a slightly tilted plane between the neck and the shoulders, as busts and scans do."""
    normal = np.array([rng.normal(0, 0.12), 1.0, rng.normal(0, 0.2)])
    point = np.array([0.0, rng.uniform(-0.98, -0.56), 0.0])
    cut = {name: surgery.cut_by_plane(mesh, point, normal / np.linalg.norm(normal)) for name, mesh in parts.items()}
    return {name: mesh for name, mesh in cut.items() if len(mesh.faces)}

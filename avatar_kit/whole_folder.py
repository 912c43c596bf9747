"""A result's folder, there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """An empty folder beside `out` to write into, which takes its place at the end.

    An error or an interrupt leaves what `out` held. What an interrupt left aside earlier is put back, or removed where `out` is
    there. Whether `out` may be replaced is for the caller to ask; a link is followed.
    """
    out = out.resolve()
    part, before = (out.with_name(f".{out.name}.avatar-kit-{state}") for state in ("part", "before"))  # of no one else
    _settle(out, before)
    _remove(part)
    part.mkdir(parents=True)
    try:
        yield part
        if out.exists():
            os.replace(out, before)
        os.replace(part, out)
    finally:
        _remove(part)
        _settle(out, before)


def _settle(out: Path, before: Path) -> None:
    """Of two states of `out` the later one stays, under its name."""
    if out.exists():
        _remove(before)
    elif before.exists():
        os.replace(before, out)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

"""Options that several commands share, and how they become settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click

from avatar_kit.config import PLAIN_PRESETS, PRESETS, Config, override


def preset_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--preset, --set, --device and --seed."""
    for option in (
        click.option("--seed", default=0, show_default=True, help="Of every random draw."),
        click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
        click.option("--set", "overrides", multiple=True, metavar="STAGE.FIELD=VALUE", help="Replace a setting; repeatable."),
        click.option("--preset", type=click.Choice(sorted(PRESETS)), default="fast", show_default=True),
    ):
        command = option(command)
    return command


def resolve_config(preset: str, overrides: tuple[str, ...], *, plain: bool = False) -> Config:
    """The preset, that for plain photos if asked for, with its overrides; a wrong one is a usage error."""
    try:
        return override((PLAIN_PRESETS if plain else PRESETS)[preset], overrides)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def refuse_field(overrides: tuple[str, ...]) -> None:
    """Refuse --set field.* where the field comes with a prior, which is as it was trained."""
    for text in overrides:
        if text.strip().startswith("field."):
            raise click.UsageError(
                f"--set {text}: the field is the prior's. Train one that has it: avatar-kit prior train --set {text} ..."
            )


def need_network(path: Path, network: str | None) -> None:
    """Refuse plain photos without the network."""
    if network is None:
        raise click.UsageError(f"{path}: plain photos need the network that finds heads. Leave --normals none out, or add cameras.npz.")


def positive(_context: click.Context, parameter: click.Parameter, value: float | None) -> float | None:
    """A number above 0, or none; also refuses what is no number at all (NaN)."""
    if value is not None and not value > 0:
        raise click.BadParameter(f"{value} is not above 0.", param=parameter)
    return value


def check_file(out: Path, overwrite: bool, endings: Sequence[str] = ()) -> None:
    """Refuse a file that cannot be written, to replace one that is already there, and a folder in any case.

    Args:
        endings: of its name, one of which it must have; none for any.
    """
    if endings and out.suffix.lower() not in endings:
        raise click.UsageError(f"{out}: its name must end in {' or '.join(endings)}.")
    if out.is_dir():
        raise click.UsageError(f"{out} is a folder. Give the name of a file.")
    if out.exists() and not overwrite:
        raise click.UsageError(f"{out} already exists. Give --overwrite to replace it, or another --out.")
    _check_place(out)


def check_folder(out: Path, overwrite: bool, parts: Sequence[str], *, joins: Sequence[str] = (), inputs: Sequence[Path] = ()) -> None:
    """Refuse to replace a folder that is a result already, and in any case one that is, or holds, anything else.

    Args:
        parts: what a result's folder may hold, as patterns of names.
        joins: of them, those that a result may join.
        inputs: what the command reads.
    """
    for kept in (Path.cwd(), *inputs):
        if kept.resolve().is_relative_to(out.resolve()):
            raise click.UsageError(f"{out} would be replaced whole, and {kept} is in it. Give another --out.")
    _check_place(out)
    if os.path.ismount(out):
        raise click.UsageError(f"{out} is where a volume is mounted, which cannot be replaced whole. Give a folder inside it.")
    if not out.exists():
        return
    if not out.is_dir():
        raise click.UsageError(f"{out} is a file. Give the name of a folder.")
    names = {file.name for file in out.iterdir()}
    if foreign := sorted(name for name in names if not any(fnmatch(name, part) for part in parts)):
        raise click.UsageError(f"{out} holds {foreign[0]}, which is no part of such a result, and is not replaced. Give another --out.")
    if names - set(joins) and not overwrite:
        raise click.UsageError(f"{out} already exists. Give --overwrite to replace it, or another --out.")


def check_additions(out: Path, overwrite: bool) -> None:
    """Refuse to write into a folder that holds something, unless its files may be replaced one by one."""
    _check_place(out)
    if out.exists() and not out.is_dir():
        raise click.UsageError(f"{out} is a file. Give the name of a folder.")
    if out.exists() and any(out.iterdir()) and not overwrite:
        raise click.UsageError(f"{out} already holds files. Give --overwrite to replace those of the same names, or another --out.")


def _check_place(out: Path) -> None:
    """Refuse, before minutes are spent, what cannot be written."""
    there = next(parent for parent in out.resolve().parents if parent.exists())
    if not there.is_dir():
        raise click.UsageError(f"{out} cannot be written: {there} is a file, not a folder. Give another --out.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise click.UsageError(f"{out} cannot be written: there is no permission to write in {there}. Give another --out.")


def parse_view_ids(text: str | None) -> list[int] | None:
    """Numbers separated by commas, or None; anything else is a usage error."""
    if text is None:
        return None
    try:
        ids = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise click.UsageError(f"views {text!r}: expected numbers separated by commas, such as 0,2,3.") from error
    if len(set(ids)) < len(ids):
        raise click.UsageError(f"views {text!r}: each counts once. Name every photo once.")
    return ids


def parse_yaws(text: str | None) -> list[float] | None:
    """Angles in degrees separated by commas, or None; anything else is a usage error."""
    if text is None:
        return None
    try:
        yaws = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise click.UsageError(f"--yaw {text!r}: expected degrees separated by commas, such as 0,45,-45.") from error
    if not all(-180 <= yaw <= 180 for yaw in yaws):
        raise click.UsageError(f"--yaw {text!r}: angles lie between -180 and 180 degrees; 0 is frontal.")
    return yaws

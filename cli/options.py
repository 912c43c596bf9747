"""Options that several commands share, and how they become settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from avatar_kit.config import PRESETS, Config, override


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


def resolve_config(preset: str, overrides: tuple[str, ...]) -> Config:
    """The preset with its overrides; a wrong one is a usage error."""
    try:
        return override(PRESETS[preset], overrides)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def check_output(out: Path, overwrite: bool) -> None:
    """Refuse to replace a result that is already there."""
    contact = {"photos.json", "photos.png"}  # of `recon --check`: the result joins them
    if out.exists() and not overwrite and (not out.is_dir() or {file.name for file in out.iterdir()} - contact):
        raise click.UsageError(f"{out} already exists. Give --overwrite to replace it, or another --out.")


def parse_view_ids(text: str | None) -> list[int] | None:
    """Numbers separated by commas, or None; anything else is a usage error."""
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise click.UsageError(f"views {text!r}: expected numbers separated by commas, such as 0,2,3.") from error


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

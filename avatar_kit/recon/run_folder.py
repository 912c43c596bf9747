"""A run's folder: mesh, avatar, pictures, report and the fitted field, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from avatar_kit.config import to_dict
from avatar_kit.conventions import scale_of
from avatar_kit.mesh.files import write_mesh
from avatar_kit.mesh.usd import write_usd
from avatar_kit.recon.preview import preview_sheet
from avatar_kit.render.picture import png
from avatar_kit.types import Array, Mesh
from avatar_kit.whole_folder import whole_folder

if TYPE_CHECKING:
    from avatar_kit.recon.pipeline import Reconstruction


def write_run(
    result: Reconstruction,
    out: Path,
    *,
    extra: dict[str, Any] | None = None,
    pictures: Mapping[str, bytes | Future[bytes]] | None = None,
    texts: Callable[[Mapping[str, bytes]], Mapping[str, str]] | None = None,
    usd: bool = False,
) -> list[Path]:
    """Write a run's folder whole or not at all; it replaces `out`.

    Args:
        extra: entries to add to report.json.
        pictures: more PNGs by file name, or what will be them; preview.png too, where it is made already.
        texts: of the pictures makes more text files by file name.
        usd: write avatar.usdc too; needs usd-core.

    Returns:
        paths of mesh.ply, avatar.glb, preview.png, report.json, fit.safetensors, the pictures and avatar.usdc.
    """
    with whole_folder(out) as part:
        write_mesh(part / "mesh.ply", result.mesh)
        write_mesh(part / "avatar.glb", upright_in_metres(result.avatar, result))
        if usd:
            write_usd(part / "avatar.usdc", upright_in_metres(result.mesh, result))
        report = result.report() | (extra or {})
        (part / "report.json").write_text(json.dumps(report, indent=1))
        _write_fit(part / "fit.safetensors", result)
        packed = {name: picture if isinstance(picture, bytes) else picture.result() for name, picture in (pictures or {}).items()}
        if "preview.png" not in packed:
            packed["preview.png"] = png(preview_sheet(result))
        for name, picture in packed.items():
            (part / name).write_bytes(picture)
        written = texts(packed) if texts else {}
        for name, text in written.items():
            # names of files need not be Unicode
            (part / name).write_text(text, encoding="utf-8", errors="backslashreplace")
    names = ["mesh.ply", "avatar.glb", "preview.png", "report.json", "fit.safetensors", *packed, *written]
    files = [*dict.fromkeys(names), *["avatar.usdc"] * usd]
    return [out / name for name in files]


def upright_in_metres(mesh: Mesh, result: Reconstruction) -> Mesh:
    """A mesh of the scene's world for viewers: head frame axes (+y up, face towards +z), metres, at the head's true size."""
    head_from_world: Array = result.fitted.head_from_world
    metres = result.scene.mm_per_world_unit / 1000.0 / scale_of(head_from_world)
    return mesh.transformed(np.diag([metres, metres, metres, 1.0]) @ head_from_world)


def _write_fit(file: Path, result: Reconstruction) -> None:
    from safetensors.torch import save

    fitted = result.fitted
    state = {f"field.{name}": value for name, value in fitted.field.state_dict().items()}
    state |= {f"radiance.{name}": value for name, value in fitted.radiance.state_dict().items()}
    state |= {"latent": fitted.latent, "head_from_world": torch.from_numpy(fitted.head_from_world)}
    if fitted.beside is not None:
        state["beside"] = fitted.beside
    metadata = {"format": "avatar-kit-fit-1", "config": json.dumps(to_dict(result.config))}
    state = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    file.write_bytes(save(state, metadata))  # save_file would make it the owner's alone

"""Meshes to and from files: PLY and OBJ in the world frame, GLB in metres."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from avatar_kit.types import InputError, Mesh


def read_mesh(file: Path) -> Mesh:
    """Any mesh file that trimesh reads, vertices in the file's order and unit.

    Raises:
        InputError: missing, unreadable or without triangles.
    """
    import trimesh

    if not file.is_file():
        raise InputError(f"{file}: no such file. Give a mesh (.ply, .obj, .glb, .stl) or a run's folder.")
    try:
        loaded = trimesh.load_mesh(file, process=False, maintain_order=True)
    except Exception as error:
        raise InputError(f"{file}: cannot be read as a mesh ({error}). Export it again as .ply or .obj.") from error
    if len(loaded.faces) == 0:
        raise InputError(f"{file}: holds no triangles. A mesh with faces is needed.")
    colors = None
    if getattr(loaded.visual, "kind", None) == "vertex":
        colors = np.asarray(getattr(loaded.visual, "vertex_colors"))[:, :3] / 255.0  # noqa: B009 (textured visuals lack it)
    return Mesh(np.asarray(loaded.vertices), np.asarray(loaded.faces, np.int32), colors)


def write_mesh(file: Path, mesh: Mesh) -> None:
    """Write .ply or .glb with vertex colours, whole or not at all."""
    import trimesh

    colors = None if mesh.colors is None else np.round(np.clip(mesh.colors, 0, 1) * 255).astype(np.uint8)
    out = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colors, process=False)
    part = file.with_name(file.name + ".part")
    part.write_bytes(out.export(file_type=file.suffix[1:]))  # type: ignore[arg-type]
    os.replace(part, file)


def write_obj(file: Path, mesh: Mesh) -> None:
    """Write vertices, with two decimals, and faces as text, in order, as the H3DS folder has them."""
    lines = [f"v {x:.2f} {y:.2f} {z:.2f}" for x, y, z in mesh.vertices.tolist()]
    lines += [f"f {a} {b} {c}" for a, b, c in (mesh.faces + 1).tolist()]
    file.write_text("\n".join(lines) + "\n")

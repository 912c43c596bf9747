"""Meshes to and from files: PLY and OBJ in the world frame, GLB in metres."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from avatar_kit.render.renderer import vertex_normals
from avatar_kit.types import InputError, Mesh, Texture

if TYPE_CHECKING:
    import trimesh

_MESHES = (".ply", ".obj", ".glb", ".stl")


def read_mesh(file: Path) -> Mesh:
    """Any mesh file that trimesh reads, vertices in the file's order and unit.

    Raises:
        InputError: missing, unreadable or without triangles.
    """
    import trimesh

    if not file.is_file():
        raise InputError(f"{file}: no such file. Give a mesh ({', '.join(_MESHES)}) or a run's folder.")
    if file.suffix.lower().removeprefix(".") not in trimesh.available_formats():
        raise InputError(f"{file}: is no mesh by its name. Give {', '.join(_MESHES)} or a run's folder.")
    try:
        loaded = trimesh.load_mesh(file, process=False, maintain_order=True)
    except Exception as error:
        raise InputError(f"{file}: cannot be read as a mesh ({error}). Export it again as .ply or .obj.") from error
    if len(getattr(loaded, "faces", ())) == 0:
        raise InputError(f"{file}: holds no triangles. A mesh with faces is needed.")
    visual: Any = loaded.visual
    colors = texture = None
    if getattr(visual, "kind", None) == "vertex":
        colors = np.asarray(visual.vertex_colors)[:, :3] / 255.0
    elif getattr(visual, "kind", None) == "texture" and visual.uv is not None:
        picture = getattr(visual.material, "baseColorTexture", None) or getattr(visual.material, "image", None)
        if picture is not None:
            texture = Texture(np.asarray(picture.convert("RGB"), np.float32) / 255.0, np.asarray(visual.uv))
    return Mesh(np.asarray(loaded.vertices), np.asarray(loaded.faces, np.int32), colors, texture)


def write_mesh(file: Path, mesh: Mesh) -> None:
    """Write .ply with vertex colours, or .glb with the texture where there is one, whole or not at all."""
    if file.suffix == ".ply":
        mesh = replace(mesh, texture=None)
    part = file.with_name(file.name + ".part")
    part.write_bytes(to_trimesh(mesh).export(file_type=file.suffix[1:]))  # type: ignore[arg-type]
    os.replace(part, file)


def to_trimesh(mesh: Mesh) -> trimesh.Trimesh:
    """The mesh for trimesh, with its texture, or else its vertex colours."""
    import trimesh

    if mesh.texture is not None:
        return trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_normals=vertex_normals(mesh), visual=_visual(mesh.texture), process=False)
    colors = None if mesh.colors is None else np.round(np.clip(mesh.colors, 0, 1) * 255).astype(np.uint8)
    return trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_colors=colors, process=False)


def _visual(texture: Texture) -> Any:
    from trimesh.visual import TextureVisuals
    from trimesh.visual.material import PBRMaterial

    packed = io.BytesIO()  # JPEG: a tenth of the size of PNG
    Image.fromarray(np.round(np.clip(texture.image, 0, 1) * 255).astype(np.uint8)).save(packed, "JPEG", quality=92)
    material = PBRMaterial(baseColorTexture=Image.open(packed), metallicFactor=0.0, roughnessFactor=0.8)
    return TextureVisuals(uv=texture.uv, material=material)


def write_obj(file: Path, mesh: Mesh) -> None:
    """Write vertices, with two decimals, and faces as text, in order, as the H3DS folder has them."""
    lines = [f"v {x:.2f} {y:.2f} {z:.2f}" for x, y, z in mesh.vertices.tolist()]
    lines += [f"f {a} {b} {c}" for a, b, c in (mesh.faces + 1).tolist()]
    file.write_text("\n".join(lines) + "\n")

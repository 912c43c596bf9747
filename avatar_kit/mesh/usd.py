"""Meshes as Universal Scene Description, through usd-core (optional; Kaolin's own exporter needs it too, and drops vertex colours)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from avatar_kit.backends import pick
from avatar_kit.types import Mesh


def write_usd(file: Path, mesh: Mesh) -> None:
    """Write .usdc, .usda or .usd, whole or not at all: one mesh, /Head, +y up, metres, colours per vertex.

    Raises:
        BackendMissing: usd-core is not installed.
    """
    pick("usd")
    from pxr import Gf, Sdf, Usd, UsdGeom, Vt  # pyright: ignore[reportMissingImports]

    part = file.with_name(f"{file.stem}.part{file.suffix}")
    part.unlink(missing_ok=True)
    stage = Usd.Stage.CreateNew(str(part))
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    head = UsdGeom.Mesh.Define(stage, "/Head")
    stage.SetDefaultPrim(head.GetPrim())
    head.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(mesh.vertices, np.float32)))
    head.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(mesh.faces), 3, np.int32)))
    head.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(np.ascontiguousarray(mesh.faces.ravel(), np.int32)))
    head.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    low, high = (Gf.Vec3f(*map(float, corner)) for corner in (mesh.vertices.min(0), mesh.vertices.max(0)))
    head.CreateExtentAttr([low, high])
    if mesh.colors is not None:
        linear = np.clip(mesh.colors, 0, 1) ** 2.2  # USD's colours are linear, ours sRGB
        colors = UsdGeom.PrimvarsAPI(head).CreatePrimvar("displayColor", Sdf.ValueTypeNames.Color3fArray, UsdGeom.Tokens.vertex)
        colors.Set(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(linear, np.float32)))
    stage.GetRootLayer().Save()
    del head, stage
    os.replace(part, file)

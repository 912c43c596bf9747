"""Which protocol notices which damage: the bundled head's true mesh, damaged in known ways, scored against itself.

python benchmarks/damages.py
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import trimesh

from avatar_kit.mesh.unwrap import simplify
from avatar_kit.scene.h3ds import H3dsFolder
from avatar_kit.score.report import score_mesh
from avatar_kit.types import Mesh, concatenate

_FLOATERS = ((0, 180.0, 0), (150.0, 60, 40), (-150.0, 60, 40))  # their places, mm
COLUMNS = (
    ("h3ds", "face_mm"), ("h3ds", "head_mm"), ("paper", "face_mm"), ("paper", "head_mm"), ("metric", "face_mm"), ("metric", "head_mm"),
    ("metric", "head_reverse_mm"), ("metric", "f1_1mm"), ("metric", "normal_deg"), ("metric", "watertight"),
)  # fmt: skip


def ball(centre: np.ndarray, radius: float) -> Mesh:
    shape = trimesh.creation.icosphere(subdivisions=3, radius=radius)
    return Mesh(np.asarray(shape.vertices) + centre, np.asarray(shape.faces, np.int32))


def damaged(mesh: Mesh) -> dict[str, Mesh]:
    vertices, middle = mesh.vertices, mesh.vertices.mean(0)
    behind = vertices[mesh.faces].mean(1)
    hole = (behind[:, 2] < np.percentile(behind[:, 2], 12)) & (behind[:, 1] > middle[1])
    return {
        "none": mesh,
        "5 % smaller": Mesh((vertices - middle) * 0.95 + middle, mesh.faces),
        "moved by 2 mm": Mesh(vertices + np.array([2.0, 0, 0]), mesh.faces),
        "mirrored": Mesh((vertices - middle) * (-1, 1, 1) + middle, mesh.faces[:, ::-1].copy()),
        "turned inside out": Mesh(vertices, mesh.faces[:, ::-1].copy()),
        "floaters around it": concatenate([mesh, *(ball(middle + np.array(at), 8.0) for at in _FLOATERS)]),
        "a ball inside": concatenate([mesh, ball(middle, 40.0)]),
        "a hole at the back": Mesh(vertices, mesh.faces[~hole]),
        "5000 triangles": simplify(mesh, 5000),
        "noise of 0.5 mm": Mesh(vertices + np.random.default_rng(0).normal(0, 0.5, vertices.shape), mesh.faces),
    }


def main() -> None:
    folder = H3dsFolder(Path(str(resources.files("avatar_kit") / "weights" / "demo")))
    reference = folder.reference()
    assert reference is not None
    cameras = tuple(folder.photo(view).camera for view in folder.view_ids[:3])
    print("| damage | " + " | ".join(f"{protocol} {name.removesuffix('_mm')}" for protocol, name in COLUMNS) + " |")
    print("|" + " --- |" * (len(COLUMNS) + 1))
    for name, mesh in damaged(reference.mesh).items():
        scores = score_mesh(mesh, reference, cameras=cameras, protocols=("h3ds", "paper", "metric"))
        cells = [scores[protocol][column] for protocol, column in COLUMNS]
        print(f"| {name} | " + " | ".join(f"{c:.2f}" if isinstance(c, float) else str(c) for c in cells) + " |", flush=True)


if __name__ == "__main__":
    main()

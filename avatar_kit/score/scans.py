"""Subjects whose truth is a scan in a frame of its own, with annotated landmarks, as 3DFAW-Video has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from avatar_kit.config import PLAIN_PRESETS, PRESETS, Config
from avatar_kit.conventions import MM_PER_UNIT, head_from_landmarks
from avatar_kit.mesh.files import read_mesh
from avatar_kit.normals.storage import load_estimator
from avatar_kit.photos.folder import is_plain
from avatar_kit.photos.scene import scene_from_photos
from avatar_kit.prior.storage import HeadPrior
from avatar_kit.recon.pipeline import reconstruct
from avatar_kit.scene.views import load_scene
from avatar_kit.score.checks import check_truth
from avatar_kit.score.datasets import Subject
from avatar_kit.score.distances import Cloud
from avatar_kit.score.fingerprint import fingerprint
from avatar_kit.score.protocols import face_region
from avatar_kit.score.registration import icp
from avatar_kit.score.report import mean_head_mesh, score_mesh
from avatar_kit.types import Array, InputError, Mesh, Reference

# of the 51 inner points of the 68-point scheme, in 3DFAW's order
_LANDMARKS = {
    "nose_tip": 13, "sellion": 10, "subnasale": 16, "eye_right_outer": 19, "eye_right_inner": 22, "eye_left_inner": 25,
    "eye_left_outer": 28, "mouth_right": 31, "mouth_left": 37,
}  # fmt: skip
_COUNT, _UNKNOWN = 51, -1


def read_scan(file: Path) -> Reference:
    """A scan meshID.obj, millimetres, with the landmarks of VertexLandmarksID.txt beside it: 51 numbers of vertices, -1 for unknown.

    Source: the challenge's evaluation program, github.com/RohithPillai/3dfaw-Evaluation.

    Raises:
        InputError: missing, unreadable or not of that kind.
    """
    mesh, notes = read_mesh(file), file.with_name(f"VertexLandmarks{file.stem.removeprefix('mesh')}.txt")
    if not notes.is_file():
        raise InputError(f"{notes}: missing. It lists the scan's {_COUNT} landmarks, as numbers of its vertices.")
    try:
        numbers = [int(float(word)) for word in notes.read_text().split()]
    except ValueError as error:
        raise InputError(f"{notes}: {error}. It lists {_COUNT} numbers of vertices, {_UNKNOWN} for unknown.") from error
    if len(numbers) != _COUNT:
        raise InputError(f"{notes}: lists {len(numbers)} landmarks. The scheme has {_COUNT}, {_UNKNOWN} for unknown.")
    found = {name: numbers[i] for name, i in _LANDMARKS.items() if numbers[i] != _UNKNOWN}
    beyond = {name: index for name, index in found.items() if not 0 <= index < len(mesh.vertices)}
    if beyond:
        raise InputError(f"{notes}: {beyond} are no vertices of {file.name}, which has {len(mesh.vertices)}, counted from 0.")
    if "nose_tip" not in found or len(found) < 3:
        raise InputError(f"{notes}: only {sorted(found)} are known. The tip of the nose (the 14th) and two more are needed.")
    return Reference(mesh, found, None)


def scan_from_head(reference: Reference) -> Array:
    """Where the scan, in millimetres, has the head frame, (4, 4), by its landmarks."""
    points = {name: reference.mesh.vertices[index] / MM_PER_UNIT for name, index in reference.landmarks.items()}
    head_from_scan = head_from_landmarks(points, with_scale=False) @ np.diag([1 / MM_PER_UNIT] * 3 + [1.0])
    return np.linalg.inv(head_from_scan)


def onto_scan(mesh: Mesh, reference: Reference) -> Mesh:
    """A mesh that lies about right, moved rigidly so that its face fits the scan's."""
    face = reference.mesh.vertices[face_region(reference, 1.0)]
    mesh_from_scan = icp(face, Cloud(mesh.vertices), scale=False, reflection=False)
    return mesh.transformed(np.linalg.inv(mesh_from_scan))


class ScanScorer:
    """Reconstructs a subject, plain photos or a posed scene of any frame, and scores it in the scan's frame beside the mean head.

    Both are placed by the scan's landmarks, then by rigid ICP of the face. So "metric", which elsewhere moves nothing, is after that.

    Args:
        config: for posed scenes; by default that of the preset.
        plain_config: for plain photos; by default that of the preset in `config.PLAIN_PRESETS`.
        normal_net: "default", a file or None, with which plain photos are refused.
        settings: others of `recon.pipeline.reconstruct`.
    """

    def __init__(
        self, prior: HeadPrior, *, config: Config | None = None, plain_config: Config | None = None, normal_net: str | None = "default",
        **settings: Any,
    ) -> None:  # fmt: skip
        self._prior, self._settings, self._normal_net = prior, settings, normal_net
        preset = settings.get("preset", "fast")
        self._config, self._plain_config = config or PRESETS[preset], plain_config or PLAIN_PRESETS[preset]

    @property
    def fingerprint(self) -> str:
        """Of what scores depend on besides the subject and the seed."""
        device = self._settings.get("device", "cpu")
        return fingerprint(self._prior, self._config, self._plain_config, normal_net=self._normal_net, device=device)

    def __call__(self, subject: Subject, view_ids: list[int]) -> dict[str, Any]:
        """{"view_ids", "scores": {"ours", "mean head": {protocol: {score: value}}}, "seconds", "normals"}.

        Raises:
            InputError: photos or scan are missing or wrong.
        """
        assert subject.scan is not None
        reference = read_scan(subject.scan)
        check_truth(reference, 1.0, str(subject.scan))
        config, normal_net, settings = self._config, self._normal_net, self._settings
        if is_plain(subject.folder):
            if normal_net is None:
                raise InputError(f"{subject.folder}: plain photos need the network that finds heads. Give one, or add cameras.npz.")
            net = load_estimator(None if normal_net == "default" else Path(normal_net), device=settings.get("device", "cpu"))
            scene, normal_net = scene_from_photos(subject.folder, net, views=len(view_ids)).scene, None
            config = self._plain_config
        else:
            scene = load_scene(subject.folder, view_ids=view_ids)
        result = reconstruct(scene, prior=self._prior, config=config, normal_net=normal_net, **settings)
        placed = scan_from_head(reference)
        meshes = {
            "ours": result.mesh.transformed(placed @ result.fitted.head_from_world),
            "mean head": mean_head_mesh(self._prior, np.linalg.inv(placed)),
        }
        scores = {name: score_mesh(onto_scan(mesh, reference), reference, device=result.device) for name, mesh in meshes.items()}
        seconds = {name: round(value, 3) for name, value in result.seconds.items()}
        return {"view_ids": list(scene.view_ids), "scores": scores, "seconds": seconds, "normals": result.normals}

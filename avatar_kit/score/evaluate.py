"""Scoring of meshes and runs on disk against a scene's truth, and of subjects of a dataset from their photos on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from avatar_kit.config import PRESETS, Config
from avatar_kit.mesh.files import read_mesh
from avatar_kit.prior.storage import HeadPrior, load_prior
from avatar_kit.recon.align import align
from avatar_kit.recon.pipeline import reconstruct
from avatar_kit.scene.h3ds import H3dsFolder, read_reference
from avatar_kit.scene.views import choose_views, load_scene
from avatar_kit.score.checks import check_prediction, check_truth
from avatar_kit.score.datasets import Subject
from avatar_kit.score.fingerprint import fingerprint
from avatar_kit.score.report import mean_head_mesh, score_mesh, score_run
from avatar_kit.score.rivals import Rival
from avatar_kit.types import Camera, InputError, Reference


def evaluate_path(
    mesh_or_run: Path,
    reference: Path,
    *,
    view_ids: Sequence[int] | None = None,
    device: str = "cpu",
    backend: str | None = None,
    protocols: Sequence[str] = ("h3ds", "metric", "paper"),
) -> dict[str, Any]:
    """Scores of a mesh file or a run's folder, and of the mean head where the truth is a scene with photos.

    The mean head stands where the run's fit started; for a mesh alone, where the masks of three photos say.

    Args:
        device, backend: of the distances (`score.distances.nearest`).
        protocols: of h3ds, metric and paper.

    Raises:
        InputError: no mesh, no truth.
    """
    report = mesh_or_run / "report.json"
    notes = json.loads(report.read_text()) if report.is_file() else {}
    mesh = read_mesh(mesh_or_run / "mesh.ply" if mesh_or_run.is_dir() else mesh_or_run)
    view_ids = notes.get("views") if view_ids is None else view_ids
    if reference.is_file():
        truth = read_mesh(reference)
        assumed = Reference(truth, {"nose_tip": int(truth.vertices[:, 2].argmax())}, None)
        check_truth(assumed, 1.0, str(reference))
        check_prediction(mesh, assumed, str(mesh_or_run))
        return {mesh_or_run.name: score_mesh(mesh, assumed, device=device, backend=backend, protocols=protocols)}
    truth_or_none = read_reference(reference)
    if truth_or_none is None:
        raise InputError(f"{reference}/full_head.obj: missing. --reference takes a scene with its true mesh, or a mesh.")
    folder = H3dsFolder(reference)
    ids = list(view_ids) if view_ids is not None else choose_views(folder, min(3, len(folder.view_ids)))
    scene = folder.scene(ids)
    cameras: tuple[Camera, ...] = tuple(photo.camera for photo in scene.photos)
    unit = folder.mm_per_world_unit
    check_truth(truth_or_none, unit, f"{reference}/full_head.obj")
    check_prediction(mesh, truth_or_none, str(mesh_or_run))
    prior = load_prior()
    start = np.array(notes["start"]) if "start" in notes else align(scene, prior.mean_sdf)
    mean_head = mean_head_mesh(prior, start)
    return {
        name: score_mesh(each, truth_or_none, cameras=cameras, mm_per_unit=unit, device=device, backend=backend, protocols=protocols)
        for name, each in ((mesh_or_run.name, mesh), ("mean head", mean_head))
    }


class SubjectScorer:
    """Reconstructs a subject and scores it beside the mean head and rivals, with one prior for all.

    Args:
        config: by default that of the preset.
        normal_net: "default", a file or None.
        drop_normals: do without the scenes' normal maps.
        settings: others of `recon.pipeline.reconstruct`.
    """

    def __init__(
        self, prior: HeadPrior, *, config: Config | None = None, normal_net: str | None = "default", rivals: Sequence[Rival] = (),
        drop_normals: bool = False, **settings: Any,
    ) -> None:  # fmt: skip
        self._prior, self._rivals, self._drop_normals, self._settings = prior, rivals, drop_normals, settings
        self._config, self._normal_net = config or PRESETS[settings.get("preset", "fast")], normal_net

    @property
    def fingerprint(self) -> str:
        """Of what scores depend on besides the subject and the seed."""
        rivals = [[rival.name, rival.command] for rival in self._rivals]
        kind = {"rivals": rivals, "drop_normals": self._drop_normals, "device": self._settings.get("device", "cpu")}
        return fingerprint(self._prior, self._config, normal_net=self._normal_net, **kind)

    def __call__(self, subject: Subject, view_ids: list[int]) -> dict[str, Any]:
        """{"view_ids", "scores": {"ours", "mean head" and rivals: {protocol: {score: value}}}, "seconds", "rival_seconds",
        "rival_errors": {rival: why it has no score}, "normals"}.

        Raises:
            InputError: photos or truth are missing or wrong.
        """
        reference = read_reference(subject.folder)
        if reference is None:
            raise InputError(f"{subject.folder}/full_head.obj: missing. A table needs the true mesh of each subject.")
        scene = load_scene(subject.folder, view_ids=view_ids)
        check_truth(reference, scene.mm_per_world_unit, f"{subject.folder}/full_head.obj")
        if self._drop_normals:
            scene = scene.without_normals()
        result = reconstruct(scene, prior=self._prior, config=self._config, normal_net=self._normal_net, **self._settings)
        scores = score_run(result, self._prior, reference)
        rows = {"ours": scores["reconstruction"], "mean head": scores["mean head"]}
        seconds = {name: round(value, 3) for name, value in result.seconds.items()}
        cameras = tuple(photo.camera for photo in scene.photos)
        rival_seconds, rival_errors = {}, {}
        for rival in self._rivals:
            try:
                mesh, spent = rival.mesh(subject.folder, view_ids)
                check_prediction(mesh, reference, rival.name)
            except InputError as error:  # the others' scores stand
                rival_errors[rival.name] = str(error)
                continue
            rows[rival.name] = score_mesh(mesh, reference, cameras=cameras, mm_per_unit=scene.mm_per_world_unit, device=result.device)
            rival_seconds[rival.name] = round(spent, 3)
        times = {"seconds": seconds, "rival_seconds": rival_seconds}
        return {"view_ids": view_ids, "scores": rows, **times, "rival_errors": rival_errors, "normals": result.normals}

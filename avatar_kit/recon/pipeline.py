"""From a scene to a run's folder: align, fit, mesh, colours, pictures, report."""

from __future__ import annotations

import dataclasses
import functools
import platform
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from avatar_kit import __version__
from avatar_kit.backends import pick
from avatar_kit.config import PRESETS, Config, to_dict
from avatar_kit.mesh.extraction import pick_extractor
from avatar_kit.prior.storage import HeadPrior, load_prior
from avatar_kit.recon.agreement import Agreement, agreements, doubt_about_cameras
from avatar_kit.recon.align import place
from avatar_kit.recon.appearance import painted
from avatar_kit.recon.fit import FittedHead, fit
from avatar_kit.recon.matches import tied_start
from avatar_kit.recon.meshing import head_meshes
from avatar_kit.recon.patches import PhotoPatches
from avatar_kit.recon.rays import RayBank
from avatar_kit.types import Array, Mesh, Scene

if TYPE_CHECKING:
    from avatar_kit.normals.estimator import Estimator
    from avatar_kit.render.renderer import Renderer


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What a scene became.

    Attributes:
        scene: with what was predicted, and its cameras refined where that was asked for.
        mesh: world frame and unit, with vertex colours.
        renderer: shows the mesh's shape.
        avatar: the same for viewers: fewer triangles, with a texture.
        fitted: the field, its latent and the pose.
        start: head_from_world before the fit, where the mean head, the score to beat, stands.
        normals: where they came from: "given", "predicted", "given and predicted" or "none".
        agreement: of each photo with the result.
        shared: of the spots that two photos seem to share, the part that lies on one head; None where cameras are not refined.
        seconds: per stage.
    """

    scene: Scene
    mesh: Mesh
    renderer: Renderer
    avatar: Mesh
    fitted: FittedHead
    start: Array
    normals: str
    agreement: list[Agreement]
    shared: float | None
    seconds: dict[str, float]
    preset: str
    config: Config
    seed: int
    device: str

    @property
    def doubts(self) -> list[str]:
        """What speaks against the result, in words."""
        by_photo = [photo.doubt(alone=len(self.agreement) == 1) for photo in self.agreement]
        return [doubt for doubt in (doubt_about_cameras(self.shared), *by_photo) if doubt]

    def report(self) -> dict[str, Any]:
        """The content of report.json."""
        last = self.fitted.curve[-1] if self.fitted.curve else {}
        return {
            "scene": self.scene.name, "views": list(self.scene.view_ids), "preset": self.preset, "device": self.device,
            "seed": self.seed, "normals": self.normals, "iterations": self.fitted.steps,
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "shared_points": self.shared, "doubts": self.doubts,
            "photos": [dataclasses.asdict(each) for each in self.agreement],
            "losses": {name: round(value, 6) for name, value in last.items() if name not in ("step", "seconds")},
            "curve": self.fitted.curve,
            "head_from_world": self.fitted.head_from_world.tolist(), "start": self.start.tolist(),
            "world_from_camera": [photo.camera.world_from_camera.tolist() for photo in self.scene.photos],
            "mm_per_world_unit": self.scene.mm_per_world_unit,
            "backends": {"extract": pick_extractor(self.config.mesh, self.device), "render": pick("render", self.device)},
            "vertices": len(self.mesh.vertices), "faces": len(self.mesh.faces), "avatar_faces": len(self.avatar.faces),
            "config": to_dict(self.config), "versions": versions(),
        }  # fmt: skip


def reconstruct(
    scene: Scene,
    *,
    prior: HeadPrior | None = None,
    normal_net: Estimator | str | None = "default",
    preset: str = "fast",
    config: Config | None = None,
    device: str = "cpu",
    seed: int = 0,
    seconds: float = float("inf"),
    on_step: Callable[[int, dict[str, Any]], None] | None = None,
    on_stage: Callable[[str], object] | None = None,
) -> Reconstruction:
    """Reconstruct the head of a scene.

    Args:
        prior: the shipped one by default. Of one that knows no heads the shipped one says where the head is; `config` should
            then have the settings `config.WITHOUT_PRIOR`.
        normal_net: predicts normals for photos that have none, and locates the head: an estimator, a file, or
            "default" for the shipped one; None does without.
        config: settings; by default those of `preset`.
        seconds: budget of the fit; it ends with what it has then.
        on_step: called after each step of the fit.
        on_stage: called when "normals", "align", "fit", "mesh" and "texture" begin.

    Raises:
        InputError: the fit found no head.
    """
    config = config or PRESETS[preset]
    pick_extractor(config.mesh, device)  # before minutes are spent
    prior = prior or load_prior("default", device)
    config = replace(config, field=prior.field.config)  # what is fitted, and so what report and fit state
    predict = _predictor(scene, normal_net, device)
    warm_up(prior, config, device)
    begin = on_stage or (lambda _: None)
    clock, spent = time.perf_counter(), {}
    if predict is not None:
        begin("normals")
        scene = predict(scene)
        spent["normals"] = time.perf_counter() - clock
        clock = time.perf_counter()
    begin("align")
    normals = _origin_of_normals(scene)
    rough, located = place(scene, (prior if prior.knows_heads else load_prior("default", device)).mean_sdf)
    bank = RayBank(scene, config.fit.image_size, torch.device(device), located=located)
    start = tied_start(scene, bank, prior, rough, config)
    spent["align"] = time.perf_counter() - clock
    clock = time.perf_counter()
    begin("fit")
    generator = torch.Generator().manual_seed(seed)
    patches = PhotoPatches(scene.photos, config.patches, torch.device(device)) if config.patches.weight > 0 and bank.photos > 1 else None
    fitted = fit(bank, prior, config, start, generator, patches=patches, seconds=seconds, on_step=on_step)
    spent["fit"] = time.perf_counter() - clock
    scene = with_refined_cameras(scene, fitted)
    clock = time.perf_counter()
    begin("mesh")
    meshes = head_meshes(fitted, scene, config, device)
    spent["mesh"] = time.perf_counter() - clock
    clock = time.perf_counter()
    begin("texture")
    mesh, renderer, avatar = painted(meshes, fitted.head_from_world, config.texture, device)
    agreement = agreements(avatar, fitted, scene, device)
    spent["texture"] = time.perf_counter() - clock
    spent["total"] = sum(spent.values())
    return Reconstruction(
        scene, mesh, renderer, avatar, fitted, rough, normals, agreement, start.shared, spent, preset, config, seed, device
    )


def _origin_of_normals(scene: Scene) -> str:
    there = [photo for photo in scene.photos if photo.normals is not None]
    origins = {"given" if photo.has_given_normals else "predicted" for photo in there}
    return " and ".join(sorted(origins)) or "none"


def _predictor(scene: Scene, normal_net: Estimator | str | None, device: str) -> Callable[[Scene], Scene] | None:
    """What adds normals to a scene, loaded and ready; None where nothing is to be added."""
    if normal_net is None or (scene.head_from_world is not None and all(photo.normals is not None for photo in scene.photos)):
        return None
    from avatar_kit.normals.predict import predict_scene
    from avatar_kit.normals.storage import load_estimator

    if isinstance(normal_net, str):
        normal_net = load_estimator(None if normal_net == "default" else Path(normal_net), device=device)
    return functools.partial(predict_scene, net=normal_net)


def with_refined_cameras(scene: Scene, fitted: FittedHead) -> Scene:
    """The scene with its cameras where the fit put them: rays of photo i went through camera_i @ head_from_world."""
    if fitted.cameras is None:
        return scene
    world_from_head = np.linalg.inv(fitted.head_from_world)
    photos = []
    for photo, motion in zip(scene.photos, fitted.cameras, strict=True):
        moved = world_from_head @ motion @ fitted.head_from_world @ photo.camera.world_from_camera
        photos.append(replace(photo, camera=replace(photo.camera, world_from_camera=moved)))
    return replace(scene, photos=tuple(photos))


def warm_up(prior: HeadPrior, config: Config, device: str) -> None:
    """Compile and load what the first step needs, so that the clock starts on work: a few rays on the mean head."""
    from avatar_kit.recon.surface import differentiable_hits, search_grid

    z = torch.linspace(-0.2, 0.2, 16, device=device)
    origins = torch.stack([z, z, torch.full_like(z, 2.0)], dim=-1)
    directions = torch.tensor([[0.0, 0.0, -1.0]], device=device).expand(16, 3).contiguous()
    found = search_grid(prior.mean_sdf.to(device), origins, directions, coarse=config.rays.coarse, fine=config.rays.fine)
    if device != "cpu":  # where the head is aligned
        search_grid(prior.mean_sdf.cpu(), origins.cpu(), directions.cpu(), coarse=2, fine=2)
    latent = prior.mean_latent.to(device).clone().requires_grad_()
    hits = differentiable_hits(
        prior.field.to(device), prior.field.condition(latent[None]), origins, directions, found.depth.nan_to_num(1.5, 1.5)
    )
    torch.optim.Adam([latent], fused=True)
    hits.points.sum().backward()


def versions() -> dict[str, str]:
    """Of everything that shapes a result."""
    from importlib.metadata import version

    names = ("torch", "warp-lang", "numpy", "scipy", "trimesh", "segmentation-models-pytorch")
    return {"avatar-kit": __version__, "python": platform.python_version()} | {name: version(name) for name in names}


def log(message: str) -> None:
    """One line to stderr, where progress goes."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()

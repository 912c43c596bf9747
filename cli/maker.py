"""Scene after scene: read, reconstruct, score where there is a truth, write."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from avatar_kit_cli.options import need_network

if TYPE_CHECKING:
    from avatar_kit.photos.scene import PlainScene
    from avatar_kit.recon.pipeline import Reconstruction
    from avatar_kit.types import Scene

_PHOTOS_JSON, _PHOTOS_PNG = "photos.json", "photos.png"


def finished(out: Path) -> bool:
    """Whether a folder holds a result."""
    return (out / "report.json").is_file()


@dataclasses.dataclass(frozen=True)
class PhotoHints:
    """What the user says about plain photos; see `avatar_kit.photos.scene.scene_from_photos`.

    Attributes:
        check: stop when they are understood.
    """

    masks: Path | None = None
    focal_mm: float | None = None
    person: int | None = None
    yaws_deg: list[float] | None = None
    check: bool = False


class Maker:
    """What all scenes of a command share: prior, network, settings."""

    def __init__(
        self, prior_file: str, normal_net: str | None, seconds: float, preset: str, config: Any, device: str, seed: int, *,
        usd: bool = False, hints: PhotoHints | None = None, refine_cameras: bool | None = None, plain_config: Any = None,
    ) -> None:  # fmt: skip
        from avatar_kit.backends import pick_device
        from avatar_kit.prior.storage import load_prior, untrained_prior

        self._device = pick_device(device)
        started = time.perf_counter()
        if prior_file == "none":
            self._prior = untrained_prior(config.field, seed=seed, device=self._device)
        else:
            self._prior = load_prior(prior_file, self._device)
        self._load_seconds = time.perf_counter() - started
        self._settings = dict(normal_net=normal_net, seconds=seconds, preset=preset, device=self._device, seed=seed)
        self._config, self._plain_config, self._refine_cameras = config, plain_config or config, refine_cameras
        self._usd, self._hints = usd, hints or PhotoHints()

    def refuse(self, path: Path, ids: list[int] | None) -> None:
        """Refuse options that do not go with a scene, or with plain photos, before anything is made of any of them."""
        from avatar_kit.photos.folder import check_yaws, is_plain, photo_files
        from avatar_kit.types import InputError

        if not path.exists():
            return  # told when its turn comes
        if not is_plain(path):
            self._refuse_hints(path)
            return
        need_network(path, self._settings["normal_net"])
        if ids is not None:
            raise click.UsageError("--view-ids is for scenes with cameras; of plain photos, give a folder with those that you want.")
        if self._hints.yaws_deg is not None:
            try:
                check_yaws(path, [path] if path.is_file() else photo_files(path), self._hints.yaws_deg)
            except InputError as error:
                raise click.UsageError(str(error)) from error

    def make(self, path: Path, out: Path, views: int | None, ids: list[int] | None) -> list[Path]:
        """One scene, or plain photos, that `refuse` has nothing against; the paths of what was written."""
        from avatar_kit.photos.folder import check_there, is_plain
        from avatar_kit.recon.pipeline import log
        from avatar_kit.scene.views import load_scene

        started = time.perf_counter()
        check_there(path)
        if is_plain(path):
            plain = self._understand(path, views)
            extra = self._write_photos(plain, out)
            if self._hints.check:
                return [out / name for name in (_PHOTOS_JSON, _PHOTOS_PNG)]
            return self._finish(plain.scene, None, out, self._refined(self._plain_config), time.perf_counter() - started, extra)
        scene = load_scene(path, views=views, view_ids=ids)
        given = sum(photo.normals is not None for photo in scene.photos)
        log(f"{scene.name}: {len(scene.photos)} photos (views {list(scene.view_ids)}), {given} with normal maps, on {self._device}")
        return self._finish(scene, path, out, self._refined(self._config), time.perf_counter() - started, ({}, {}))

    def _refined(self, config: Any) -> Any:
        if self._refine_cameras is None:
            return config
        return dataclasses.replace(config, cameras=dataclasses.replace(config.cameras, refine=self._refine_cameras))

    def _refuse_hints(self, path: Path) -> None:
        """What is said about plain photos does nothing to a scene."""
        hints = self._hints
        given = {
            "--check": hints.check, "--masks": hints.masks is not None, "--focal-mm": hints.focal_mm is not None,
            "--person": hints.person is not None, "--yaw": hints.yaws_deg is not None,
        }  # fmt: skip
        for option in (name for name, there in given.items() if there):
            raise click.UsageError(f"{option} is for plain photos; {path} states its cameras. Leave it out.")

    def _understand(self, path: Path, views: int | None) -> PlainScene:
        from tqdm import tqdm

        from avatar_kit.normals.storage import load_estimator
        from avatar_kit.photos.scene import scene_from_photos
        from avatar_kit.recon.pipeline import log

        network, hints = self._settings["normal_net"], self._hints
        net = load_estimator(None if network == "default" else Path(network), device=self._device)
        with tqdm(desc="photos", unit="photo", leave=False) as bar:
            said: dict[str, Any] = dict(masks=hints.masks, focal_mm=hints.focal_mm, person=hints.person, yaws_deg=hints.yaws_deg)
            plain = scene_from_photos(path, net, views=views, on_photo=lambda: bar.update(), **said)
        for seen in plain.understood:
            angles = f"yaw {seen.yaw_deg:+.0f}, pitch {seen.pitch_deg:+.0f} deg, {seen.distance_mm / 10:.0f} cm away"
            log(f"{seen.name}: {'; '.join([angles, *seen.notes])}")
        for name, reason in plain.left_out.items():
            log(f"{name}: left out: {reason}")
        for note in plain.notes:
            log(note)
        return plain

    def _write_photos(self, plain: PlainScene, out: Path) -> tuple[dict[str, bytes], dict[str, str]]:
        """photos.json and photos.png, at once unless an older result is there; what is to be kept when the result takes their place."""
        from avatar_kit.config import MeshConfig
        from avatar_kit.mesh.extraction import extract
        from avatar_kit.photos.contact import contact_sheet, estimates
        from avatar_kit.render.picture import png

        head = extract(self._prior.field, self._prior.mean_latent, MeshConfig(resolution=64, coarse=32, extractor="warp"))
        sheet, text = contact_sheet(plain, head), json.dumps(estimates(plain), indent=1)
        picture = png(sheet)
        if not finished(out):  # they would not be that result's
            out.mkdir(parents=True, exist_ok=True)
            (out / _PHOTOS_JSON).write_text(text)
            (out / _PHOTOS_PNG).write_bytes(picture)
        return {_PHOTOS_PNG: picture}, {_PHOTOS_JSON: text}

    def _finish(
        self, scene: Scene, path: Path | None, out: Path, config: Any, load_seconds: float, kept: tuple[dict[str, bytes], dict[str, str]]
    ) -> list[Path]:
        from avatar_kit.kernels.runtime import beside
        from avatar_kit.recon.pipeline import log, reconstruct
        from avatar_kit.recon.preview import preview_sheet
        from avatar_kit.recon.run_folder import write_run
        from avatar_kit.render.picture import png
        from avatar_kit.score.page import run_page

        load_seconds += self._load_seconds
        self._load_seconds = 0.0  # the next scene finds the prior there
        with _progress() as bar:
            result = reconstruct(scene, prior=self._prior, config=config, on_step=bar.step, on_stage=bar.stage, **self._settings)
        result.seconds["load"] = load_seconds
        result.seconds["total"] += load_seconds
        stages = ", ".join(f"{name} {value:.1f}" for name, value in result.seconds.items() if name != "total")
        log(f"reconstructed in {result.seconds['total']:.1f} s: {stages}; now pictures and the page")
        for doubt in result.doubts:
            log(f"warning: {doubt}")
        pictures, texts = kept
        extra = {} if path is None else self._score(result, path, pictures)
        preview = beside(lambda: png(preview_sheet(result)), self._device)
        page = run_page(result, extra.get("scores"))

        def with_page(packed: Mapping[str, bytes]) -> dict[str, str]:
            page.show(packed)
            return {**texts, "report.html": page.html()}

        return write_run(result, out, extra=extra, pictures={"preview.png": preview, **pictures}, texts=with_page, usd=self._usd)

    def _score(self, result: Reconstruction, path: Path, pictures: dict[str, bytes]) -> dict[str, Any]:
        """Entries for report.json, and a picture, where the scene has a truth."""
        from avatar_kit.recon.pipeline import log
        from avatar_kit.render.picture import png
        from avatar_kit.scene.h3ds import read_reference
        from avatar_kit.score.checks import check_truth
        from avatar_kit.score.picture import error_sheet
        from avatar_kit.score.report import score_run, score_table
        from avatar_kit.types import InputError

        try:
            reference = read_reference(path)
            if reference is None:
                return {}
            check_truth(reference, result.scene.mm_per_world_unit, f"{path}/full_head.obj")
            scores = score_run(result, self._prior, reference)
            pictures["errors.png"] = png(error_sheet(result, reference))
        except InputError as error:  # the head that was fitted stands
            log(f"{path}: not scored: {error}")
            return {}
        log(score_table(scores))
        return {"scores": scores}


class _progress:
    """A bar on stderr with the losses that matter."""

    def __enter__(self) -> Any:
        from tqdm import tqdm

        self._bar = tqdm(unit="step", leave=False, mininterval=0.5)
        return self

    def stage(self, name: str) -> None:
        """Say what goes on, also before and after the steps."""
        self._bar.set_description(name)

    def step(self, step: int, state: dict[str, Any]) -> None:
        if step == 0:
            self._bar.total = state["steps"]
            self._bar.unpause()  # what came before the fit says nothing about the time left
        self._bar.update()
        if step % 20 == 0:
            total, weight = float(state["terms"]["normal"].detach()), float(state["normal_weight"])
            if weight > 0:  # the cosine's weighted mean
                self._bar.set_postfix_str(f"normals {math.degrees(math.acos(min(max(1.0 - total / weight, -1.0), 1.0))):.1f} deg")

    def __exit__(self, *_: object) -> None:
        self._bar.close()

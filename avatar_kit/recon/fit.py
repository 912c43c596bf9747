"""The fit of one head to its photos (section 3.2): one loop, to be read from top to bottom."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from avatar_kit.config import Config
from avatar_kit.conventions import BOX_MIN
from avatar_kit.field.head_field import Condition, HeadField
from avatar_kit.field.moving_nodes import MovingNodes
from avatar_kit.field.radiance import RadianceField
from avatar_kit.field.smoothness import FINEST
from avatar_kit.kernels.grid_query import query_grids
from avatar_kit.prior.storage import HeadPrior
from avatar_kit.recon import losses
from avatar_kit.recon.anchor import FaceAnchor
from avatar_kit.recon.beside import rays_onto
from avatar_kit.recon.patches import PhotoPatches
from avatar_kit.recon.pose import HeadPose
from avatar_kit.recon.posed_head import Start
from avatar_kit.recon.rays import RayBank
from avatar_kit.recon.shading import shading_loss
from avatar_kit.recon.spots import spots_loss
from avatar_kit.recon.surface import FieldCache, differentiable_hits, search
from avatar_kit.types import Array

_NEAR_SILHOUETTE = 0.08  # units: background rays that pass further out have no say
_GRID_WARM_UP = 0.25  # of the steps, over which the grids' rate rises
_LEAST_TRUST = 0.1  # in normals: grids are kept smooth by so much more where they are trusted less, at most ten times
_PHOTOS = 3  # draw config.rays.per_step; a single one sees its pixels more often all the same, six hardly need twice as many
_GRID_EPS = 1e-5  # Adam's, of the grids: most nodes get gradients of 1e-10, and must not be moved as if they were 1e-4
_MOVING_BAND = 0.15  # units: nodes of the finest grids that are further from the starting surface stay as they are
_CURVE_EVERY = 10  # steps between entries of the loss curve


@dataclass(frozen=True, eq=False)
class FittedHead:
    """The result: `field` with its `latent`, `radiance`, and where the head is."""

    field: HeadField
    latent: Tensor
    radiance: RadianceField
    head_from_world: Array
    cameras: Array | None  # rigid motion of the head frame for the rays of each photo, (P, 4, 4), where cameras were refined
    beside: Tensor | None  # distances to what is no part of the field, at the nodes of a grid over the box, (n, n, n), units
    lowest_seen: float  # height y, head frame, of the lowest hit: below it no photo says anything
    curve: list[dict[str, float]]
    steps: int


def fit(
    bank: RayBank,
    prior: HeadPrior,
    config: Config,
    start: Start,
    generator: torch.Generator,
    *,
    patches: PhotoPatches | None = None,
    seconds: float = math.inf,
    on_step: Callable[[int, dict[str, Any]], None] | None = None,
) -> FittedHead:
    """Fit the prior to a scene.

    Args:
        bank: the rays of the scene's photos; their device is the computation's.
        start: of `recon.matches.tied_start`; refined here.
        patches: of the same photos, for photoconsistency between them.
        seconds: stop after the step that passes this, with a finished result.
        on_step: called after each step with its number and its losses ("terms"), the rays' weight in the loss of normals as a share
            of all rays ("normal_weight"), the number of steps in all ("steps") and live state ("field", "latent", "pose").
    """
    settings, silhouette = config.fit, config.silhouette
    started, device = time.perf_counter(), bank.rays.origins.device
    field = copy.deepcopy(prior.field).to(device)
    mean, basis = prior.mean_latent.to(device), prior.latent_basis.to(device)
    code = nn.Parameter(start.code.to(device, copy=True))
    latent = (mean + basis @ code).detach()
    pose = HeadPose(start.head_from_world, device, start.cameras)
    radiance = RadianceField(config.radiance)
    radiance.initialise(generator)
    radiance.to(device)
    field.requires_grad_(True)
    cache = FieldCache(field, latent, config.rays.cache_resolution)
    if start.beside is not None:
        bank = bank.without(rays_onto(start.beside, cache.values, pose, bank.rays))
    band = _MOVING_BAND if settings.free_decoder_at >= 1 else math.inf  # a free decoder may bring the surface anywhere
    fine = [MovingNodes(grid, cache.values, band) for grid in list(field.grids)[FINEST]]
    grids = [*list(field.grids)[: len(field.grids) - len(fine)], *(nodes.values for nodes in fine)]
    optimizer = _optimizer(config, field, grids, code, pose, radiance, bank.trust)
    rates = [group["lr"] for group in optimizer.param_groups]
    found = prior.knows_heads and config.start.steps > 0 and (bank.located or bank.has_normals)  # not by outlines alone
    anchor = FaceAnchor(cache.values) if found else None
    smooth_weight = settings.smooth_weight / (max(bank.trust, _LEAST_TRUST) if bank.has_normals else 1.0)
    shaded = config.shading.weight * (1.0 - bank.trust) if found else 0.0
    lowest = torch.tensor(1.0, device=device)
    curve: list[dict[str, Any]] = []  # losses stay on the device until the end: reading one waits for it
    rays_per_step = round(config.rays.per_step * math.sqrt(bank.photos / _PHOTOS))
    steps = settings.steps if start.cameras is None else round(settings.steps * config.cameras.steps_factor)
    step = -1  # fit.steps=0 keeps the start
    for step in range(steps):
        # Schedule: falling rates, sharper silhouettes, and (paper) the decoder free from some step on
        progress = step / steps
        decoder_free = progress >= settings.free_decoder_at
        for name, parameter in field.named_parameters():
            if not name.startswith("grids."):
                parameter.requires_grad_(decoder_free)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (0.1 + 0.9 * 0.5 * (1.0 + math.cos(math.pi * progress)))
            if group["name"] == "grid":  # pose and latent settle first: a silhouette that is off would carve the grids
                group["lr"] *= min(1.0, (progress + 1.0 / steps) / _GRID_WARM_UP)
        alpha = silhouette.alpha_start * (silhouette.alpha / silhouette.alpha_start) ** min(1.0, 2.0 * progress)

        # Rays -> first crossings
        world = bank.draw(rays_per_step, config.rays.inside_share, generator)
        origins, directions, target = pose.rays(world)
        latent = mean + basis @ code
        condition = field.condition(latent[None])
        still = condition.detach(), origins.detach(), directions.detach()
        crossings = search(field, cache, *still, config.rays, to_crossing=world.inside)

        # Rays of the subject that hit: normals (equation 4) and colour at differentiable hit points
        on = (crossings.hit & world.inside).nonzero()[:, 0]
        hits = differentiable_hits(field, condition, origins[on], directions[on], crossings.depth[on])
        if anchor:
            through = anchor.through_lips(hits.points)
            crossings = anchor.with_closed_lips(crossings, on[through], origins, directions)
            on, hits = on[~through], hits.among(~through)
        terms = {"normal": losses.normal_loss(hits.normals, target[on], world.confidence[on], hits.slope, len(world))}
        if settings.color_weight > 0:
            colors = radiance(hits.points, hits.normals, directions[on])
            terms["color"] = losses.color_loss(colors, world.colors[on], len(world))
        if shaded > 0:
            terms["shading"] = shading_loss(hits, world.colors[on], world.photo[on], config.shading, len(world))
        if patches:
            terms["patch"] = patches.loss(pose, hits, world.photo[on], cache.values, len(world), generator, progress=progress)

        # Rays that hit although they should not, miss although they should hit, or pass close by: silhouette
        off = ~(crossings.hit & world.inside) & torch.isfinite(crossings.closest_value)
        off = (off & (world.inside | (crossings.closest_value < _NEAR_SILHOUETTE))).nonzero()[:, 0]
        closest = origins[off] + directions[off] * crossings.closest_depth[off, None]
        if anchor:
            own = ~(world.inside[off] & anchor.has_before_it(closest))
            off, closest = off[own], closest[own]
        # Hair and clothes that no head of the prior has would bend all of it: what is far off is left to the grids
        share = losses.geman_mcclure(crossings.closest_value[off].square(), silhouette.outlier_width)[0][:, None]
        closest = closest.detach() + share * (closest - closest.detach())
        terms["mask"] = losses.mask_loss(field(closest, _weighted(condition, share, closest)), world.inside[off], alpha, len(world))

        # Spots that two photos both show, while the surface is far from them
        if start.spots is not None:
            terms["spots"] = (1.0 - progress) * spots_loss(field, condition, pose, start.spots, config.spots, len(world), generator)

        # What no photo says: the Gaussian prior on g, and grids that change smoothly
        terms["latent"] = losses.latent_loss(code)
        loss = settings.normal_weight * terms["normal"] + settings.mask_weight * terms["mask"] + settings.latent_weight * terms["latent"]
        if "color" in terms:
            loss = loss + settings.color_weight * terms["color"]
        if "shading" in terms:
            loss = loss + shaded * terms["shading"]
        if "spots" in terms:
            loss = loss + config.spots.weight * terms["spots"]
        if "patch" in terms:
            loss = loss + (2.0 - bank.trust) * config.patches.weight * terms["patch"]
        if smooth_weight > 0:
            terms["smooth"] = sum((nodes.roughness() for nodes in fine), torch.zeros((), device=device))
            loss = loss + smooth_weight * terms["smooth"]
        if anchor:
            loss = loss + anchor.pose_loss(pose)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        for nodes in fine:
            nodes.take_gradient()
        optimizer.step()
        for nodes in fine:
            nodes.write()

        if len(on):
            lowest = torch.minimum(lowest, hits.points.detach()[:, 1].min())
        looked_at = anchor is not None or patches is not None or config.rays.search == "grid"
        if looked_at and (step + 1) % config.rays.refresh_every == 0 and step + 1 < steps:
            cache.refresh(latent.detach())
            if anchor:
                anchor.follow(cache.values)
        if step % _CURVE_EVERY == 0 or step == steps - 1:
            curve.append({"step": step, "seconds": time.perf_counter() - started, "terms": {k: v.detach() for k, v in terms.items()}})
        if on_step:
            trusted = losses.normal_weight(target[on], world.confidence[on], hits.slope).sum() / len(world)
            live = {"field": field, "latent": latent.detach(), "pose": pose}
            on_step(step, {"terms": terms, "normal_weight": trusted, "steps": steps, **live})
        if time.perf_counter() - started > seconds:
            break
    field.requires_grad_(False)
    seen_to = float(lowest) if step >= 0 else BOX_MIN
    read = [{"step": e["step"], "seconds": e["seconds"]} | {k: float(v) for k, v in e["terms"].items()} for e in curve]
    return FittedHead(field, latent.detach(), radiance, pose.matrix(), pose.camera_matrices(), start.beside, seen_to, read, step + 1)


def _optimizer(
    config: Config, field: HeadField, grids: list[nn.Parameter], code: nn.Parameter, pose: HeadPose, radiance: RadianceField, trust: float
) -> torch.optim.Optimizer:
    fit = config.fit
    decoder = [parameter for name, parameter in field.named_parameters() if not name.startswith("grids.")]
    head, cameras = ([p for name, p in pose.named_parameters() if name.startswith("camera") == own] for own in (False, True))
    grid_rate = fit.learning_rate_grid * (fit.grid_rate_without_normals + (1.0 - fit.grid_rate_without_normals) * trust)
    groups = [
        {"name": "code", "params": [code], "lr": fit.learning_rate_latent},
        *[
            {"name": "grid", "params": [grid], "lr": grid_rate * fit.grid_rate_growth**coarser, "eps": _GRID_EPS}
            for coarser, grid in enumerate(reversed(grids))
        ],
        {"name": "decoder", "params": decoder, "lr": fit.learning_rate_decoder},
        {"name": "pose", "params": head, "lr": config.silhouette.pose_learning_rate},
        {"name": "cameras", "params": cameras, "lr": config.cameras.learning_rate},
        {"name": "radiance", "params": list(radiance.parameters()), "lr": fit.learning_rate_radiance},
    ]
    return torch.optim.Adam([group for group in groups if group["params"]], fused=True)


def _weighted(condition: Condition, share: Tensor, points: Tensor) -> Condition:
    """The same condition at each of `points` (N, 3), its gradient times `share` (N, 1)."""
    bias, grid, _ = condition
    bias = bias.detach() + share * (bias - bias.detach())
    if grid is None:
        return Condition(bias)
    local = query_grids(points.detach(), [grid[0]], jacobian=False)
    return Condition(bias, grid.detach(), share * (local - local.detach()))

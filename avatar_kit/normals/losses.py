"""The losses of the normal network; each returns one number per term, to be weighted by `NormalsConfig`."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from avatar_kit.config import NormalsConfig
from avatar_kit.conventions import MM_PER_UNIT
from avatar_kit.normals.network import NormalMaps

_COARSE_PX = (8, 16)  # a face is some 60 pixels wide in a crop of 192
_HUBER_MM = 5.0  # above, an error of coordinates counts linearly


class Targets(NamedTuple):
    """A batch of pairs: photos (B, 3, S, S) in [0, 1] and their truth.

    normals: unit, ray frame (`normals.ray_frame`), zero off the subject, (B, 3, S, S).
    foreground, face, hidden: 1 or 0, (B, S, S); hidden is what stands before the subject, a hand for instance.
    coordinates: head frame, units, zero off the subject, (B, 3, S, S).
    """

    image: Tensor
    normals: Tensor
    foreground: Tensor
    face: Tensor
    coordinates: Tensor
    hidden: Tensor


def angle(normals: Tensor, truth: Tensor) -> Tensor:
    """Angle in rad (B, S, S) between unit vectors (B, 3, S, S); its gradient stays finite at 0 and pi."""
    return torch.acos((normals * truth).sum(1).clamp(-1 + 1e-6, 1 - 1e-6))


def angular_likelihood(angle_rad: Tensor, log_concentration: Tensor) -> Tensor:
    """Negative log-likelihood of the angular von Mises-Fisher distribution, up to a constant.

    p(n) = (kappa^2 + 1) / (2 pi (1 + exp(-kappa pi))) exp(-kappa angle). For a small angle the best kappa is 2 / angle.

    Source: Bae, Budvytis, Cipolla, "Estimating and exploiting the aleatoric uncertainty in surface normal estimation",
    ICCV 2021, equation 5.
    """
    kappa = log_concentration.exp()
    return kappa * angle_rad - torch.log1p(kappa**2) + F.softplus(-kappa * math.pi)


def neighbour_differences(normals: Tensor, truth: Tensor, foreground: Tensor) -> Tensor:
    """Mean length of the error of the difference between neighbouring normals, both on the foreground: detail."""
    error = normals - truth
    total = error.new_zeros(())
    for axis in (-1, -2):
        size = error.shape[axis] - 1
        change = (error.narrow(axis, 1, size) - error.narrow(axis, 0, size)).abs().sum(1)
        both = foreground.narrow(axis, 1, size) * foreground.narrow(axis, 0, size)
        total = total + _mean(change, both)
    return total


def coarse_differences(normals: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Mean length of the errors' means over cells of 8 and of 16 pixels: errors that integrate to a wrong shape.

    Errors of pixels that cancel out, as those of strands and pores, cost nothing. `weight`: (B, S, S).
    """
    error = (normals - truth) * weight[:, None]
    total = error.new_zeros(())
    for cell in (min(size, weight.shape[-1]) for size in _COARSE_PX):
        share = F.avg_pool2d(weight, cell)
        mean = F.avg_pool2d(error, cell) / share[:, None].clamp(min=1e-6)
        total = total + _mean((mean.square().sum(1) + 1e-8).sqrt(), share)
    return total / len(_COARSE_PX)


def foreground_loss(logit: Tensor, foreground: Tensor) -> Tensor:
    """Cross-entropy, plus Dice for subjects that are small in the crop."""
    probability = torch.sigmoid(logit)
    overlap = 2 * (probability * foreground).sum((1, 2)) + 1
    dice = 1 - overlap / (probability.sum((1, 2)) + foreground.sum((1, 2)) + 1)
    return F.binary_cross_entropy_with_logits(logit, foreground) + dice.mean()


def coordinate_loss_mm(coordinates: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Huber loss of coordinates in millimetres, a mean with `weight` (B, S, S)."""
    error = F.smooth_l1_loss(coordinates * MM_PER_UNIT, truth * MM_PER_UNIT, beta=_HUBER_MM, reduction="none").sum(1)
    return _mean(error, weight)


def normals_loss(maps: NormalMaps, truth: Targets, config: NormalsConfig) -> tuple[Tensor, dict[str, float]]:
    """The weighted sum, and what to show: its terms, angular error, IoU and error of coordinates."""
    weight = truth.foreground * (1 + (config.face_share - 1) * truth.face)
    off = angle(maps.normals, truth.normals)
    # The likelihood's pull on a normal grows with the confidence in it, so easy cheeks would outweigh noses and lips: it
    # teaches the confidence alone, the angle itself the normals (Seitzer et al., "On the pitfalls of heteroscedastic
    # uncertainty estimation with probabilistic neural networks", ICLR 2022, weigh it down for the same reason).
    likelihood = angular_likelihood(off.detach(), maps.log_concentration)
    cosine = 1 - (maps.normals * truth.normals).sum(1)
    terms = {
        "likelihood": config.likelihood_weight * _mean(likelihood, weight),
        "angle": config.angle_weight * _mean(off, weight),
        "cosine": config.cosine_weight * _mean(cosine, weight),
        "gradient": config.gradient_weight * neighbour_differences(maps.normals, truth.normals, truth.foreground),
        "coarse": config.coarse_weight * coarse_differences(maps.normals, truth.normals, weight),
        "foreground": config.foreground_weight * foreground_loss(maps.foreground, truth.foreground),
        "coordinates": config.coordinate_weight * coordinate_loss_mm(maps.coordinates, truth.coordinates, weight),
    }
    with torch.no_grad():
        predicted = (maps.foreground > 0).float()
        overlap = (predicted * truth.foreground).sum()
        shown = {
            **terms,
            "degrees": torch.rad2deg(_mean(off, truth.foreground)),
            "millimetres": MM_PER_UNIT * _mean((maps.coordinates - truth.coordinates).norm(dim=1), truth.foreground),
            "iou": overlap / (predicted + truth.foreground).clamp(max=1).sum().clamp(min=1),
        }
        values = torch.stack(list(shown.values())).tolist()  # all at once: a GPU is waited for each time
    return torch.stack(list(terms.values())).sum(), dict(zip(shown, values))


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean; zero where nothing has weight."""
    return (values * weight).sum() / weight.sum().clamp(min=1.0)

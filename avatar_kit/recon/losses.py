"""Losses of the fit (section 3.2). Those of rays are sums over the rays that they concern, divided by all rays of the step."""

from __future__ import annotations

import torch
from torch import Tensor


def normal_weight(target: Tensor, confidence: Tensor, slope: Tensor) -> Tensor:
    """What each normal counts in `normal_loss`, whose arguments these are, (N,); no gradient."""
    return confidence.detach() * ((target.detach().abs().sum(-1) > 0) & (slope.detach() < 0))


def normal_loss(normals: Tensor, target: Tensor, confidence: Tensor, slope: Tensor, count: int) -> Tensor:
    """Equation 4, 1 - n . n_hat, with n normalised.

    Args:
        normals: of the field at the hits, unit, (N, 3).
        target: predicted unit normals, zero where there is none, (N, 3), same frame.
        confidence: in the target, a weight, (N,).
        slope: n . v; hits whose surface faces away (>= 0) are left out.
        count: rays of the step.
    """
    weight = normal_weight(target, confidence, slope)
    return ((1.0 - (normals * target).sum(-1)) * weight).sum() / count


def mask_loss(distance: Tensor, inside: Tensor, alpha: float, count: int) -> Tensor:
    """Silhouette: cross entropy of sigmoid(-alpha d) at the closest points of rays that do not hit the subject.

    Args:
        distance: the field at each ray's closest point, (N,).
        inside: the pixel is on the subject, (N,) bool.
        alpha: sharpness, per unit; the loss is divided by it (Yariv et al. 2020, equation 7).
    """
    logits = -alpha * distance
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, inside.to(distance), reduction="sum")
    return entropy / (alpha * count)


def color_loss(predicted: Tensor, target: Tensor, count: int) -> Tensor:
    """Photoconsistency: absolute difference of colours (N, 3), summed over channels."""
    return (predicted - target).abs().sum() / count


def latent_loss(code: Tensor) -> Tensor:
    """Gaussian prior on g = mean + B w (equation 3): mean square of the code w (K,)."""
    return code.square().mean()


def geman_mcclure(squared: Tensor, width: float) -> tuple[Tensor, Tensor]:
    """Weight and cost (N,) of squared residuals (N,); no outlier costs more than width^2. Source: Geman and McClure, 1987."""
    ratio = 1.0 + squared / width**2
    return ratio.pow(-2), squared / ratio

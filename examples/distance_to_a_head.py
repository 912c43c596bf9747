"""The prior as a function: signed distance and normal of the mean head anywhere in the head frame."""

import torch

import avatar_kit as ak
from avatar_kit.conventions import MM_PER_UNIT

prior = ak.load_prior()
condition = prior.field.condition(prior.mean_latent[None])
points = torch.tensor([[0.0, 0.0, 0.7], [0.0, 0.9, 0.0], [0.0, 0.2, 0.0]])  # before the nose, above the crown, inside
sdf = prior.field.with_gradient(points, condition)
for point, distance, normal in zip(points, sdf.distance * MM_PER_UNIT, sdf.gradient, strict=True):
    print(f"{point.tolist()}: {distance:6.1f} mm, gradient {[round(v, 2) for v in normal.tolist()]}")

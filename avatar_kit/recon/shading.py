"""What the light on a face says of its shape: brightness as spherical harmonics of the normal, from photo to photo its own.

A convex matte surface of one colour, under whatever distant light, is as bright as a quadratic of its normal, within some per cent
(Ramamoorthi and Hanrahan 2001; Basri and Jacobs 2003). Faces are nearly that: brows, lips, beards, highlights and cast shadows are
outliers. The light is not known: its nine coefficients are solved for at the shape of now, and the shape may only do what they cannot.
Beyond the paper, for photos whose normals are predicted: their errors are those of whole faces, and this has others.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from avatar_kit.config import RaysConfig, ShadingConfig
from avatar_kit.kernels.ray_search import search_grid
from avatar_kit.recon.losses import geman_mcclure
from avatar_kit.recon.posed_head import PosedHead, hits_of_moved_rays
from avatar_kit.recon.rays import Rays
from avatar_kit.recon.residuals import LEAST_SLOPE, ByRays, Residuals
from avatar_kit.recon.surface import SurfaceHits

_HALF_WIDTH, _CHIN, _BROWS, _BEHIND = 0.3, -0.45, 0.2, 0.3  # of the face between hair, neck and ears: |x|, y and z, head frame, units
_MOUTH = (0.0, -0.165), (0.17, 0.085)  # middle and half axes in x and y, head frame, units: lips and teeth, a grin's too
_GAMMA = 2.2  # of photos
_LEAST_RAYS = 60  # on a photo's face: fewer do not tell its light
_RIDGE = 1e-3  # of the light's coefficients, times the number of rays: normals of a face leave some of them open
_REWEIGHTINGS = 8
_DARKEST = 1e-4  # mean brightness of a face


class Light(NamedTuple):
    """Of P photos on N spots of faces.

    Attributes:
        harmonics: of the normals, (N, 9), with their gradient.
        coefficients: of the light, times the albedo, (P, 9).
        brightness: what it should be: linear light over its mean on the photo's face, (N,).
        weights: robust weights, zero where a photo shows too little, (N,).
        photo: of each spot, (N,).
    """

    harmonics: Tensor
    coefficients: Tensor
    brightness: Tensor
    weights: Tensor
    photo: Tensor

    @property
    def off(self) -> Tensor:
        """How much brighter the spots should look by the light than they do, (N,); what they are lit by is held."""
        return (self.harmonics * self.coefficients[self.photo]).sum(-1) - self.brightness

    def cost(self, width: float) -> Tensor:
        """Robust squares of what is off, `width` as in `light_on`, summed over photos that show enough."""
        return (geman_mcclure(self.off.square(), width)[1] * (self.weights > 0)).sum()


def harmonics(normals: Tensor) -> Tensor:
    """Real spherical harmonics of orders 0 to 2, not normalised, of unit normals (N, 3): (N, 9)."""
    x, y, z = normals.unbind(-1)
    return torch.stack([torch.ones_like(x), x, y, z, x * y, x * z, y * z, x * x - y * y, 3 * z * z - 1], dim=-1)


def on_face(points: Tensor) -> Tensor:
    """Which points (N, 3), head frame, lie on the face between hair, neck and ears, (N,) bool."""
    x, y, z = points.unbind(-1)
    return (x.abs() < _HALF_WIDTH) & (y > _CHIN) & (y < _BROWS) & (z > _BEHIND)


def on_mouth(points: Tensor) -> Tensor:
    """Which points (N, 3) of faces, head frame, may be lips or teeth, (N,) bool."""
    middle, half = (torch.tensor(pair).to(points) for pair in _MOUTH)
    return ((points[:, :2] - middle) / half).square().sum(-1) < 1.0


def light_on(normals: Tensor, colors: Tensor, photo: Tensor, width: float) -> Light:
    """The light of each photo that explains best how bright a surface of one colour is.

    Args:
        normals: unit, in a frame that all photos share, (N, 3).
        colors: sRGB, (N, 3).
        photo: number of each one's photo, (N,).
        width: of the robust weight, in means of brightness.
    """
    photos = int(photo.max()) + 1 if len(photo) else 1
    basis = harmonics(normals)
    still = basis.detach()
    count = _sums(torch.ones_like(still[:, 0]), photo, photos)
    brightness = colors.clamp(0.0, 1.0).pow(_GAMMA).mean(-1)
    mean = _sums(brightness, photo, photos) / count.clamp_min(1.0)
    brightness = brightness / mean.clamp_min(_DARKEST)[photo]
    weights = enough = (count >= _LEAST_RAYS).to(still)[photo]
    coefficients = still.new_zeros(photos, still.shape[1])
    for _ in range(_REWEIGHTINGS):
        rhs = _sums(still * (weights * brightness)[:, None], photo, photos)
        coefficients = torch.linalg.solve(_squares(still, weights, photo, photos), rhs)
        weights = geman_mcclure(((still * coefficients[photo]).sum(-1) - brightness).square(), width)[0] * enough
    return Light(basis, coefficients, brightness, weights, photo)


def shading_loss(hits: SurfaceHits, colors: Tensor, photo: Tensor, config: ShadingConfig, count: int) -> Tensor:
    """How far the brightness of faces is from what their light makes of their normals: robust squares, summed, over `count`.

    Args:
        hits: head frame.
        colors, photo: of their rays, sRGB (N, 3) and (N,).
        count: rays of the step.
    """
    points = hits.points.detach()
    # grids are free to follow what a head of the prior is not: the edges of lips and teeth
    lit = (on_face(points) & ~on_mouth(points) & (hits.slope.detach() < -LEAST_SLOPE)).nonzero()[:, 0]
    return light_on(hits.normals[lit], colors[lit], photo[lit], config.width).cost(config.width) / count


def shading_residuals(head: PosedHead, rays: Rays, config: ShadingConfig, rays_config: RaysConfig) -> Residuals:
    """How much brighter faces should be than they are, in means of brightness. The light follows the shape (variable projection,
    Kaufman 1975).

    Args:
        rays: of the world, on the subject; those that miss the face are left out.
    """
    origins, directions, _ = head.rays(rays)
    found = search_grid(head.cache.values, origins, directions, coarse=rays_config.coarse, fine=rays_config.fine)
    use = (found.hit & on_face(origins + directions * found.depth[:, None])).nonzero()[:, 0]
    hits, moved = hits_of_moved_rays(head, origins[use], directions[use], found.depth[use])
    lit = (hits.slope.detach() < -LEAST_SLOPE).nonzero()[:, 0]
    # the light stands in the world: a head that turns turns its normals in it
    normals = (hits.normals - torch.cross(moved.turn, hits.normals, dim=-1))[lit]
    light = light_on(normals, rays.colors[use[lit]], rays.photo[use[lit]], config.width)
    derivatives = moved.derivatives(light.off, hits.points.detach())
    by_motion, by_code = (_beyond_light(part[lit], light) for part in derivatives)
    each = config.count / (max(int((light.weights > 0).sum()), 1) * config.std**2)
    cost = each * float(light.cost(config.width).detach())
    return Residuals(light.off.detach(), (ByRays(light.photo, by_motion),), by_code, each * light.weights, cost)


def _beyond_light(jacobian: Tensor, light: Light) -> Tensor:
    """Derivatives (N, D) of what is off, less what the light's coefficients, which follow by weighted least squares, undo."""
    still = light.harmonics.detach()
    weighted, photos = still * light.weights[:, None], len(light.coefficients)
    follow = _sums(weighted[:, :, None] * jacobian[:, None, :], light.photo, photos)
    follow = torch.linalg.solve(_squares(still, light.weights, light.photo, photos), follow)
    return jacobian - torch.einsum("nk,nkd->nd", still, follow[light.photo])


def _squares(basis: Tensor, weights: Tensor, photo: Tensor, photos: int) -> Tensor:
    """Per photo, the matrix (P, 9, 9) of the normal equations of the light."""
    counts = _sums(torch.ones_like(weights), photo, photos).clamp_min(1.0)
    ridge = _RIDGE * counts[:, None, None] * torch.eye(basis.shape[1], device=basis.device)
    return _sums((basis * weights[:, None])[:, :, None] * basis[:, None, :], photo, photos) + ridge


def _sums(values: Tensor, photo: Tensor, photos: int) -> Tensor:
    """Per photo, (P, ...), of values (N, ...)."""
    return values.new_zeros(photos, *values.shape[1:]).index_add_(0, photo, values)

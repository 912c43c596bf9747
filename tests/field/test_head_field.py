"""The head field: tangents, conditioning, initialisation, masking."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from avatar_kit.config import PRESETS, FieldConfig, RadianceConfig
from avatar_kit.field.head_field import Condition, HeadField
from avatar_kit.field.radiance import RadianceField
from avatar_kit.field.tangents import softplus
from avatar_kit.kernels.encoding import positional_encoding

SMALL = FieldConfig(frequencies=2, latent=4, width=8, layers=2, levels=(1, 2), features=3, local_rank=2, local_level=1)


def random_field(generator: torch.Generator, config: FieldConfig = SMALL) -> HeadField:
    field = HeadField(config).double()
    field.initialise(generator)
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3)
    return field


def test_gradient_is_the_derivative_of_the_distance(generator: torch.Generator) -> None:
    field = random_field(generator)
    points = (torch.rand(20, 3, generator=generator, dtype=torch.float64) - 0.5).requires_grad_()
    condition = field.condition(torch.randn(2, 4, generator=generator, dtype=torch.float64))
    sdf = field.with_gradient(points, condition)
    (by_autograd,) = torch.autograd.grad(field(points, condition).sum(), points)
    torch.testing.assert_close(sdf.gradient, by_autograd, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(sdf.distance, field(points, condition))


def test_losses_on_normals_reach_every_parameter(generator: torch.Generator) -> None:
    """gradcheck of distance and gradient with respect to points, latent, grids and weights."""
    field = random_field(generator)
    names = ["latent_weight", "local_basis", "local_weight", "grids.0", "grids.1", "hidden.0.weight", "last.weight"]
    parameters = [dict(field.named_parameters())[name] for name in names]
    latent = torch.randn(1, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    points = (torch.rand(3, 3, generator=generator, dtype=torch.float64) * 0.4 + 0.05).requires_grad_()

    def outputs(x: torch.Tensor, g: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(field.with_gradient(x, field.condition(g)))

    assert torch.autograd.gradcheck(outputs, (points, latent, *parameters))


def test_two_heads_in_one_batch_do_not_mix(generator: torch.Generator) -> None:
    field = random_field(generator)
    latents = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    points = torch.rand(10, 3, generator=generator, dtype=torch.float64) - 0.5
    together = field(points, field.condition(latents))
    apart = torch.cat([field(part, field.condition(latent[None])) for part, latent in zip(points.split(5), latents, strict=True)])
    torch.testing.assert_close(together, apart)


def test_derivatives_by_the_latent_are_autograds(generator: torch.Generator) -> None:
    """Those of distance and gradient, one row per point, through the bias and through the local features."""
    field = random_field(generator)
    points = torch.rand(6, 3, generator=generator, dtype=torch.float64) - 0.5
    latent = torch.randn(1, 4, generator=generator, dtype=torch.float64)
    bias, grid, _ = field.condition(latent)
    assert grid is not None
    own = [bias.expand(6, -1).detach().clone().requires_grad_(), torch.zeros(4, 6, 3, dtype=torch.float64, requires_grad=True)]
    sdf = field.with_gradient(points, Condition(own[0], grid.detach(), own[1]))
    for output in (sdf.distance, sdf.gradient[:, 1]):
        by_bias, by_nudge = torch.autograd.grad(output.sum(), own, retain_graph=True)

        def one(g: torch.Tensor, output: torch.Tensor = output) -> torch.Tensor:
            again = field.with_gradient(points, field.condition(g))
            return again.distance if output is sdf.distance else again.gradient[:, 1]

        (expected,) = torch.autograd.functional.jacobian(one, (latent,))
        torch.testing.assert_close(field.by_latent(points, by_bias, by_nudge), expected[:, 0])


def test_without_their_grid_there_are_no_local_features(generator: torch.Generator) -> None:
    field = random_field(generator, dataclasses.replace(SMALL, levels=(2,)))
    assert field.condition(torch.zeros(1, 4, dtype=torch.float64)).grid is None
    assert "local_basis" not in field.state_dict()


@pytest.mark.parametrize("preset", ["fast", "paper"])
def test_geometric_initialisation_is_about_a_sphere(preset: str, generator: torch.Generator) -> None:
    config = PRESETS[preset].field
    field = HeadField(config)
    field.initialise(generator)
    condition = field.condition(torch.zeros(1, config.latent))
    assert field(torch.zeros(1, 3), condition).item() < 0
    corners = torch.tensor([[a, b, c] for a in (-1.0, 1.0) for b in (-1.0, 1.0) for c in (-1.0, 1.0)])
    assert (field(corners, condition) > 0).all()


def test_grids_of_zeros_can_learn(generator: torch.Generator) -> None:
    """With z = 0 and no weight on z, neither would ever get a gradient."""
    field = HeadField(SMALL)
    field.initialise(generator)
    points = torch.rand(50, 3, generator=generator) - 0.5
    field(points, field.condition(torch.zeros(1, 4))).sum().backward()
    assert all(grid.grad is not None and grid.grad.abs().max() > 0 for grid in field.grids)


def test_paper_preset_has_the_sizes_of_section_3_3() -> None:
    config = PRESETS["paper"].field
    field = HeadField(config)
    assert [tuple(layer.weight.shape) for layer in field.hidden] == [(512, 3 + 36 + 8), (512, 512), (512, 512)]
    assert tuple(field.latent_weight.shape) == (512, 256)
    assert [grid.shape[0] for grid in field.grids] == [17**3, 33**3, 65**3]
    radiance = RadianceField(PRESETS["paper"].radiance)
    assert len(radiance.q) == 8
    assert radiance.q[4].in_features == 512 + 39
    assert radiance.q_last.out_features == 256
    assert [layer.out_features for layer in radiance.r] == [512] * 4


def test_masked_frequencies_vanish_and_open_smoothly() -> None:
    points = torch.tensor([[0.3, -0.2, 0.7]])
    shut = positional_encoding(points, 3, 0.0, derivatives=True)
    assert torch.equal(shut[0, :, 3:], torch.zeros(1, 18))
    torch.testing.assert_close(shut[1:, 0, :3], torch.eye(3))
    half = positional_encoding(points, 3, 1.5, derivatives=False)[0]
    torch.testing.assert_close(half[:, 3:6], torch.sin(math.pi * points))
    torch.testing.assert_close(half[:, 9:12], 0.5 * torch.sin(2 * math.pi * points))
    assert torch.equal(half[:, 15:], torch.zeros(1, 6))


def test_softplus_stack_gradcheck(generator: torch.Generator) -> None:
    stack = torch.randn(4, 6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    shift = torch.randn(2, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s, b: softplus(s, b, 5.0), (stack, shift))


def test_radiance_is_a_colour(generator: torch.Generator) -> None:
    radiance = RadianceField(PRESETS["fast"].radiance)
    radiance.initialise(generator)
    x, n, v = (torch.nn.functional.normalize(torch.randn(30, 3, generator=generator), dim=-1) for _ in range(3))
    colors = radiance(x, n, v)
    assert colors.shape == (30, 3)
    assert ((colors > 0) & (colors < 1)).all()


def test_no_points_are_no_error(generator: torch.Generator) -> None:
    """As where no ray meets the box: of one head, and with a head for each point."""
    field = random_field(generator)
    for heads in (0, 1):
        points, latents = torch.zeros(0, 3, dtype=torch.float64), torch.zeros(heads, 4, dtype=torch.float64, requires_grad=True)
        bias = latents @ field.latent_weight.T
        sdf = field.with_gradient(points, Condition(bias))
        assert sdf.gradient.shape == (0, 3)
        (by_latents,) = torch.autograd.grad(sdf.distance.sum(), latents)
        assert not by_latents.any()
        with torch.no_grad():
            assert field(points, Condition(bias)).shape == (0,)


def test_colours_and_their_gradients_are_those_of_plain_layers() -> None:
    """The radiance field against the same layers with torch's own softplus."""
    config, generator = RadianceConfig(), torch.Generator().manual_seed(3)
    field = RadianceField(config)
    field.initialise(generator)
    points, normals = (
        torch.randn(50, 3, generator=generator) * 0.4,
        torch.nn.functional.normalize(torch.randn(50, 3, generator=generator), dim=1),
    )

    def plain(points: torch.Tensor) -> torch.Tensor:
        h = positional_encoding(points, config.q_frequencies, config.q_frequencies, derivatives=False)[0]
        for layer in field.q:
            h = torch.nn.functional.softplus(layer(h), beta=100.0)
        h = torch.cat([points, normals, field.q_last(h), -normals], dim=-1)
        for layer in field.r:
            h = torch.relu(layer(h))
        return 0.5 + 0.5 * torch.tanh(field.r_last(h))

    found = [
        torch.autograd.grad(colors.square().sum(), [*field.parameters()]) for colors in (field(points, normals, -normals), plain(points))
    ]
    torch.testing.assert_close(field(points, normals, -normals), plain(points))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)

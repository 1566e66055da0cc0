# SPDX-License-Identifier: MIT
"""Ternary without training: rounding by outputs keeps more than rounding by weights, and exactly what rules expect."""

import copy

import pytest
import torch
from torch.nn import functional

from tests.tiny import COLOUR, LEARNED, SCALED, STEM, images_for, untrained
from trainer.model.layers import TernaryBitConv2d, TernaryBitLinear, TernaryLayerNorm, ternary_modules
from trainer.model.quantize import Rule, twn
from trainer.training.output_aware import fitted, output_aware, rounded, seen_by, set_bias, set_layer


def correlated(rows, width, generator):
    """Inputs whose columns depend on each other, as activations do."""
    mix = torch.randn(width, width, generator=generator) / width**0.5 + 0.5
    return torch.randn(rows, width, generator=generator) @ mix


def test_rounding_by_outputs_loses_less_than_by_weights():
    generator = torch.Generator().manual_seed(0)
    for width in (5, 17, 48):
        weight, inputs = torch.randn(9, width, generator=generator), correlated(400, width, generator)
        wanted = inputs @ weight.T
        trits = rounded(weight, inputs)
        assert set(trits.unique().tolist()) <= {-1.0, 0.0, 1.0}
        scale, bias = fitted(trits, inputs, wanted)
        error = (inputs.double() @ (trits * scale[:, None]).T + bias - wanted).square().mean()
        plain_trits, plain_scale = twn(weight)
        assert error < 0.7 * (inputs @ (plain_trits * plain_scale).T - wanted).square().mean()


def test_fit_is_that_of_numpys_least_squares():
    generator = torch.Generator().manual_seed(1)
    inputs, wanted = torch.randn(50, 6, generator=generator), torch.randn(50, 3, generator=generator)
    trits = torch.randint(-1, 2, (3, 6), generator=generator).double()
    scale, bias = fitted(trits, inputs, wanted)
    for channel in range(3):
        sums = inputs.double() @ trits[channel]
        columns = torch.stack((sums, torch.ones_like(sums)), 1)
        best = torch.linalg.lstsq(columns, wanted[:, channel].double()).solution
        if best[0] > 0:
            assert torch.allclose(torch.stack((scale[channel], bias[channel])), best)


@pytest.mark.parametrize("rule", ["twn", "least_squares"])
def test_rules_give_back_the_trits_that_were_set(rule):
    generator = torch.Generator().manual_seed(2)
    for layer in (TernaryBitLinear(12, 7), TernaryBitConv2d(3, 7, 2)):
        trits = torch.randint(-1, 2, (7, 12), generator=generator).float()
        trits[:, 0] = 1
        scale = torch.rand(7, generator=generator) + 0.1
        layer.rule = Rule(rule)
        set_layer(layer, trits, scale)
        assert torch.equal(layer.trits()[0], trits)
        assert torch.allclose(layer.trits()[1], scale)


@pytest.mark.parametrize("blueprint", [STEM, COLOUR], ids=lambda blueprint: blueprint.name)
def test_rows_that_a_layer_sees_give_what_leaves_it(blueprint):
    student = untrained(blueprint)
    student.full_precision(True)
    pictures = images_for(blueprint, 6)
    for name, layer in ternary_modules(student.vit).items():
        if not isinstance(layer, TernaryLayerNorm):
            inputs, outputs = seen_by(student, name, pictures)
            made = functional.linear(inputs, layer.latent(), layer.bias)
            assert torch.allclose(made, outputs, atol=1e-3 * outputs.abs().max().item()), name


def test_biases_of_a_stem_are_seen_by_its_batchnorm():
    student = untrained(STEM)
    stage = student.vit.patch_embed.backbone[1]
    bias, x = torch.randn(stage.conv.out_channels), torch.randn(2, stage.conv.out_channels, 4, 4)
    with torch.no_grad():
        expected = stage.bn(x + bias[:, None, None])
        set_bias(student, "patch_embed.backbone.1.conv", bias)
        assert torch.allclose(stage.bn(x), expected, atol=1e-5)


@pytest.mark.parametrize("blueprint", [STEM, LEARNED], ids=lambda blueprint: blueprint.name)
def test_no_parameter_comes_or_goes(blueprint):
    """An optimizer, an averaged model or a checkpoint would not have it."""
    student = untrained(blueprint)
    before = {name: id(parameter) for name, parameter in student.named_parameters()}
    student.full_precision(True)
    output_aware(student, images_for(blueprint, 10))
    assert {name: id(parameter) for name, parameter in student.named_parameters()} == before


@pytest.mark.parametrize("blueprint", [STEM, SCALED], ids=lambda blueprint: blueprint.name)
def test_a_network_keeps_more_of_its_logits(blueprint):
    student = untrained(blueprint)
    student.full_precision(True)
    pictures = images_for(blueprint, 60)
    with torch.no_grad():
        exact = student(pictures)
        plain, aware = copy.deepcopy(student), copy.deepcopy(student)
        plain.full_precision(False)
        output_aware(aware, pictures[:30])
        assert all(not layer.full_precision for layer in ternary_modules(aware.vit).values())
        errors = [(model(pictures[30:]) - exact[30:]).square().mean() for model in (plain, aware)]
    assert errors[1] < errors[0]

# SPDX-License-Identifier: MIT
"""trainer.integer.linear: what folds into a layer, and SPEC 4 against the oracle."""

import numpy as np
import pytest
import torch
from timm.layers import LayerScale
from torch import nn

from tests import oracle
from tests.tiny import ODD, SCALED, STEM, untrained
from tests.trainer.integer.samples import RNG, largest_difference, linear, place, random_int8
from trainer.integer.head import fold_head
from trainer.integer.linear import Affine, Effective, fold_linear
from trainer.integer.network import following
from trainer.integer.numbers import MAX_ACCUMULATOR
from trainer.integer.patches import patches


def test_layerscale_folds_into_proj_and_fc2():
    student = untrained(SCALED)
    for block, layers in enumerate(student.vit.blocks):
        for name, scale in (("attn.proj", layers.ls1), ("mlp.fc2", layers.ls2)):
            assert isinstance(scale, LayerScale)
            with torch.no_grad():
                scale.gamma.mul_(torch.where(torch.arange(len(scale.gamma)) % 3 == 0, -1.0, 1e-4))
            path = f"blocks.{block}.{name}"
            layer = student.vit.get_submodule(path).double()
            effective = Effective.of(layer, following(student.vit, path))
            x = torch.randn(50, layer.in_features, dtype=torch.float64)
            with torch.no_grad():
                exact = layer(x) * scale.gamma.double()
            assert (scale.gamma < 0).any()
            assert (effective.scale >= 0).all()
            found = effective.scale * (x @ effective.trits.T) + effective.bias
            for channel in range(exact.shape[1]):
                assert largest_difference(found[:, channel], exact[:, channel]) < 1e-6


def test_layers_without_a_scale_behind_them_fold_nothing():
    student = untrained(SCALED)
    names = ("patch_embed.proj", "head", "blocks.1.attn.qkv", "blocks.1.mlp.fc1")
    assert all(following(student.vit, name) is None for name in names)
    plain = untrained(ODD)
    assert all(following(plain.vit, f"blocks.1.{name}") is None for name in ("attn.proj", "mlp.fc2"))


def test_batchnorm_folds_into_the_stem():
    student = untrained(STEM)
    for index, stage in enumerate(student.vit.patch_embed.backbone):
        with torch.no_grad():
            stage.bn.weight[::3] *= -1
        effective = Effective.of(stage.conv, following(student.vit, f"patch_embed.backbone.{index}.conv"))
        x = torch.randn(2, stage.conv.in_channels, 9, 9, dtype=torch.float64)
        with torch.no_grad():
            exact = nn.Sequential(stage.conv, stage.bn, nn.Identity()).double()[:1](x)
            bn = stage.bn
            exact = nn.functional.batch_norm(exact, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=bn.eps)
        stage.float()
        assert (effective.scale >= 0).all()
        size = student.architecture.stem[index][1:]
        rows = patches(x.permute(0, 2, 3, 1), *size)
        found = effective.scale * (rows @ effective.trits.T) + effective.bias
        for channel in range(exact.shape[1]):
            assert largest_difference(found[..., channel], exact[:, channel]) < 1e-6


@pytest.mark.parametrize("inputs", [1, 96, 1536, 4032])
@pytest.mark.parametrize("dead", ["one", "tile", "all"])
def test_dead_channels_give_their_bias(inputs, dead):
    """All weights zero, or a gain of zero: whatever else is in the tile, the output is the bias in its last bit."""
    layer = linear(32, inputs)
    channels = {"one": slice(3, 4), "tile": slice(16, 32), "all": slice(0, 32)}[dead]
    bias = torch.linspace(-3, 3, 32)  # 4032 inputs leave room for no more
    with torch.no_grad():
        layer.bias.copy_(bias)
        layer.weight[channels] = 0
    found = fold_linear(Effective.of(layer), place(32))(torch.tensor(random_int8(20, inputs)).float())[0][:, channels]
    assert (found == found[:1]).all()
    assert ((found[0] - bias[channels] * 16).abs() <= 1).all()
    gain = Affine(torch.where(torch.arange(32) % 2 == 0, 0.0, 1.0), bias)
    effective = Effective.of(layer, gain)
    assert not effective.trits[::2].any()
    assert torch.equal(effective.bias[::2], bias[::2].double())


def test_channels_too_faint_for_a_multiplier_give_their_bias():
    """Its scale rounds to multiplier 0 beside the largest of its tile; its bias does not."""
    layer = linear(16, 64)
    with torch.no_grad():
        layer.weight[5] *= 1e-4
        layer.bias[5] = 3.0
    found = fold_linear(Effective.of(layer), place(16))(torch.tensor(random_int8(20, 64)).float())[0][:, 5]
    assert set(found.tolist()) == {48.0}


def test_tiny_scales_lose_nothing_but_themselves():
    """A LayerScale at its start: 1e-6 or less."""
    layer = linear(16, 64)
    bias = torch.linspace(-6, 6, 16)
    effective = Effective.of(layer, Affine(torch.full((16,), 1e-9), bias))
    found = fold_linear(effective, place(16))(torch.tensor(random_int8(20, 64)).float())[0]
    assert ((found - bias * 16).abs() <= 1).all()


@pytest.mark.parametrize("inputs", [1, 33, 576, 4032])
def test_folded_layers_are_the_layer_within_their_rounding(inputs):
    """Error of an output: half a unit for the last truncation, the multipliers' rounding, v's last bit."""
    layer = linear(40, inputs)
    effective, around = Effective.of(layer), place(40, out_frac=1.0)
    folded = fold_linear(effective, around)
    x = torch.tensor(RNG.integers(-20, 20, (50, inputs))).double()
    exact = (effective.scale * 2.0**-5 * (x @ effective.trits.T) + effective.bias) * 2
    found = folded(x.float())[0]
    bound = 0.5 + 0.5 * folded.multiplier / 128 + exact.abs() * 0.5 / folded.multiplier + 0.02
    inside = exact.abs() < folded.multiplier - 1
    assert inside.float().mean() > 0.9
    assert ((found - exact).abs() <= bound)[inside].all()


def test_accumulators_keep_specs_bound():
    """Also where the biases ask for more than there is room."""
    for inputs in (1, 96, 4032):
        layer = linear(33, inputs)
        with torch.no_grad():
            layer.bias.copy_(torch.linspace(-1e4, 1e4, 33))
            layer.weight[16:] *= torch.exp2(4 * torch.randn(17, 1))
        folded = fold_linear(Effective.of(layer), place(33))
        bias = folded.bias * torch.exp2((folded.channel_shift() - 6).clamp(min=0))
        assert bias.abs().max() + 128 * inputs <= MAX_ACCUMULATOR
        assert folded.bias.abs().max() <= 32767
        assert folded.multiplier.min() >= 0 and folded.multiplier.max() <= 127
        assert folded.shift.min() >= 0 and folded.shift.max() <= 15
        head = fold_head(Effective.of(layer), 5, 8)
        assert head.bias.abs().max() + 128 * inputs <= MAX_ACCUMULATOR
        assert head.multiplier.min() >= 0 and head.multiplier.max() <= 4095


def test_linear_is_the_oracles():
    for outputs, inputs in ((1, 1), (16, 5), (33, 96)):
        folded = fold_linear(Effective.of(linear(outputs, inputs)), place(outputs))
        x = random_int8(12, inputs)
        parts = [t.numpy().astype(np.int64) for t in (folded.trits, folded.bias, folded.multiplier, folded.shift)]
        assert np.array_equal(folded(torch.tensor(x).float())[0].numpy(), oracle.linear(x, *parts))

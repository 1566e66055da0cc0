# SPDX-License-Identifier: MIT
"""trainer.integer: folding into SPEC's integers, and each rule against the oracle."""

import numpy as np
import pytest
import torch
from timm.layers import LayerScale
from torch import nn

from tests import oracle
from tests.tiny import ODD, SCALED, STEM, calibrated, images_for, untrained
from trainer.errors import TrainerError
from trainer.experiments.stress import spread_layernorm, ternary_twin
from trainer.integer.calibrate import best_frac, calibrate
from trainer.integer.network import (
    MAX_ACCUMULATOR,
    Affine,
    Effective,
    FoldedAttention,
    FoldedLayerNorm,
    IntegerNetwork,
    Normalization,
    Place,
    activation_table,
    exponential_table,
    fold_head,
    fold_layernorm,
    fold_linear,
    following,
    layernorm_frac,
    patches,
)
from trainer.model.layers import TernaryBitLinear
from trainer.model.student import Pixels

RNG = np.random.default_rng(5)


def random_int8(*shape):
    return RNG.integers(-128, 128, shape).astype(np.int8)


def linear(outputs, inputs, seed=0):
    torch.manual_seed(seed)
    return TernaryBitLinear(inputs, outputs)


def place(outputs, in_frac=5, out_frac=4.0):
    return Place(in_frac, torch.full((outputs,), out_frac), torch.full((outputs,), 127.0))


def largest_difference(found, exact):
    """Relative to the largest of the exact values."""
    return ((found - exact).abs().max() / exact.abs().max()).item()


# What folds into a layer.


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


def test_dead_classes_give_their_bias():
    layer = linear(10, 33)
    with torch.no_grad():
        layer.weight[2:5] = 0
        layer.bias[2:5] = torch.tensor([-3.0, 0.0, 40.0])
        layer.weight[7] *= 1e-5
    folded = fold_head(Effective.of(layer), 5, 12)
    logits = folded(torch.tensor(random_int8(20, 33)).float())
    assert (logits[:, 2:5] == logits[:1, 2:5]).all()
    for found, bias in zip(logits[0, [2, 3, 4, 7]].tolist(), layer.bias[[2, 3, 4, 7]].tolist(), strict=True):
        assert found * 2.0**-12 == pytest.approx(bias, abs=1e-3)


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


# Each rule against the oracle.


def test_linear_is_the_oracles():
    for outputs, inputs in ((1, 1), (16, 5), (33, 96)):
        folded = fold_linear(Effective.of(linear(outputs, inputs)), place(outputs))
        x = random_int8(12, inputs)
        parts = [t.numpy().astype(np.int64) for t in (folded.trits, folded.bias, folded.multiplier, folded.shift)]
        assert np.array_equal(folded(torch.tensor(x).float())[0].numpy(), oracle.linear(x, *parts))


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(1, 1, 0), (3, 2, 1), (2, 2, 0), (5, 3, 4), (4, 1, 2)])
def test_patches_are_the_oracles(kernel, stride, padding):
    picture = random_int8(9, 9, 3)
    found = patches(torch.tensor(picture).float()[None], kernel, stride, padding)[0].numpy()
    assert np.array_equal(found, oracle.patches(picture, kernel, stride, padding))


def test_normalization_is_the_oracles_and_near_the_float_one():
    pixels = Pixels((0.2, 0.5, 0.9), (0.1, 0.25, 0.4))
    for frac in (2, 4, 6):
        folded = Normalization.fold(pixels, frac)
        levels = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(16, 16, 3)
        found = folded(torch.tensor(levels)).numpy()
        assert np.array_equal(found, oracle.normalize(levels, folded.multiplier, folded.offset))
        exact = pixels.normalize(torch.tensor(levels)[None])[0].permute(1, 2, 0).numpy() * 2**frac
        assert np.abs(found - exact.clip(-128, 127)).max() <= 0.51


def random_folded_layernorm(width, gain_shift, beta):
    gamma, beta_trits = (torch.tensor(RNG.integers(-1, 2, width)).float() for _ in range(2))
    return FoldedLayerNorm(gamma, beta_trits, int(RNG.integers(1 << 14, 1 << 15)), gain_shift, beta)


@pytest.mark.parametrize("spread", [0, 1, 30, 3000, 32767])
@pytest.mark.parametrize("width", [1, 2, 33, 384])
def test_layernorm_is_the_oracles(width, spread):
    x = RNG.integers(-spread, spread + 1, (6, width)).astype(np.int16)
    x[0], x[1, ::2] = 32767, -32768
    for gain_shift, beta in ((0, 0), (3, 700), (15, 32639)):
        folded = random_folded_layernorm(width, gain_shift, beta)
        integers = folded.gain, folded.gain_shift, folded.beta
        expected = oracle.layernorm(x, folded.gamma.long().numpy(), folded.beta_trits.long().numpy(), *integers)
        assert np.array_equal(folded(torch.tensor(x).float()).numpy(), expected)


@pytest.mark.parametrize("tokens", [1, 2, 17, 260])
def test_attention_is_the_oracles(tokens):
    heads, width = 2, 5
    table = exponential_table(3, width)
    qkv = random_int8(tokens, 3 * heads * width)
    q, k, v = torch.tensor(qkv).float().view(tokens, 3, heads, width).permute(1, 2, 0, 3)
    for score_shift, value_gain in ((0, -1), (6, 0), (9, 6)):
        found = FoldedAttention(table, score_shift, value_gain)(q, k, v)[0].transpose(0, 1).reshape(tokens, -1)
        expected = oracle.attention(qkv, heads, score_shift, table.numpy().astype(np.int8), value_gain)
        assert np.array_equal(found.numpy(), expected)


def test_tables_are_the_functions_rounded():
    table = exponential_table(2, 16)
    assert table[0] == 127
    assert table.tolist() == [round(127 * np.exp(-i / 4 / 4)) for i in range(256)]
    for act, function in ((nn.ReLU(), lambda x: max(x, 0)), (nn.SiLU(), lambda x: x / (1 + np.exp(-x)))):
        found = activation_table(act, 4, 5)
        assert found.tolist() == [min(127, max(-128, round(function(x / 16) * 32))) for x in range(-128, 128)]


# LayerNorm under stress.


def layernorm_bound(folded, x, eps):
    """How far SPEC 6 may be from the exact value in units of its output, for rows of integers x.

    mean and e: half a unit of x each way; A: its 1 against the exact epsilon (in the same units), and V // D; R, M, P
    and the gain's mantissa: 2^-15 each, M twice that; u and y: one truncation, one rounding.
    """
    variance = x.double().var(1, unbiased=False, keepdim=True)
    gain = folded.gain * 2.0 ** -(folded.gain_shift + 8)
    normed = (x - x.mean(1, keepdim=True)).abs() / (variance + eps).sqrt()
    relative = 1.25 / (variance + eps) + 6 * 2.0**-15
    shift = 0.51 / (variance + eps).sqrt()
    return 0.5 + 1 / 256 + gain * (shift + normed * relative)


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("rule", ["absmean", "twn", "least_squares"])
def test_integer_layernorm_is_the_float_ternary_one_within_its_rounding(sigma, rule):
    """Gammas that spread as a trained network's (log-normal), betas too, rows from faint to saturated."""
    layer = ternary_twin(spread_layernorm(sigma, 96), rule)
    frac = 5
    for out_frac in range(1, min(5, layernorm_frac(layer)) + 1):
        folded = fold_layernorm(layer, out_frac)
        for spread in (8, 100, 5000):
            x = torch.tensor(RNG.normal(0, spread, (40, 96)).round().clip(-32768, 32767)).float()
            with torch.no_grad():
                exact = layer.double()(x.double() * 2.0**-frac) * 2.0**out_frac
            layer.float()
            difference = (folded(x) - exact.clamp(-128, 127)).abs()
            # Beyond, SPEC 6.5 clips before it adds beta.
            inside = (exact - folded.beta_trits * folded.beta / 256).abs() < 127
            assert inside.float().mean() > 0.7
            assert (difference <= layernorm_bound(folded, x, layer.eps * 4.0**frac))[inside].all()


def test_a_layernorm_whose_large_channels_are_left_out_keeps_its_scale():
    """A frac as fine as the small channels' outputs alone would ask for has no gain in SPEC 6."""
    torch.manual_seed(0)
    layer = spread_layernorm(0.0, 96)
    with torch.no_grad():
        layer.weight[:3] = 0
        layer.bias.zero_()
    twin = ternary_twin(layer, "twn")
    x = torch.tensor(RNG.normal(0, 10, (40, 96)).round()).float()
    x[:, :3] *= 300
    frac = min(best_frac(twin(x)), layernorm_frac(twin))
    assert best_frac(twin(x)) > frac
    folded = fold_layernorm(twin, frac)
    with torch.no_grad():
        difference = (folded(x) - twin.double()(x.double()) * 2.0**frac).abs()
    assert (difference <= layernorm_bound(folded, x, twin.eps)).all()


# Calibration and autocast.


def test_autocast_leaves_integers_alone():
    student = calibrated(ODD)
    images = images_for(ODD, 4)
    expected = student(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(student(images), expected)


def test_calibrating_twice_is_refused_and_changes_nothing():
    student = calibrated(ODD)
    before = dict(student.fracs)
    with pytest.raises(TrainerError, match="calibrated already"):
        calibrate(student, images_for(ODD, 4))
    assert student.fracs == before


def test_a_calibration_that_fails_leaves_the_student_as_it_was():
    student = untrained(ODD)
    with pytest.raises(Exception):  # noqa: B017
        calibrate(student, images_for(STEM, 4))
    assert student.fracs == {}


def test_residual_shifts_are_specs():
    for blueprint in (ODD, SCALED, STEM):
        student = calibrated(blueprint)
        network = IntegerNetwork(student)
        branches = ["cls_token", "pos_embed", "patch_embed.proj"]
        branches += [f"blocks.{i}.{part}" for i in range(len(student.vit.blocks)) for part in ("attn.proj", "mlp.fc2")]
        assert all(0 <= network.residual_shift(name) <= 8 for name in branches)

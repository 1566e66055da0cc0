# SPDX-License-Identifier: MIT
"""trainer.model.layers: conversion of timm models by name, and that every forward is ternary."""

import pytest
import timm
import torch
from timm.layers import LayerScale
from torch import nn

from tests.tiny import STEM
from trainer.errors import TrainerError
from trainer.model.layers import (
    TernaryBitConv2d,
    TernaryBitLinear,
    TernaryLayerNorm,
    TernarySettings,
    convert_to_ternary,
    dampen,
    per_token_int8,
    set_full_precision,
    start_learned_scales,
    ternary_modules,
)
from trainer.model.quantize import RULES, Rule
from trainer.model.vit import create_vit

BLOCK = {
    "norm1": TernaryLayerNorm,
    "attn.qkv": TernaryBitLinear,
    "attn.proj": TernaryBitLinear,
    "norm2": TernaryLayerNorm,
    "mlp.fc1": TernaryBitLinear,
    "mlp.fc2": TernaryBitLinear,
}
EDGES = {"patch_embed.proj": TernaryBitConv2d, "norm": TernaryLayerNorm, "head": TernaryBitLinear}
SCALES = {"ls1": LayerScale, "ls2": LayerScale}


def kinds(model):
    """Types of all parts that hold weights of their own, by name."""
    return {name: type(part) for name, part in model.named_modules() if name and list(part.parameters(recurse=False))}


def vit(name="vit_tiny_patch16_224", **options):
    torch.manual_seed(0)
    return timm.create_model(name, **{"depth": 1, "num_classes": 5, "img_size": 32, **options}).eval()


@pytest.mark.parametrize(
    ("name", "options", "block"),
    [
        ("deit_tiny_patch16_224", {}, BLOCK),
        ("deit_small_patch16_224", {}, BLOCK),
        ("deit3_small_patch16_224", {}, BLOCK | SCALES),
        ("vit_tiny_patch16_224", {}, BLOCK),
        ("vit_small_patch16_224", {"patch_size": 8, "embed_dim": 30, "num_heads": 5, "mlp_ratio": 1.5}, BLOCK),
    ],
)
def test_every_layer_is_ternary_under_timms_names_with_timms_weights(name, options, block):
    model = vit(name, **options)
    before, names = dict(model.state_dict()), set(kinds(model))
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(x)
    convert_to_ternary(model)
    assert kinds(model) == EDGES | {f"blocks.0.{part}": kind for part, kind in block.items()}
    assert set(kinds(model)) == names
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)
    with torch.no_grad():
        set_full_precision(model, True)
        assert torch.equal(model(x), expected)
        set_full_precision(model, False)
        assert not torch.equal(model(x), expected)


def test_a_stem_is_ternary_and_computes_as_timms_in_full_precision():
    torch.manual_seed(0)
    model = create_vit(STEM.model, STEM.img_size, 3, 10).eval()
    x = torch.randn(2, 3, 29, 29)
    with torch.no_grad():
        expected = model(x)
        convert_to_ternary(model)
        set_full_precision(model, True)
        # The kernel's layout in memory differs, hence the order of sums.
        assert torch.allclose(model(x), expected, atol=1e-5)
    convolutions = {name for name, part in ternary_modules(model).items() if isinstance(part, TernaryBitConv2d)}
    assert convolutions == {"patch_embed.proj"} | {f"patch_embed.backbone.{index}.conv" for index in range(3)}


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"layernorm": False}, {"norm", "blocks.0.norm1", "blocks.0.norm2"}),
        ({"patch_embed": False}, {"patch_embed.proj"}),
        ({"head": False}, {"head"}),
    ],
)
def test_parts_left_in_full_precision(settings, left):
    model = vit()
    everything = set(kinds(model))
    convert_to_ternary(model, TernarySettings(**settings))
    assert everything - set(ternary_modules(model)) == left
    assert not TernarySettings(**settings).complete


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2))), r"1\.0: BatchNorm1d has weights but no"),
        (nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)), "0: a convolution with groups or dilation has no ternary form"),
        (nn.Sequential(nn.Conv2d(4, 4, 3, dilation=2)), "0: a convolution with groups or dilation has no ternary form"),
        (nn.Sequential(nn.LayerNorm(4, bias=False)), "0: a LayerNorm without gamma and beta has no ternary form"),
        (nn.Sequential(nn.LayerNorm(4, elementwise_affine=False)), "0: a LayerNorm without gamma and beta"),
    ],
)
def test_unsupported_layers_are_refused_by_name(module, words):
    with pytest.raises(TrainerError, match=words):
        convert_to_ternary(module)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("per", ["channel", "tensor"])
def test_linear_computes_with_trits(name, per):
    model = nn.Sequential(nn.Linear(6, 3))
    convert_to_ternary(model, TernarySettings(Rule(name, per)))
    trits, scale = model[0].trits()
    assert set(trits.unique().tolist()) <= {-1.0, 0.0, 1.0}
    assert scale.shape == (3,)
    assert len(set(scale.tolist())) == (3 if per == "channel" else 1)
    x = torch.randn(4, 6)
    assert torch.allclose(model(x), x @ (trits * scale[:, None]).T + model[0].bias, atol=1e-6)


def test_linear_without_bias():
    model = nn.Sequential(nn.Linear(6, 3, bias=False))
    convert_to_ternary(model)
    trits, scale = model[0].trits()
    x = torch.randn(4, 6)
    assert torch.allclose(model(x), x @ (trits * scale[:, None]).T, atol=1e-6)


def test_convolution_computes_with_trits_in_the_order_of_spec_4_6():
    layer = TernaryBitConv2d(3, 4, 3, 2, 1)
    trits, scale = layer.trits()
    weight = (trits * scale[:, None]).view(4, 3, 3, 3).permute(0, 3, 1, 2)  # [N, ky, kx, channel] as torch has it
    assert torch.equal(weight.sign(), weight.sign() * (layer.weight * weight > 0))
    x = torch.randn(2, 3, 9, 9)
    assert torch.allclose(layer(x), nn.functional.conv2d(x, weight, layer.bias, 2, 1), atol=1e-6)


@pytest.mark.parametrize("rule", [Rule(), Rule("twn", "tensor"), Rule("learned", "tensor")], ids=str)
def test_layernorm_has_one_scale_for_gamma_and_one_for_beta(rule):
    model = nn.Sequential(nn.LayerNorm(8))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, 1.2, -1.0, 0.1, 0.9, 1.1, 1.0, 1.0]))
        model[0].bias.copy_(torch.tensor([0.5, 0.0, 0.0, -0.5, 0.0, 0.0, 0.0, 0.5]))
    convert_to_ternary(model, TernarySettings(rule))
    layer = model[0]
    (gamma, beta), (gamma_scale, beta_scale) = layer.trits()
    assert gamma.tolist() == [1, 1, -1, 0, 1, 1, 1, 1]
    assert beta.tolist() == [1, 0, 0, -1, 0, 0, 0, 1]
    assert gamma_scale.item() == pytest.approx(7.2 / 7)
    assert beta_scale.item() == 0.5
    x = torch.randn(2, 8)
    normed = nn.functional.layer_norm(x, (8,), eps=layer.eps)
    assert torch.allclose(layer(x), normed * gamma * gamma_scale + beta * beta_scale, atol=1e-6)


def test_learned_scales_are_parameters_that_restart_where_the_weights_are():
    model = vit()
    convert_to_ternary(model, TernarySettings(Rule("learned")))
    shapes = {name: part.scale.shape for name, part in ternary_modules(model).items()}
    assert shapes["blocks.0.attn.qkv"] == (3 * 192, 1)
    assert shapes["norm"] == (2, 1)
    scale = model.head.scale
    with torch.no_grad():
        model.head.weight.mul_(3)
        start_learned_scales(model)
    assert model.head.scale is scale, "optimizers hold the parameter"
    assert torch.equal(scale, Rule("least_squares")(model.head.weight)[1])


@pytest.mark.parametrize("name", RULES)
def test_a_beta_that_starts_at_zero_learns(name):
    """As every beta does where training begins with ternary weights."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.LayerNorm(16))
    convert_to_ternary(model, TernarySettings(Rule(name)))
    target = torch.where(torch.arange(16) % 2 == 0, 0.5, -0.5)
    for _ in range(200):
        x = torch.randn(8, 16)
        (model(x) - nn.functional.layer_norm(x, (16,)) - target).square().mean().backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.01 * parameter.grad.sign()
                parameter.grad = None
    trits, scale = model[0].trits()
    assert torch.equal(trits[1], target.sign())
    assert scale[1].item() == pytest.approx(0.5, abs=0.1)


def test_per_token_int8():
    x = torch.tensor([[1.27, -0.5, 0.004, 0.0], [0.0, 0.0, 0.0, 0.0], [254.0, 3.0, -254.0, 1.0]], requires_grad=True)
    y = per_token_int8(x)
    expected = [[1.27, -0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [254.0, 4.0, -254.0, 0.0]]
    assert torch.allclose(y, torch.tensor(expected))
    y.sum().backward()
    assert torch.equal(x.grad, torch.ones(3, 4))


def test_per_token_settings_reach_every_layer_and_are_checked():
    model = vit()
    settings = TernarySettings(activations="per_token")
    convert_to_ternary(model, settings)
    assert all(part.per_token for part in ternary_modules(model).values())
    assert model(torch.randn(1, 3, 32, 32)).isfinite().all()
    assert not settings.complete
    with pytest.raises(TrainerError, match="activations is 'dynamic', must be one of static, per_token"):
        TernarySettings(activations="dynamic")


@pytest.mark.parametrize("per", ["channel", "tensor"])
def test_dampening_goes_part_of_the_way_to_the_ternary_weights(per):
    """Matrices only, and only those that are ternary by now; every output channel on its own, whatever its order."""
    torch.manual_seed(0)
    model = create_vit(STEM.model, STEM.img_size, 3, 10)
    convert_to_ternary(model, TernarySettings(rule=Rule("absmean", per)))
    model.head.full_precision = True
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    dampen(model, 0.25)
    moved = set()
    for name, weight in before.items():
        if not torch.equal(model.state_dict()[name], weight):
            moved.add(name)
            dims = tuple(range(1, weight.dim())) if per == "channel" else None
            scale = weight.abs().mean(dims, keepdim=True)
            expected = 0.75 * weight + 0.25 * scale * (weight / scale).round().clamp(-1, 1)
            assert torch.allclose(model.state_dict()[name], expected, atol=1e-6), name
    matrices = {f"{name}.weight" for name, part in ternary_modules(model).items() if part.weight.dim() > 1}
    assert moved == matrices - {"head.weight"}

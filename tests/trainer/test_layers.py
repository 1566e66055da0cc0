# SPDX-License-Identifier: MIT
"""trainer.layers: conversion of a timm model by name, and that every forward is ternary."""

import pytest
import timm
import torch
from torch import nn

from trainer.errors import TrainerError
from trainer.layers import (
    TernaryBitConv2d,
    TernaryBitLinear,
    TernaryLayerNorm,
    convert_to_ternary,
    set_full_precision,
)
from trainer.quantize import ternarize


@pytest.fixture(scope="module")
def vit():
    model = timm.create_model("vit_tiny_patch16_224", depth=1, num_classes=5)
    convert_to_ternary(model)
    return model


def test_every_layer_with_weights_is_ternary_under_timms_names(vit):
    kinds = {name: type(module) for name, module in vit.named_modules() if list(module.parameters(recurse=False))}
    assert kinds.pop("") is type(vit)  # cls_token and pos_embed
    assert kinds == {
        "patch_embed.proj": TernaryBitConv2d,
        "blocks.0.norm1": TernaryLayerNorm,
        "blocks.0.attn.qkv": TernaryBitLinear,
        "blocks.0.attn.proj": TernaryBitLinear,
        "blocks.0.norm2": TernaryLayerNorm,
        "blocks.0.mlp.fc1": TernaryBitLinear,
        "blocks.0.mlp.fc2": TernaryBitLinear,
        "norm": TernaryLayerNorm,
        "head": TernaryBitLinear,
    }


def test_conversion_keeps_the_weights():
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", depth=1, num_classes=5).eval()
    image = torch.randn(1, 3, 224, 224)
    expected = model(image)
    convert_to_ternary(model)
    set_full_precision(model, True)
    assert torch.allclose(model.eval()(image), expected, atol=1e-5)
    set_full_precision(model, False)
    assert not torch.allclose(model(image), expected, atol=1e-2)


def test_unsupported_layer_is_refused_by_name():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2)))
    with pytest.raises(TrainerError, match=r"1\.0: BatchNorm1d has weights but no ternary form"):
        convert_to_ternary(model)


def test_linear_without_bias_is_refused_by_name():
    with pytest.raises(TrainerError, match="0: Linear without bias has no ternary form"):
        convert_to_ternary(nn.Sequential(nn.Linear(2, 2, bias=False)))


def test_linear_computes_with_trits():
    layer = TernaryBitLinear(6, 3)
    trits, scale = ternarize(layer.weight.detach())
    assert set(trits.unique().tolist()) <= {-1.0, 0.0, 1.0}
    x = torch.randn(4, 6)
    assert torch.allclose(layer(x), x @ (trits * scale).T + layer.bias)


def test_layernorm_has_one_scale_for_gamma_and_one_for_beta():
    layer = TernaryLayerNorm(8)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 1.2, -1.0, 0.1, 0.9, 1.1, 1.0, 1.0]))
        layer.bias.copy_(torch.tensor([0.5, 0.0, 0.0, -0.5, 0.0, 0.0, 0.0, 0.5]))
    (gamma, gamma_scale), (beta, beta_scale) = layer.ternary_parameters()
    assert gamma.tolist() == [1, 1, -1, 0, 1, 1, 1, 1]
    assert beta.tolist() == [1, 0, 0, -1, 0, 0, 0, 1]
    x = torch.randn(2, 8)
    normed = nn.functional.layer_norm(x, (8,), eps=layer.eps)
    assert torch.allclose(layer(x), normed * gamma * gamma_scale + beta * beta_scale, atol=1e-6)

# SPDX-License-Identifier: MIT
"""SPEC 4.7: the head."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trainer.integer.linear import Effective
from trainer.integer.numbers import MAX_ACCUMULATOR, TINY_SCALE
from trainer.model.layers import TernaryBitLinear
from trainer.model.quantize import straight_through

HEADROOM = 1.25  # the scales of the head may grow this much after calibration


@dataclass(frozen=True)
class FoldedHead:
    """The tensors of SPEC 4.7: trits [N, K], bias [N], multiplier [N], float64."""

    trits: Tensor
    bias: Tensor
    multiplier: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """x: integers [..., K]; returns the logits of SPEC 4.7, float64 [..., N]."""
        return functional.linear(x.double(), self.trits, self.bias) * self.multiplier


def head_frac(layer: TernaryBitLinear, in_frac: int) -> int:
    """The finest frac of the logits that keeps every multiplier of SPEC 4.7 at or below 4095."""
    largest = Effective.of(layer).scale.max().clamp(min=TINY_SCALE).item()
    return math.floor(math.log2(4095.49 / (HEADROOM * largest))) + in_frac


def fold_head(layer: Effective, in_frac: int, out_frac: int) -> FoldedHead:
    """Turn scale and bias of the head into SPEC 4.7's integers; the logits have `out_frac`."""
    room = MAX_ACCUMULATOR - 128 * layer.trits.shape[1]
    unit = 2.0 ** (out_frac - in_frac)
    dead = torch.round(layer.scale * unit) == 0
    layer = layer.without(dead)
    # A class whose output is its bias alone gets the finest unit in which the bias fits.
    constant = torch.ceil(layer.bias.abs() * 2.0**out_frac / room).clamp(1, 4095) / unit
    scale = torch.where(dead, constant, layer.scale)
    multiplier = torch.round(scale * unit).clamp(max=4095)
    bias = torch.round(layer.bias / (scale * 2.0**-in_frac)).clamp(-room, room)
    return FoldedHead(layer.trits, bias, multiplier)


def integer_head(layer: TernaryBitLinear, x: Tensor, in_frac: int, out_frac: int) -> Tensor:
    """SPEC 4.7 on integers [batch, K]; returns float64 logits in units of 2^-out_frac."""
    with torch.no_grad():
        exact = fold_head(Effective.of(layer), in_frac, out_frac)(x)
    if not torch.is_grad_enabled():
        return exact
    real = functional.linear(x * 2.0**-in_frac, layer.ternary_latent(), layer.bias)
    return straight_through(real.double() * 2.0**out_frac, exact)

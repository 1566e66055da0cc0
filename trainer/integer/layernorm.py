# SPDX-License-Identifier: MIT
"""SPEC 6: TernaryLayerNorm."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.integer import gradients
from trainer.integer.numbers import TINY_SCALE, bits
from trainer.model.layers import TernaryLayerNorm


@dataclass(frozen=True)
class FoldedLayerNorm:
    """SPEC 6: trits gamma and beta [D], and its integers."""

    gamma: Tensor
    beta_trits: Tensor
    gain: int
    gain_shift: int
    beta: int

    def __call__(self, x: Tensor) -> Tensor:
        """x: integers [..., D] within int16; returns y of SPEC 6.6."""
        # float64 holds every term: e^2 sums stay below 2^42, products below 2^46.
        x, width = x.double(), x.shape[-1]
        mean = torch.floor((2 * x.sum(-1, keepdim=True) + width) / (2 * width))
        e = (x - mean).clamp_(-32768, 32767)
        a = torch.floor(e.square().sum(-1, keepdim=True) / width).long() + 1
        z = (32 - bits(a)) // 2
        root = torch.floor(torch.sqrt((a << (2 * z)).double())).long()
        p = ((1 << 30) // root * self.gain) >> 15
        n = (15 + self.gain_shift - z).double()
        u = (e * (self.gamma * p)).mul_(torch.exp2(-n)).floor_().clamp_(-32768, 32767)
        u.add_(self.beta_trits.double() * self.beta + 128).clamp_(-32768, 32767)
        return u.mul_(2.0**-8).floor_().float()


def fold_layernorm(layer: TernaryLayerNorm, out_frac: int) -> FoldedLayerNorm:
    """Turn the two scales of a TernaryLayerNorm into SPEC 6's integers for an output with `out_frac`."""
    (gamma, beta), (gamma_scale, beta_scale) = layer.trits()
    gain = max(gamma_scale.item(), TINY_SCALE) * 2.0 ** (out_frac + 8)
    gain_shift = min(max(14 - math.floor(math.log2(gain)), 0), 15)
    mantissa = min(max(round(gain * 2**gain_shift), 1 << 14), (1 << 15) - 1)
    offset = min(round(beta_scale.item() * 2.0 ** (out_frac + 8)), 32639)
    return FoldedLayerNorm(gamma, beta, mantissa, gain_shift, offset)


def layernorm_frac(layer: TernaryLayerNorm) -> int:
    """The finest frac of its output that keeps the gain of SPEC 6 below 2^15."""
    return math.floor(math.log2(32767 / max(layer.trits()[1][0].item(), TINY_SCALE))) - 8


def integer_layernorm(layer: TernaryLayerNorm, x: Tensor, residual_frac: int, out_frac: int) -> Tensor:
    """SPEC 6 on the residual stream [..., D]; the gradient is that of the float layer, zero where y is clipped."""
    with torch.no_grad():
        exact = fold_layernorm(layer, out_frac)(x)
    if not torch.is_grad_enabled():
        return exact
    return gradients.Clipped.apply(layer(x * 2.0**-residual_frac) * 2.0**out_frac, exact, -128.0, 127.0)

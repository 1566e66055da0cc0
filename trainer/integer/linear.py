# SPDX-License-Identifier: MIT
"""SPEC 4: TernaryBitLinear, and how a layer's scale and bias become its integers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trainer.integer import gradients
from trainer.integer.numbers import LANES, MAX_ACCUMULATOR, TINY_SCALE
from trainer.model.layers import Ternary

CONSTANT = 96  # v of SPEC 4.4 for a channel that gives its bias alone


@dataclass(frozen=True)
class Affine:
    """What follows a layer and folds into it: gain * y + offset, both [N]."""

    gain: Tensor
    offset: Tensor


@dataclass(frozen=True)
class Effective:
    """A layer with all that folds into it: y = scale * (trits x) + bias, in float64; scale >= 0."""

    trits: Tensor
    scale: Tensor
    bias: Tensor

    @classmethod
    def of(cls, layer: Ternary, after: Affine | None = None) -> Effective:
        """trits [N, K], scale [N], bias [N]; a negative gain inverts the trits of its channel."""
        with torch.no_grad():
            trits, scale = layer.trits()
            bias = torch.zeros_like(scale) if layer.bias is None else layer.bias
            trits, scale, bias = trits.double(), scale.double(), bias.double()
            if after is not None:
                gain = after.gain.double()
                trits, scale = trits * torch.where(gain < 0, -1.0, 1.0)[:, None], scale * gain.abs()
                bias = bias * gain + after.offset.double()
            dead = (scale < TINY_SCALE) | ~trits.any(1)
            return cls(trits, scale, bias).without(dead)

    def without(self, faint: Tensor) -> Effective:
        """The same layer, but with only the bias as output of the channels `faint` (bool [N])."""
        return Effective(self.trits * ~faint[:, None], torch.where(faint, 0.0, self.scale), self.bias)


@dataclass(frozen=True)
class FoldedLinear:
    """The tensors of SPEC 4.1 as float32: trits [N, K], bias [N], multiplier [N], shift [tiles]."""

    trits: Tensor
    bias: Tensor
    multiplier: Tensor
    shift: Tensor

    def channel_shift(self) -> Tensor:
        """The shift of each output [N]."""
        return self.shift.repeat_interleave(LANES)[: len(self.bias)]

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: integers [..., K]; returns y of SPEC 4.5, [..., N], and where v of 4.4 is not clipped."""
        shift = self.channel_shift()
        v = functional.linear(x, self.trits, self.bias * torch.exp2((shift - 6).clamp(min=0)))
        v.mul_(torch.exp2(-shift)).floor_()
        inside = (v + 0.5).abs_() <= 127.5
        return v.clamp_(-128, 127).mul_(self.multiplier / 128).floor_(), inside


@dataclass(frozen=True)
class Place:
    """Around a linear layer: frac of its input, frac of each output [N], bound (<= 127) of each multiplier [N]."""

    in_frac: int
    out_frac: Tensor
    largest: Tensor


def fold_linear(layer: Effective, place: Place) -> FoldedLinear:
    """Turn scale and bias of a layer into SPEC 4.1's integers.

    With x an integer of in_frac and y one of out_frac, the layer y = 2^out_frac (scale t (x 2^-in_frac) + bias) is
    y = unit_y (t x) + 2^out_frac bias, unit_y = scale 2^(out_frac - in_frac). SPEC 4.4 and 4.5 multiply the sum by
    m / (128 2^s), so m = 128 unit_y 2^s; a tile's s is the largest that keeps its m within their bounds. In units of
    the sum, the bias is bias / (scale 2^-in_frac), plus what the two truncations take away on average: (2^s - 1) / 2
    for >> s, and half a unit of y for >> 7, which is 64 2^s / m. It is stored in steps of 2^max(s - 6, 0).

    A channel whose output is its bias alone gets the m at which v keeps most of its bits.
    """
    largest, unit_in = place.largest.double(), 2.0**-place.in_frac
    unit_out = torch.exp2(place.out_frac.double())
    per_shift = 128 * layer.scale * unit_in * unit_out
    per_shift = torch.where(per_shift * 2.0**15 < 0.5, 0.0, per_shift)
    tiles = functional.pad((largest + 0.49) / per_shift, (0, -len(largest) % LANES), value=math.inf)
    narrowest = tiles.view(-1, LANES).amin(1)
    shift = torch.where(narrowest.isinf(), 0.0, torch.floor(torch.log2(narrowest)).clamp(0, 15))
    channel_shift = shift.repeat_interleave(LANES)[: len(largest)]
    unit = torch.exp2(channel_shift)
    step = torch.exp2((channel_shift - 6).clamp(min=0))
    room = torch.floor((MAX_ACCUMULATOR - 128 * layer.trits.shape[1]) / step).clamp(max=32767)
    constant = (torch.floor(room * step / unit) - 1).clamp(1, CONSTANT)
    multiplier = torch.round(per_shift * unit)
    dead = multiplier == 0
    layer = layer.without(dead)
    multiplier = torch.where(dead, torch.round(layer.bias.abs() * unit_out * 128 / constant), multiplier)
    multiplier = torch.minimum(multiplier, largest)
    unit_sum = torch.where(dead, multiplier.clamp(min=1) / (128 * unit * unit_out), layer.scale * unit_in)
    accumulator = layer.bias / unit_sum + 0.5 * (unit - 1) + unit * 64 / multiplier.clamp(min=1)
    bias = torch.minimum(torch.maximum(torch.round(accumulator / step), -room), room)
    return FoldedLinear(layer.trits.float(), bias.float(), multiplier.float(), shift.float())


def surrogate(layer: Ternary, after: Affine | None, place: Place) -> tuple[Tensor, Tensor]:
    """Weight [N, K] and bias [N] of the float layer in units of its integers, with gradients to all that trains."""
    weight = layer.ternary_latent()
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias
    if after is not None:
        weight, bias = weight * after.gain[:, None], bias * after.gain + after.offset
    unit = torch.exp2(place.out_frac)
    return weight * (unit * 2.0**-place.in_frac)[:, None], bias * unit


def folded(layer: Ternary, after: Affine | None, place: Place) -> FoldedLinear:
    """SPEC 4.1's integers of a layer."""
    with torch.no_grad():
        return fold_linear(Effective.of(layer, after), place)


def integer_linear(layer: Ternary, after: Affine | None, x: Tensor, place: Place) -> Tensor:
    """SPEC 4 on integers [..., K]; the gradient is that of the float layer, zero where an output is clipped."""
    exact = folded(layer, after, place)
    if not torch.is_grad_enabled():
        return exact(x)[0]
    return gradients.Linear.apply(x, *surrogate(layer, after, place), exact)

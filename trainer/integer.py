# SPDX-License-Identifier: MIT
"""SPEC's integer arithmetic in torch: the exact value of every rule, the gradient of its float counterpart.

All integers travel as float32 tensors, in units of their last bit. Sums of SPEC 4.2, 7.1 and 7.4 stay below 2^20, so
float32 holds them exactly in any order; the few larger ones (LayerNorm, logits) are computed in int64 or float64.
Where gradients are off, the float counterparts are not computed at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from trainer.errors import TrainerError
from trainer.layers import TernaryBitConv2d, TernaryBitLinear, TernaryLayerNorm
from trainer.quantize import straight_through, ternarize, ternary_weight

if TYPE_CHECKING:
    from trainer.student import Student

MAX_ACCUMULATOR = 524287  # SPEC 4.3
LANES = 16
TINY_SCALE = 1e-12  # keeps a channel whose trits are all 0 from dividing by zero
HEAD_HEADROOM = 1.25  # the scales of the head may grow this much after calibration


def bits(x: Tensor) -> Tensor:
    """SPEC 1.3 for integers 0 <= x < 2^53 of any dtype; int64."""
    return torch.frexp(x.double()).exponent.long()


def sat8(x: Tensor) -> Tensor:
    """SPEC 1.2."""
    return x.clamp(-128, 127)


@dataclass(frozen=True)
class Normalization:
    """SPEC 3.5 for one channel."""

    multiplier: int
    offset: int

    @classmethod
    def fold(cls, mean: float, std: float, frac: int) -> Normalization:
        """From the mean and standard deviation of pixel / 255 to an int8 with `frac`."""
        unit = 2.0 ** (16 + frac)
        return cls(round(unit / (255 * std)), round(-unit * mean / std) + (1 << 15))

    def __call__(self, pixels: Tensor) -> Tensor:
        """pixels: uint8 of any shape; returns x of SPEC 3.5."""
        return sat8((pixels.long() * self.multiplier + self.offset) >> 16).float()


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

    def __call__(self, x: Tensor) -> Tensor:
        """x: integers [..., K]; returns y of SPEC 4.5, [..., N]."""
        shift = self.channel_shift()
        accumulator = functional.linear(x, self.trits, self.bias * torch.exp2((shift - 6).clamp(min=0)))
        v = sat8(torch.floor(accumulator * torch.exp2(-shift)))
        return torch.floor(v * self.multiplier / 128)


def fold_linear(
    layer: TernaryBitLinear | TernaryBitConv2d, in_frac: int, out_frac: Tensor, largest: Tensor
) -> FoldedLinear:
    """Turn scale and bias of a layer into SPEC 4.1's integers.

    out_frac [N]: frac of each output; largest [N]: bound of each multiplier, at most 127. A tile's shift is the
    smallest that keeps its multipliers within `largest`. The bias carries half a unit for each of the two truncations.
    """
    with torch.no_grad():
        trits, scale = ternarize(layer.rows())
        scale = scale[:, 0].clamp(min=TINY_SCALE).double()
        gain = scale * torch.exp2((out_frac - in_frac).double())
        tiles = functional.pad((largest + 0.49) / (128 * gain), (0, -len(gain) % LANES), value=math.inf)
        shift = torch.floor(torch.log2(tiles.view(-1, LANES).amin(1))).clamp(0, 15)
        channel_shift = shift.repeat_interleave(LANES)[: len(gain)]
        unit = torch.exp2(channel_shift)
        multiplier = torch.minimum(torch.round(gain * unit * 128), largest)
        accumulator = layer.bias.double() / (scale * 2.0**-in_frac) + unit * (0.5 + 64 / multiplier.clamp(min=1))
        step = torch.exp2((channel_shift - 6).clamp(min=0))
        room = torch.floor((MAX_ACCUMULATOR - 128 * trits.shape[1]) / step).clamp(max=32767)
        folded_bias = torch.minimum(torch.maximum(torch.round(accumulator / step), -room), room)
        return FoldedLinear(trits.float(), folded_bias.float(), multiplier.float(), shift.float())


def integer_linear(
    layer: TernaryBitLinear | TernaryBitConv2d, x: Tensor, in_frac: int, out_frac: Tensor, largest: Tensor
) -> Tensor:
    """SPEC 4 on integers [..., K]; the gradient is that of the float layer, zero where an output is clipped."""
    folded = fold_linear(layer, in_frac, out_frac, largest)
    with torch.no_grad():
        exact = folded(x)
    if not torch.is_grad_enabled():
        return exact
    weight = ternary_weight(layer.rows()) * torch.exp2(out_frac - in_frac)[:, None]
    surrogate = functional.linear(x, weight, layer.bias * torch.exp2(out_frac))
    surrogate = torch.minimum(torch.maximum(surrogate, -folded.multiplier), folded.multiplier)
    return straight_through(surrogate, exact)


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
    largest = ternarize(layer.weight.detach())[1].max().clamp(min=TINY_SCALE).item()
    return math.floor(math.log2(4095.49 / (HEAD_HEADROOM * largest))) + in_frac


def fold_head(layer: TernaryBitLinear, in_frac: int, out_frac: int) -> FoldedHead:
    """Turn scale and bias of the head into SPEC 4.7's integers; the logits have `out_frac`."""
    with torch.no_grad():
        trits, scale = ternarize(layer.weight)
        scale = scale[:, 0].clamp(min=TINY_SCALE).double()
        multiplier = torch.round(scale * 2.0 ** (out_frac - in_frac)).clamp(max=4095)
        room = MAX_ACCUMULATOR - 128 * trits.shape[1]
        bias = torch.round(layer.bias.double() / (scale * 2.0**-in_frac)).clamp(-room, room)
        return FoldedHead(trits.double(), bias, multiplier)


def integer_head(layer: TernaryBitLinear, x: Tensor, in_frac: int, out_frac: int) -> Tensor:
    """SPEC 4.7 on integers [batch, K]; returns float64 logits in units of 2^-out_frac."""
    with torch.no_grad():
        exact = fold_head(layer, in_frac, out_frac)(x)
    if not torch.is_grad_enabled():
        return exact
    surrogate = functional.linear(x * 2.0**-in_frac, ternary_weight(layer.weight), layer.bias)
    return straight_through(surrogate.double() * 2.0**out_frac, exact)


def residual_add(residual: Tensor, branch: Tensor, shift: int) -> Tensor:
    """SPEC 5.1."""
    return (residual + branch * 2.0**shift).clamp(-32768, 32767)


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
        x = x.long()
        width = x.shape[-1]
        mean = (2 * x.sum(-1, keepdim=True) + width) // (2 * width)
        e = (x - mean).clamp(-32768, 32767)
        a = (e * e).sum(-1, keepdim=True) // width + 1
        z = (32 - bits(a)) // 2
        root = torch.floor(torch.sqrt((a << (2 * z)).double())).long()
        p = ((1 << 30) // root * self.gain) >> 15
        u = ((e * self.gamma.long() * p) >> (15 + self.gain_shift - z)).clamp(-32768, 32767)
        return ((u + self.beta_trits.long() * self.beta + 128).clamp(-32768, 32767) >> 8).float()


def fold_layernorm(layer: TernaryLayerNorm, out_frac: int) -> FoldedLayerNorm:
    """Turn the two scales of a TernaryLayerNorm into SPEC 6's integers for an output with `out_frac`."""
    (gamma, gamma_scale), (beta, beta_scale) = layer.ternary_parameters()
    gain = max(gamma_scale.item(), TINY_SCALE) * 2.0 ** (out_frac + 8)
    gain_shift = min(max(14 - math.floor(math.log2(gain)), 0), 15)
    mantissa = min(max(round(gain * 2**gain_shift), 1 << 14), (1 << 15) - 1)
    offset = min(round(beta_scale.item() * 2.0 ** (out_frac + 8)), 32639)
    return FoldedLayerNorm(gamma, beta, mantissa, gain_shift, offset)


def integer_layernorm(layer: TernaryLayerNorm, x: Tensor, residual_frac: int, out_frac: int) -> Tensor:
    """SPEC 6 on the residual stream [..., D]; the gradient is that of the float layer, zero where y is clipped."""
    with torch.no_grad():
        exact = fold_layernorm(layer, out_frac)(x)
    if not torch.is_grad_enabled():
        return exact
    surrogate = layer(x * 2.0**-residual_frac) * 2.0**out_frac
    return straight_through(surrogate.clamp(-128, 127), exact)


def exponential_table(score_frac: int, head_width: int) -> Tensor:
    """SPEC 7.2's E for scores of q . k with `score_frac`, the softmax scale 1 / sqrt(head_width) included."""
    step = 2.0**-score_frac / math.sqrt(head_width)
    return torch.round(127 * torch.exp(-step * torch.arange(256, dtype=torch.float64))).float()


def gelu_table(in_frac: int, out_frac: int) -> Tensor:
    """SPEC 8.1's table for GELU between two fracs."""
    x = torch.arange(-128, 128, dtype=torch.float64) * 2.0**-in_frac
    return sat8(torch.round(functional.gelu(x) * 2.0**out_frac)).float()


def attention_weights(scores: Tensor, table: Tensor) -> Tensor:
    """SPEC 7.2 and 7.3: a_ij from scores [..., T, T]."""
    weights = table[(scores.amax(-1, keepdim=True) - scores).long()]
    excess = (bits(weights.sum(-1, keepdim=True)) - 12).clamp(min=0)
    return torch.floor(weights * torch.exp2(-excess.float()))


def exact_attention(q: Tensor, k: Tensor, v: Tensor, table: Tensor, score_shift: int, value_gain: int) -> Tensor:
    """SPEC 7.1 to 7.5 for q, k, v [..., T, d]."""
    scores = sat8(torch.floor(q @ k.transpose(-1, -2) * 2.0**-score_shift))
    weights = attention_weights(scores, table)
    total = weights.sum(-1, keepdim=True)
    width = bits(total).float()
    multiplier = torch.floor(torch.exp2(width + 6) / total).clamp(max=127)
    mean = sat8(torch.floor(weights @ v * torch.exp2((value_gain + 1 - width).clamp(max=0))))
    return torch.floor(mean * multiplier / 128)


def score_shift(fracs: dict[str, int], attn: str) -> int:
    """SPEC 7.1's shift, from the fracs of q, k and the scores."""
    return fracs[f"{attn}.q"] + fracs[f"{attn}.k"] - fracs[f"{attn}.scores"]


def value_gain(fracs: dict[str, int], attn: str) -> int:
    """SPEC 7.5's gain, from the fracs of v and the attention's output."""
    return fracs[attn] - fracs[f"{attn}.v"]


def integer_attention(qkv: Tensor, heads: int, fracs: dict[str, int], attn: str) -> Tensor:
    """SPEC 7 on qkv [batch, T, 3 D]; returns [batch, T, D]. `attn` names the layer in `fracs`."""
    batch, tokens, width = qkv.shape
    head_width = width // 3 // heads
    q, k, v = qkv.view(batch, tokens, 3, heads, head_width).permute(2, 0, 3, 1, 4)
    gain = value_gain(fracs, attn)
    with torch.no_grad():
        table = exponential_table(fracs[f"{attn}.scores"], head_width)
        exact = exact_attention(q, k, v, table, score_shift(fracs, attn), gain)
    out = exact
    if torch.is_grad_enabled():
        scale = 2.0 ** -(fracs[f"{attn}.q"] + fracs[f"{attn}.k"]) / math.sqrt(head_width)
        surrogate = torch.softmax(q @ k.transpose(-1, -2) * scale, -1) @ v * 2.0**gain
        out = straight_through(surrogate.clamp(-128, 127), exact)
    return out.transpose(1, 2).reshape(batch, tokens, width // 3)


def integer_gelu(x: Tensor, in_frac: int, out_frac: int) -> Tensor:
    """SPEC 8.1 with GELU's table."""
    with torch.no_grad():
        exact = gelu_table(in_frac, out_frac)[(x + 128).long()]
    if not torch.is_grad_enabled():
        return exact
    surrogate = functional.gelu(x * 2.0**-in_frac) * 2.0**out_frac
    return straight_through(surrogate.clamp(-128, 127), exact)


def embedding(parameter: Tensor, frac: int) -> Tensor:
    """A class or position embedding as int8, with a straight-through gradient."""
    surrogate = (parameter * 2.0**frac).clamp(-128, 127)
    return straight_through(surrogate, torch.round(surrogate))


def patches(picture: Tensor, patch_size: int) -> Tensor:
    """SPEC 4.6: [batch, height, width, channels] to [batch, patches, P P channels]."""
    batch, height, width, channels = picture.shape
    grid = picture.view(batch, height // patch_size, patch_size, width // patch_size, patch_size, channels)
    return grid.transpose(2, 3).reshape(batch, -1, patch_size * patch_size * channels)


def qkv_limits(embed_dim: int, head_width: int) -> Tensor:
    """Largest multiplier of each output of qkv [3 D]: 127, and for q what SPEC 7.7 promises."""
    largest = torch.full((3 * embed_dim,), 127.0)
    largest[:embed_dim] = min(127, MAX_ACCUMULATOR // (128 * head_width))
    return largest


def qkv_fracs(fracs: dict[str, int], attn: str, embed_dim: int) -> Tensor:
    """Frac of each output of qkv [3 D]."""
    return torch.tensor([float(fracs[f"{attn}.{part}"]) for part in "qkv"]).repeat_interleave(embed_dim)


# What feeds each linear layer, by its name in the block or the model: the owner of the frac of its input.
INPUTS = {
    "patch_embed.proj": "input",
    "attn.qkv": "norm1",
    "attn.proj": "attn",
    "mlp.fc1": "norm2",
    "mlp.fc2": "mlp.act",
}


def input_of(name: str) -> str:
    """The layer whose frac is that of the input of the linear layer `name` (timm's name)."""
    if name in INPUTS:
        return INPUTS[name]
    block, part, layer = name.rsplit(".", 2)
    return f"{block}.{INPUTS[f'{part}.{layer}']}"


class IntegerNetwork:
    """SPEC 9 for one student: names fracs by layer, so that forward and export read the same ones."""

    def __init__(self, student: Student):
        self.vit, self.fracs, self.sizes = student.vit, student.fracs, student.architecture
        self.normalization = Normalization.fold(student.mean, student.std, student.fracs["input"])

    def residual_shift(self, name: str) -> int:
        """k of SPEC 5.1 for the branch `name`."""
        shift = self.fracs["residual"] - self.fracs[name]
        if not 0 <= shift <= 8:
            raise TrainerError(f"{name}: residual shift {shift} is outside 0..8; calibrate again")
        return shift

    def linear_settings(self, name: str, layer: TernaryBitLinear | TernaryBitConv2d) -> tuple[int, Tensor, Tensor]:
        """(in_frac, out_frac [N], largest multiplier [N]) of a layer by its timm name."""
        fracs, outputs = self.fracs, len(layer.weight)
        in_frac = fracs[input_of(name)]
        if name.endswith("qkv"):
            width = self.sizes.embed_dim
            limits = qkv_limits(width, width // self.sizes.num_heads)
            return in_frac, qkv_fracs(fracs, name.removesuffix(".qkv"), width), limits
        return in_frac, torch.full((outputs,), float(fracs[name])), torch.full((outputs,), 127.0)

    def linear(self, name: str, layer: TernaryBitLinear | TernaryBitConv2d, x: Tensor) -> Tensor:
        """SPEC 4 of the layer `name`."""
        return integer_linear(layer, x, *self.linear_settings(name, layer))

    def layernorm(self, name: str, layer: TernaryLayerNorm, x: Tensor) -> Tensor:
        """SPEC 6 of the layer `name`."""
        return integer_layernorm(layer, x, self.fracs["residual"], self.fracs[name])

    def embed(self, images: Tensor) -> Tensor:
        """SPEC 3.5 and 9.1: uint8 pictures [batch, height, width] to the residual stream [batch, T, D]."""
        vit, fracs = self.vit, self.fracs
        picture = self.normalization(images).unsqueeze(-1)
        tokens = self.linear("patch_embed.proj", vit.patch_embed.proj, patches(picture, self.sizes.patch_size))
        tokens = residual_add(torch.zeros_like(tokens), tokens, self.residual_shift("patch_embed.proj"))
        first = embedding(vit.cls_token, fracs["cls_token"]).expand(len(images), -1, -1)
        first = residual_add(torch.zeros_like(first), first, self.residual_shift("cls_token"))
        position = embedding(vit.pos_embed, fracs["pos_embed"])
        return residual_add(torch.cat((first, tokens), 1), position, self.residual_shift("pos_embed"))

    def block(self, name: str, block: torch.nn.Module, x: Tensor) -> Tensor:
        """SPEC 9.2."""
        qkv = self.linear(f"{name}.attn.qkv", block.attn.qkv, self.layernorm(f"{name}.norm1", block.norm1, x))
        mixed = integer_attention(qkv, self.sizes.num_heads, self.fracs, f"{name}.attn")
        branch = self.linear(f"{name}.attn.proj", block.attn.proj, mixed)
        x = residual_add(x, branch, self.residual_shift(f"{name}.attn.proj"))
        hidden = self.linear(f"{name}.mlp.fc1", block.mlp.fc1, self.layernorm(f"{name}.norm2", block.norm2, x))
        hidden = integer_gelu(hidden, self.fracs[f"{name}.mlp.fc1"], self.fracs[f"{name}.mlp.act"])
        branch = self.linear(f"{name}.mlp.fc2", block.mlp.fc2, hidden)
        return residual_add(x, branch, self.residual_shift(f"{name}.mlp.fc2"))

    def logits(self, images: Tensor) -> Tensor:
        """SPEC 9 from uint8 pictures [batch, height, width]; integers as float64 [batch, classes]."""
        x = self.embed(images)
        for index, block in enumerate(self.vit.blocks):
            x = self.block(f"blocks.{index}", block, x)
        first = self.layernorm("norm", self.vit.norm, x[:, 0])
        return integer_head(self.vit.head, first, self.fracs["norm"], self.fracs["head"])


def integer_logits(student: Student, images: Tensor) -> Tensor:
    """SPEC 9: int32 logits, as float64 [batch, classes], of uint8 pictures [batch, height, width]."""
    return IntegerNetwork(student).logits(images)

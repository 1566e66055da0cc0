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
from torch import Tensor, nn
from torch.nn import functional

from trainer.errors import TrainerError
from trainer.integer import gradients
from trainer.model.layers import Ternary, TernaryBitLinear, TernaryLayerNorm
from trainer.model.quantize import straight_through

if TYPE_CHECKING:
    from trainer.model.student import Pixels, Student

MAX_ACCUMULATOR = 524287  # SPEC 4.3
LANES = 16
TINY_SCALE = 1e-12  # below it a channel's output is its bias
CONSTANT = 96  # v of SPEC 4.4 for such a channel
HEAD_HEADROOM = 1.25  # the scales of the head may grow this much after calibration


def bits(x: Tensor) -> Tensor:
    """SPEC 1.3 for integers 0 <= x < 2^53 of any dtype; int64."""
    return torch.frexp(x.double()).exponent.long()


def sat8(x: Tensor) -> Tensor:
    """SPEC 1.2."""
    return x.clamp(-128, 127)


@dataclass(frozen=True)
class Normalization:
    """SPEC 3.5: two integers for each channel."""

    multiplier: list[int]
    offset: list[int]

    @classmethod
    def fold(cls, pixels: Pixels, frac: int) -> Normalization:
        """From the mean and standard deviation of pixel / 255 to an int8 with `frac`."""
        unit = 2.0 ** (16 + frac)
        offsets = [round(-unit * mean / std) + (1 << 15) for mean, std in zip(pixels.mean, pixels.std, strict=True)]
        return cls([round(unit / (255 * std)) for std in pixels.std], offsets)

    def __call__(self, images: Tensor) -> Tensor:
        """images: uint8 [..., channels]; returns x of SPEC 3.5."""
        multiplier, offset = (torch.tensor(values, device=images.device) for values in (self.multiplier, self.offset))
        return sat8((images.long() * multiplier + offset) >> 16).float()


@dataclass(frozen=True)
class Affine:
    """What follows a layer and folds into it: gain * y + offset, both [N]."""

    gain: Tensor
    offset: Tensor


def following(vit: nn.Module, name: str) -> Affine | None:
    """LayerScale behind attn.proj or mlp.fc2, BatchNorm (with its running statistics) behind a stem convolution."""
    block, _, layer = name.rpartition(".")
    if layer == "conv":
        norm = vit.get_submodule(f"{block}.bn")
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        return Affine(gain, norm.bias - norm.running_mean * gain)
    scale = {"attn.proj": "ls1", "mlp.fc2": "ls2"}.get(".".join(name.split(".")[2:]))
    gamma = getattr(vit.get_submodule(block.rpartition(".")[0]).get_submodule(scale), "gamma", None) if scale else None
    return None if gamma is None else Affine(gamma, torch.zeros_like(gamma))


@dataclass(frozen=True)
class Effective:
    """A layer with all that folds into it: y = scale * (trits x) + bias, in float64; scale >= 0."""

    trits: Tensor
    scale: Tensor
    bias: Tensor

    @classmethod
    def of(cls, layer: Ternary, after: Affine | None = None) -> Effective:
        """trits [N, K], scale [N], bias [N]; a negative gain turns the trits of its channel around."""
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
        """The same, but the channels `faint` (bool [N]) give their bias alone."""
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

    A tile's shift is the largest that keeps its multipliers within their bound. The bias carries what each of the two
    truncations takes away on average. A channel that gives its bias alone gets the multiplier at which v keeps most of
    its bits.
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
    """SPEC 4.1's integers of a layer in its place."""
    with torch.no_grad():
        return fold_linear(Effective.of(layer, after), place)


def integer_linear(layer: Ternary, after: Affine | None, x: Tensor, place: Place) -> Tensor:
    """SPEC 4 on integers [..., K]; the gradient is that of the float layer, zero where an output is clipped."""
    exact = folded(layer, after, place)
    if not torch.is_grad_enabled():
        return exact(x)[0]
    return gradients.Linear.apply(x, *surrogate(layer, after, place), exact)


def integer_convolution(
    layer: Ternary, after: Affine | None, picture: Tensor, sizes: tuple[int, int, int], place: Place
) -> Tensor:
    """SPEC 4.6 on a picture [batch, height, width, channels], sizes: kernel, stride, padding; as integer_linear."""
    linear = folded(layer, after, place)

    def exact(picture: Tensor) -> tuple[Tensor, Tensor]:
        return linear(patches(picture, *sizes))

    if not torch.is_grad_enabled():
        return exact(picture)[0]
    return gradients.Convolution.apply(picture, *surrogate(layer, after, place), sizes, exact)


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
    return math.floor(math.log2(4095.49 / (HEAD_HEADROOM * largest))) + in_frac


def fold_head(layer: Effective, in_frac: int, out_frac: int) -> FoldedHead:
    """Turn scale and bias of the head into SPEC 4.7's integers; the logits have `out_frac`."""
    room = MAX_ACCUMULATOR - 128 * layer.trits.shape[1]
    unit = 2.0 ** (out_frac - in_frac)
    dead = torch.round(layer.scale * unit) == 0
    layer = layer.without(dead)
    # A class that gives its bias alone gets the finest unit that holds it.
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


def exponential_table(score_frac: int, head_width: int) -> Tensor:
    """SPEC 7.2's E for scores of q . k with `score_frac`, the softmax scale 1 / sqrt(head_width) included."""
    step = 2.0**-score_frac / math.sqrt(head_width)
    return torch.round(127 * torch.exp(-step * torch.arange(256, dtype=torch.float64))).float()


def activation_table(act: nn.Module, in_frac: int, out_frac: int) -> Tensor:
    """SPEC 8.1's table for an activation function between two fracs."""
    x = torch.arange(-128, 128, dtype=torch.float64) * 2.0**-in_frac
    return sat8(torch.round(act(x) * 2.0**out_frac)).float()


def attention_weights(scores: Tensor, table: Tensor) -> Tensor:
    """SPEC 7.2 and 7.3: a_ij from scores [..., T, T]."""
    weights = gradients.lookup(table, scores.amax(-1, keepdim=True) - scores)
    excess = (bits(weights.sum(-1, keepdim=True)) - 12).clamp(min=0)
    return torch.floor(weights * torch.exp2(-excess.float()))


@dataclass(frozen=True)
class FoldedAttention:
    """SPEC 7's table [256] and integers."""

    table: Tensor
    score_shift: int
    value_gain: int

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v: integers [..., T, d]; returns y of SPEC 7.5, where it is not clipped, and a_ij / W [..., T, T]."""
        scores = sat8(torch.floor(q @ k.transpose(-1, -2) * 2.0**-self.score_shift))
        weights = attention_weights(scores, self.table)
        total = weights.sum(-1, keepdim=True)
        width = bits(total).float()
        multiplier = torch.floor(torch.exp2(width + 6) / total).clamp(max=127)
        mean = (weights @ v).mul_(torch.exp2((self.value_gain + 1 - width).clamp(max=0))).floor_()
        inside = (mean + 0.5).abs_() <= 127.5
        return mean.clamp_(-128, 127).mul_(multiplier / 128).floor_(), inside, weights / total


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
    exact = FoldedAttention(exponential_table(fracs[f"{attn}.scores"], head_width), score_shift(fracs, attn), gain)
    if torch.is_grad_enabled():
        scale = 2.0 ** -(fracs[f"{attn}.q"] + fracs[f"{attn}.k"]) / math.sqrt(head_width)
        out = gradients.Attention.apply(q, k, v, scale, 2.0**gain, exact)
    else:
        out = exact(q, k, v)[0]
    return out.transpose(1, 2).reshape(batch, tokens, width // 3)


def activation_slope(act: nn.Module, in_frac: int, out_frac: int) -> Tensor:
    """Derivative of an activation function between two fracs at the 256 inputs; 0 where its table is clipped."""
    with torch.enable_grad():
        x = torch.arange(-128, 128, dtype=torch.float64, requires_grad=True)
        y = act(x * 2.0**-in_frac) * 2.0**out_frac
        (slope,) = torch.autograd.grad(y.sum(), x)
    return torch.where((y >= -128) & (y <= 127), slope, 0.0).detach().float()


def integer_activation(act: nn.Module, x: Tensor, in_frac: int, out_frac: int) -> Tensor:
    """SPEC 8.1 with the function's table; the gradient is the function's."""
    table = activation_table(act, in_frac, out_frac)
    return gradients.Lookup.apply(x, table, activation_slope(act, in_frac, out_frac))


def embedding(parameter: Tensor, frac: int) -> Tensor:
    """A class or position embedding as int8, with a straight-through gradient."""
    surrogate = (parameter * 2.0**frac).clamp(-128, 127)
    return straight_through(surrogate, torch.round(surrogate))


def class_token(vit: nn.Module) -> Tensor:
    """cls_token of SPEC 5.2, [1, 1, D]: its position included."""
    return vit.cls_token if vit.no_embed_class else vit.cls_token + vit.pos_embed[:, :1]


def positions(vit: nn.Module) -> Tensor:
    """pos_embed of SPEC 5.2, [1, T - 1, D]: those of the patches."""
    return vit.pos_embed if vit.no_embed_class else vit.pos_embed[:, 1:]


def round_embeddings(vit: nn.Module, fracs: dict[str, int]) -> None:
    """Put class token and positions of a float model to the values that their int8 forms stand for."""
    with torch.no_grad():
        first = embedding(class_token(vit), fracs["cls_token"]) * 2.0 ** -fracs["cls_token"]
        others = embedding(positions(vit), fracs["pos_embed"]) * 2.0 ** -fracs["pos_embed"]
        vit.cls_token.copy_(first)
        vit.pos_embed.copy_(others if vit.no_embed_class else torch.cat((torch.zeros_like(first), others), 1))


def patches(picture: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """SPEC 4.6: [batch, height, width, channels] to [batch, rows, columns, kernel * kernel * channels]."""
    padded = functional.pad(picture, (0, 0, padding, padding, padding, padding))
    windows = padded.unfold(1, kernel, stride).unfold(2, kernel, stride)
    return windows.permute(0, 1, 2, 4, 5, 3).flatten(3)


def qkv_limits(embed_dim: int, head_width: int) -> Tensor:
    """Largest multiplier of each output of qkv [3 D]: 127, and for q what SPEC 7.7 promises."""
    largest = torch.full((3 * embed_dim,), 127.0)
    largest[:embed_dim] = min(127, MAX_ACCUMULATOR // (128 * head_width))
    return largest


def qkv_fracs(fracs: dict[str, int], attn: str, embed_dim: int) -> Tensor:
    """Frac of each output of qkv [3 D]."""
    return torch.tensor([float(fracs[f"{attn}.{part}"]) for part in "qkv"]).repeat_interleave(embed_dim)


# What feeds each linear layer of a block: the owner of the frac of its input.
INPUTS = {"attn.qkv": "norm1", "attn.proj": "attn", "mlp.fc1": "norm2", "mlp.fc2": "mlp.act"}
STAGE = "patch_embed.backbone"


def stage_inputs(stages: int) -> list[str]:
    """Owners of the fracs that feed each stage of the stem, and the patch embedding behind it."""
    return ["input", *(f"{STAGE}.{index}.act" for index in range(stages))]


class IntegerNetwork:
    """SPEC 9 for one student: names fracs by layer, so that forward, calibration and export read the same ones."""

    def __init__(self, student: Student):
        self.vit, self.fracs, self.sizes = student.vit, student.fracs, student.architecture
        self.pixels = student.pixels

    @property
    def normalization(self) -> Normalization:
        """SPEC 3.5."""
        return Normalization.fold(self.pixels, self.fracs["input"])

    def layer(self, name: str) -> Ternary:
        """A ternary layer by timm's name; TrainerError for one that was left in full precision."""
        layer = self.vit.get_submodule(name)
        if not isinstance(layer, Ternary):
            raise TrainerError(f"{name} is {type(layer).__name__}: SPEC computes ternary layers only")
        return layer

    def effective(self, name: str) -> Effective:
        """The layer `name` with what folds into it."""
        return Effective.of(self.layer(name), following(self.vit, name))

    def act(self, name: str) -> nn.Module:
        """The activation function that the file calls `name`."""
        if name.startswith(STAGE):
            return self.vit.get_submodule(name.removesuffix("act") + "bn.act")
        return self.vit.get_submodule(name)

    def input_of(self, name: str) -> str:
        """The layer whose frac is that of the input of the linear layer `name`."""
        if name.startswith("patch_embed"):
            index = len(self.sizes.stem) if name == "patch_embed.proj" else int(name.split(".")[2])
            return stage_inputs(len(self.sizes.stem))[index]
        block, part, layer = name.rsplit(".", 2)
        return f"{block}.{INPUTS[f'{part}.{layer}']}"

    def residual_shift(self, name: str) -> int:
        """SPEC 5.1's k of a branch."""
        return self.fracs["residual"] - self.fracs[name]

    def place(self, name: str) -> Place:
        """Fracs around the linear layer `name`, and the bounds of its multipliers."""
        in_frac, width = self.fracs[self.input_of(name)], self.sizes.embed_dim
        if name.endswith(".qkv"):
            out_frac = qkv_fracs(self.fracs, name.removesuffix(".qkv"), width)
            return Place(in_frac, out_frac, qkv_limits(width, width // self.sizes.num_heads))
        outputs = self.layer(name).weight.shape[0]
        return Place(in_frac, torch.full((outputs,), float(self.fracs[name])), torch.full((outputs,), 127.0))

    def linear(self, name: str, x: Tensor) -> Tensor:
        """SPEC 4 of the layer `name`."""
        return integer_linear(self.layer(name), following(self.vit, name), x, self.place(name))

    def convolution(self, name: str, picture: Tensor, sizes: tuple[int, int, int]) -> Tensor:
        """SPEC 4.6 of the layer `name`."""
        return integer_convolution(self.layer(name), following(self.vit, name), picture, sizes, self.place(name))

    def layernorm(self, name: str, x: Tensor) -> Tensor:
        """SPEC 6 of the layer `name`."""
        return integer_layernorm(self.layer(name), x, self.fracs["residual"], self.fracs[name])

    def activation(self, name: str, x: Tensor, in_name: str) -> Tensor:
        """SPEC 8 of the activation `name`, whose input is the output of `in_name`."""
        return integer_activation(self.act(name), x, self.fracs[in_name], self.fracs[name])

    def embed(self, images: Tensor) -> Tensor:
        """SPEC 3.5 and 9.1: uint8 pictures [batch, height, width, channels] to the residual stream [batch, T, D]."""
        picture, sizes = self.normalization(images), self.sizes
        for index, (_, *shape) in enumerate(sizes.stem):
            name = f"{STAGE}.{index}"
            picture = self.convolution(f"{name}.conv", picture, tuple(shape))
            picture = self.activation(f"{name}.act", picture, f"{name}.conv")
        shape = (sizes.patch_size, sizes.patch_stride, sizes.patch_padding)
        tokens = self.convolution("patch_embed.proj", picture, shape).flatten(1, 2)
        tokens = residual_add(torch.zeros_like(tokens), tokens, self.residual_shift("patch_embed.proj"))
        position = embedding(positions(self.vit), self.fracs["pos_embed"])
        tokens = residual_add(tokens, position, self.residual_shift("pos_embed"))
        first = embedding(class_token(self.vit), self.fracs["cls_token"]).expand(len(images), -1, -1)
        return torch.cat((residual_add(torch.zeros_like(first), first, self.residual_shift("cls_token")), tokens), 1)

    def block(self, name: str, x: Tensor) -> Tensor:
        """SPEC 9.2."""
        qkv = self.linear(f"{name}.attn.qkv", self.layernorm(f"{name}.norm1", x))
        mixed = integer_attention(qkv, self.sizes.num_heads, self.fracs, f"{name}.attn")
        branch = self.linear(f"{name}.attn.proj", mixed)
        x = residual_add(x, branch, self.residual_shift(f"{name}.attn.proj"))
        hidden = self.linear(f"{name}.mlp.fc1", self.layernorm(f"{name}.norm2", x))
        hidden = self.activation(f"{name}.mlp.act", hidden, f"{name}.mlp.fc1")
        branch = self.linear(f"{name}.mlp.fc2", hidden)
        return residual_add(x, branch, self.residual_shift(f"{name}.mlp.fc2"))

    def features(self, images: Tensor) -> Tensor:
        """What enters the head, for uint8 pictures [batch, height, width, channels]; integers [batch, D]."""
        x = self.embed(images)
        for index in range(self.sizes.depth):
            x = self.block(f"blocks.{index}", x)
        return self.layernorm("norm", x[:, 0])

    def head(self, features: Tensor) -> Tensor:
        """SPEC 4.7 on what `features` gives; integers as float64 [batch, classes]."""
        return integer_head(self.layer("head"), features, self.fracs["norm"], self.fracs["head"])

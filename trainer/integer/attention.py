# SPDX-License-Identifier: MIT
"""SPEC 7: attention with its softmax."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.integer import gradients
from trainer.integer.numbers import MAX_ACCUMULATOR, bits, sat8


def exponential_table(score_frac: int, head_width: int) -> Tensor:
    """SPEC 7.2's E for scores of q . k with `score_frac`, the softmax scale 1 / sqrt(head_width) included."""
    step = 2.0**-score_frac / math.sqrt(head_width)
    return torch.round(127 * torch.exp(-step * torch.arange(256, dtype=torch.float64))).float()


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


def qkv_limits(embed_dim: int, head_width: int) -> Tensor:
    """Largest multiplier of each output of qkv [3 D]: 127, and for q what SPEC 7.7 promises."""
    largest = torch.full((3 * embed_dim,), 127.0)
    largest[:embed_dim] = min(127, MAX_ACCUMULATOR // (128 * head_width))
    return largest


def qkv_fracs(fracs: dict[str, int], attn: str, embed_dim: int) -> Tensor:
    """Frac of each output of qkv [3 D]."""
    return torch.tensor([float(fracs[f"{attn}.{part}"]) for part in "qkv"]).repeat_interleave(embed_dim)

# SPDX-License-Identifier: MIT
"""Ternarization with a straight-through gradient, and the packing of trits (SPEC 2)."""

import numpy as np
import torch
from torch import Tensor

THRESHOLD = 0.7  # of the mean magnitude: the Ternary Weight Networks rule, arXiv 1605.04711


def ternarize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Trits of `weight` [channels, n] and a scale per channel [channels, 1].

    A trit is 0 where |w| is at most 0.7 times the channel's mean |w|, else the sign of w; the scale is the mean |w|
    of the survivors, which minimises the squared error for these trits.
    """
    magnitude = weight.abs()
    survives = magnitude > THRESHOLD * magnitude.mean(1, keepdim=True)
    scale = (magnitude * survives).sum(1, keepdim=True) / survives.sum(1, keepdim=True).clamp(min=1)
    return weight.sign() * survives, scale


class StraightThrough(torch.autograd.Function):
    """Value of `exact`, gradient to `surrogate`."""

    @staticmethod
    def forward(ctx, surrogate: Tensor, exact: Tensor) -> Tensor:
        return exact.to(surrogate.dtype)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def straight_through(surrogate: Tensor, exact: Tensor) -> Tensor:
    """The value of `exact` with the gradient of `surrogate`; both of one shape."""
    return StraightThrough.apply(surrogate, exact.detach())


def ternary_weight(weight: Tensor) -> Tensor:
    """`weight` [channels, ...] replaced by scale * trit, with the gradient passed straight through."""
    trits, scale = ternarize(weight.detach().flatten(1))
    return straight_through(weight, (trits * scale).view_as(weight))


def pack_tile_rows(trits: np.ndarray) -> np.ndarray:
    """Pack rows of 16 trits (int8 [..., rows, 16]) into uint8 [..., ceil(rows / 5), 16] (SPEC 2.2-2.5)."""
    *outer, rows, lanes = trits.shape
    vectors = -(-rows // 5)
    digits = np.ones((*outer, vectors * 5, lanes), np.int64)
    digits[..., :rows, :] = trits.astype(np.int64) + 1
    digits = digits.reshape(*outer, vectors, 5, lanes)
    value = np.tensordot(digits, np.array([81, 27, 9, 3, 1]), axes=([-2], [0]))
    return ((256 * value + 242) // 243).astype(np.uint8)


def pack_matrix(trits: np.ndarray) -> np.ndarray:
    """Pack a weight [N, K] of trits into uint8 [ceil(N / 16), ceil(K / 5), 16] (SPEC 2.6)."""
    outputs, inputs = trits.shape
    tiles = -(-outputs // 16)
    padded = np.zeros((tiles * 16, inputs), np.int8)
    padded[:outputs] = trits
    return pack_tile_rows(padded.reshape(tiles, 16, inputs).transpose(0, 2, 1))


def pack_vector(trits: np.ndarray) -> np.ndarray:
    """Pack a gamma or beta [D] of trits into uint8 [ceil(ceil(D / 16) / 5), 16] (SPEC 2.7)."""
    rows = -(-len(trits) // 16)
    padded = np.zeros(rows * 16, np.int8)
    padded[: len(trits)] = trits
    return pack_tile_rows(padded.reshape(rows, 16))

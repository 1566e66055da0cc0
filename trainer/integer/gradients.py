# SPDX-License-Identifier: MIT
"""Exact integer values with the gradients of their float counterparts.

Each function computes the exact value once and derives the gradient from it, without computing the float counterpart's
value; clipped outputs pass no gradient.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Exact = Callable[[Tensor], tuple[Tensor, Tensor]]


class Clipped(torch.autograd.Function):
    """Value of `exact`; gradient to `surrogate` where that lies in low..high."""

    @staticmethod
    def forward(ctx: Any, surrogate: Tensor, exact: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward((surrogate >= low) & (surrogate <= high))
        return exact.to(surrogate.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return torch.where(inside, gradient, 0.0), None, None, None


class Linear(torch.autograd.Function):
    """Value exact(x) for x [..., K]; gradients of weight [N, K] x + bias [N], all in units of outputs per input unit.

    exact returns y [..., N] and where it is not clipped (bool).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, exact: Exact) -> Tensor:
        y, inside = exact(x)
        ctx.save_for_backward(x, weight, inside)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, inside = ctx.saved_tensors
        flat = torch.where(inside, gradient, 0.0).flatten(0, -2)
        return (flat @ weight).view_as(x), flat.T @ x.flatten(0, -2), flat.sum(0), None


class Convolution(torch.autograd.Function):
    """As Linear for a picture [batch, height, width, channels]; weight [N, K] in the order of SPEC 4.6.

    sizes: kernel, stride, padding; exact takes the picture and returns [batch, rows, columns, N].
    """

    @staticmethod
    def forward(
        ctx: Any, picture: Tensor, weight: Tensor, bias: Tensor, sizes: tuple[int, int, int], exact: Exact
    ) -> Tensor:
        y, inside = exact(picture)
        ctx.save_for_backward(picture, weight, inside)
        ctx.sizes = sizes
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        picture, weight, inside = ctx.saved_tensors
        kernel, stride, padding = ctx.sizes
        masked = torch.where(inside, gradient, 0.0)
        channels_first = (masked.permute(0, 3, 1, 2), picture.permute(0, 3, 1, 2))
        kernels = weight.view(len(weight), kernel, kernel, -1).permute(0, 3, 1, 2)
        geometry = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1)
        wanted = [ctx.needs_input_grad[0], True, False]
        to_picture, to_weight, _ = torch.ops.aten.convolution_backward(
            *channels_first, kernels, None, *geometry, wanted
        )
        if to_picture is not None:
            to_picture = to_picture.permute(0, 2, 3, 1)
        return to_picture, to_weight.permute(0, 2, 3, 1).flatten(1), masked.sum((0, 1, 2)), None, None


def lookup(table: Tensor, index: Tensor) -> Tensor:
    """table[index] for a table [256] and float indices 0..255 of any shape; several times as fast as indexing."""
    return table.index_select(0, index.to(torch.int32).flatten()).view(index.shape)


class Lookup(torch.autograd.Function):
    """table[x + 128] for integers x, tables of 256; the gradient is slope[x + 128]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return lookup(table, x + 128)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        x, slope = ctx.saved_tensors
        return gradient * lookup(slope, x + 128), None, None


class Attention(torch.autograd.Function):
    """Value exact(q, k, v) for [..., T, d]; gradients of softmax(q k^T scale) v gain at the exact softmax.

    exact returns y [..., T, d], where it is not clipped, and the exact weights [..., T, T] with rows that sum to 1.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, gain: float, exact: Callable) -> Tensor:
        y, inside, weights = exact(q, k, v)
        ctx.save_for_backward(q, k, v, inside, weights)
        ctx.scale, ctx.gain = scale, gain
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        q, k, v, inside, weights = ctx.saved_tensors
        out = torch.where(inside, gradient, 0.0) * ctx.gain
        to_weights = out @ v.transpose(-1, -2)
        to_scores = weights * (to_weights - (to_weights * weights).sum(-1, keepdim=True)) * ctx.scale
        return to_scores @ k, to_scores.transpose(-1, -2) @ q, weights.transpose(-1, -2) @ out, None, None, None

# SPDX-License-Identifier: MIT
"""SPEC 4.6: TernaryBitConv2d, whose patches are rows of a linear layer."""

import torch
from torch import Tensor
from torch.nn import functional

from trainer.integer import gradients
from trainer.integer.linear import Affine, Place, folded, surrogate
from trainer.model.layers import Ternary


def patches(picture: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """SPEC 4.6: [batch, height, width, channels] to [batch, rows, columns, kernel * kernel * channels]."""
    padded = functional.pad(picture, (0, 0, padding, padding, padding, padding))
    windows = padded.unfold(1, kernel, stride).unfold(2, kernel, stride)
    return windows.permute(0, 1, 2, 4, 5, 3).flatten(3)


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

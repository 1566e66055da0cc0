# SPDX-License-Identifier: MIT
"""SPEC 8: activation functions as tables."""

import torch
from torch import Tensor, nn

from trainer.integer import gradients
from trainer.integer.numbers import sat8


def activation_table(act: nn.Module, in_frac: int, out_frac: int) -> Tensor:
    """SPEC 8.1's table for an activation function between two fracs."""
    x = torch.arange(-128, 128, dtype=torch.float64) * 2.0**-in_frac
    return sat8(torch.round(act(x) * 2.0**out_frac)).float()


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

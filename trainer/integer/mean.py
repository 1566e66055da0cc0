# SPDX-License-Identifier: MIT
"""SPEC 9.5, 9.6: what becomes of all tokens behind the final norm."""

import torch
from torch import Tensor

from trainer.model.quantize import straight_through

POOLINGS = ("token", "mean", "token+mean")


def integer_mean(x: Tensor) -> Tensor:
    """SPEC 9.6: integers [batch, n, D] -> [batch, D]; the gradient is the mean's."""
    mean = x.mean(1)
    # Sums of 2048 int8 values are exact in float32, and float64 rounds no quotient up to an integer.
    count = x.shape[1]
    exact = torch.floor((2 * x.detach().sum(1).double() + count) / (2 * count)).to(x.dtype)
    return straight_through(mean, exact) if torch.is_grad_enabled() else exact

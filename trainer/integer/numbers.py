# SPDX-License-Identifier: MIT
"""Functions of SPEC 1 and bounds, shared by all rules.

Integers travel as float32 tensors, in units of their last bit. The sums of SPEC 4.2, 7.1 and 7.4 stay below 2^20, so
float32 holds them exactly in any order; the few larger ones (LayerNorm, logits) are computed in int64 or float64.
"""

import torch
from torch import Tensor

MAX_ACCUMULATOR = 524287  # SPEC 4.3
LANES = 16  # outputs of a tile, which share a shift
TINY_SCALE = 1e-12  # below it a channel's output is its bias


def bits(x: Tensor) -> Tensor:
    """SPEC 1.3 for integers 0 <= x < 2^53 of any dtype; int64."""
    return torch.frexp(x.double()).exponent.long()


def sat8(x: Tensor) -> Tensor:
    """SPEC 1.2."""
    return x.clamp(-128, 127)

# SPDX-License-Identifier: MIT
"""Layers and inputs that the tests of trainer.integer share."""

import numpy as np
import torch

from trainer.integer.linear import Place
from trainer.model.layers import TernaryBitLinear

RNG = np.random.default_rng(5)


def random_int8(*shape):
    return RNG.integers(-128, 128, shape).astype(np.int8)


def linear(outputs, inputs, seed=0):
    torch.manual_seed(seed)
    return TernaryBitLinear(inputs, outputs)


def place(outputs, in_frac=5, out_frac=4.0):
    return Place(in_frac, torch.full((outputs,), out_frac), torch.full((outputs,), 127.0))


def largest_difference(found, exact):
    """Relative to the largest of the exact values."""
    return ((found - exact).abs().max() / exact.abs().max()).item()

# SPDX-License-Identifier: MIT
"""layernorm (SPEC 6)."""

from itertools import product

import numpy as np
import pytest
import ternary

from tests import oracle
from tests.mpy_module.kernel import I8, I16, U8, Out, Scratch, equal, on_every_target, refused, run

pytestmark = on_every_target

WIDTHS = (1, 2, 15, 16, 17, 80, 81, 96, 384)


def check(x, g, b, gain, gain_shift, beta, packed=None):
    """The kernel gives what the oracle gives."""
    width = x.shape[1]
    weight, bias = packed or (oracle.pack_channels(g), oracle.pack_channels(b))
    scratch = Scratch(ternary.layernorm_scratch(width))
    out = run("layernorm", x, weight, bias, gain, gain_shift, beta, width, Out(x.shape, I8), scratch)
    equal(out, oracle.layernorm(x, g, b, gain, gain_shift, beta))


def trits(rng, width):
    return rng.integers(-1, 2, width)


@pytest.mark.parametrize("width", WIDTHS)
def test_random_rows(width):
    """Rows of every magnitude, so that z takes all its values."""
    rng = np.random.default_rng(width)
    scale = 2.0 ** rng.uniform(0, 15, (40, 1))
    x = np.clip(rng.normal(size=(40, width)) * scale + rng.uniform(-1, 1, (40, 1)) * scale, -32768, 32767).astype(I16)
    for gain_shift in (0, 1, 5, 15):
        gain, beta = int(rng.integers(2**14, 2**15)), int(rng.integers(0, 32640))
        check(x, trits(rng, width), trits(rng, width), gain, gain_shift, beta)
    check(x[:1], trits(rng, width), trits(rng, width), 20000, 2, 300)


def rail_rows(width):
    """int16 [9, D]: constants, rails, one channel against all others."""
    even = np.arange(width) % 2 == 0
    first = np.arange(width) == 0
    constants = [np.full(width, v) for v in (-32768, -1, 0, 1, 32767)]
    rails = [np.where(even, -32768, 32767), np.where(even, 32767, -32768)]
    return np.stack([*constants, *rails, np.where(first, 32767, -32768), np.where(first, -32768, 32767)]).astype(I16)


@pytest.mark.parametrize("width", [*WIDTHS, 4096])
def test_rails(width):
    rng = np.random.default_rng(width)
    for gain, gain_shift, beta in product((2**14, 2**15 - 1), (0, 15), (0, 32639)):
        check(rail_rows(width), trits(rng, width), trits(rng, width), gain, gain_shift, beta)


@pytest.mark.parametrize("value", [-1, 0, 1])
def test_rows_of_one_trit(value):
    x = np.random.default_rng(3).integers(-3000, 3000, (5, 33)).astype(I16)
    same = np.full(33, value)
    for beta in (0, 127, 128, 32639):
        check(x, same, same, 30000, 1, beta)
        check(x, same, -same, 30000, 1, beta)


def test_long_row():
    rng = np.random.default_rng(4)
    check(rng.integers(-32768, 32768, (3, 4096)).astype(I16), trits(rng, 4096), trits(rng, 4096), 17000, 0, 500)


def test_padding_never_reaches_a_result():
    """SPEC 2.8, with noise instead of the trit 0."""
    rng = np.random.default_rng(5)
    x = rng.integers(-3000, 3000, (4, 18)).astype(I16)
    packed = rng.integers(0, 256, (2, 1, 16)).astype(U8)
    g, b = (oracle.unpack_channels(half, 18) for half in packed)
    check(x, g, b, 20000, 1, 4000, tuple(packed))


@pytest.mark.parametrize(
    ("position", "values"),
    [
        (3, (2**14 - 1, 2**15, 0, -(2**14), 2**31 - 1)),
        (4, (-1, 16, 2**20)),
        (5, (-1, 32640, -(2**31))),
        (6, (0, -17, 16, 18, 34, 4097, 2**31 - 1, -(2**31))),
    ],
)
def test_refuses_numbers_out_of_range(position, values):
    packed = oracle.pack_channels(np.ones(17, int))
    arguments = [np.zeros((3, 17), I16), packed, packed, 20000, 0, 0, 17]
    for value in values:
        wrong = [*arguments[:position], value, *arguments[position + 1 :]]
        refused("layernorm", *wrong, Out((3, 17), I8), Scratch(ternary.layernorm_scratch(17)))


def test_refuses_wrong_sizes():
    packed = oracle.pack_channels(np.ones(17, int))
    x, numbers, size = np.zeros((3, 17), I16), (20000, 0, 0, 17), ternary.layernorm_scratch(17)
    refused("layernorm", np.zeros(50, I16), packed, packed, *numbers, Out((3, 17), I8), Scratch(size))
    refused("layernorm", x, packed[:0], packed, *numbers, Out((3, 17), I8), Scratch(size))
    refused("layernorm", x, packed, np.zeros((2, 16), U8), *numbers, Out((3, 17), I8), Scratch(size))
    refused("layernorm", x, packed, packed, *numbers, Out((2, 17), I8), Scratch(size))
    refused("layernorm", x.astype(np.int32), packed, packed, *numbers, Out((3, 17), I8), Scratch(size))
    if size:
        refused("layernorm", x, packed, packed, *numbers, Out((3, 17), I8), Scratch(size - 1))
    for width in (0, -1, 4097):
        with pytest.raises(ValueError):
            ternary.layernorm_scratch(width)

# SPDX-License-Identifier: MIT
"""linear, linear_logits (SPEC 4)."""

from itertools import product

import numpy as np
import pytest
import ternary

from tests import oracle
from tests.mpy_module.kernel import I8, I16, I32, U8, Out, Scratch, Updated, equal, on_every_target, refused, run

pytestmark = on_every_target

SIZES = (1, 5, 15, 16, 17, 33, 49, 96, 384)


def largest_bias(inputs, shift):
    """SPEC 4.3 at its bound, within int16; one value per output or one for all."""
    return np.minimum((oracle.ACCUMULATOR_MAX - 128 * inputs) // 2 ** np.maximum(np.asarray(shift, int) - 6, 0), 32767)


def spread(shift, outputs):
    """One value per tile -> one per output."""
    return np.repeat(np.asarray(shift, int), 16)[:outputs]


def random_layer(rng, outputs, inputs, rows):
    """x, trits, bias, multiplier, shift over their whole ranges."""
    shift = rng.integers(0, 16, -(-outputs // 16)).astype(U8)
    room = largest_bias(inputs, spread(shift, outputs))
    bias = rng.integers(-room, room + 1).astype(I16)
    x = rng.integers(-128, 128, (rows, inputs)).astype(I8)
    trits = rng.integers(-1, 2, (outputs, inputs))
    return x, trits, bias, rng.integers(0, 128, outputs).astype(I8), shift


def check(x, trits, bias, multiplier, shift, packed=None):
    """The kernel gives what the oracle gives."""
    packed = oracle.pack_weight(trits) if packed is None else packed
    scratch = Scratch(ternary.linear_scratch(x.shape[1]))
    out = run("linear", x, packed, bias, multiplier, shift, Out((len(x), len(trits)), I8), scratch)
    equal(out, oracle.linear(x, trits, bias, multiplier, shift))


def check_logits(x, trits, bias, multiplier):
    """The same for logits."""
    scratch = Scratch(ternary.linear_scratch(x.shape[1]))
    out = run(
        "linear_logits",
        x,
        oracle.pack_weight(trits),
        bias,
        multiplier,
        Out((len(x), len(trits)), I32),
        scratch,
    )
    equal(out, oracle.linear_logits(x, trits, bias, multiplier))


@pytest.mark.parametrize("inputs", SIZES)
@pytest.mark.parametrize("rows", [1, 2, 17])
def test_random_layers(inputs, rows):
    rng = np.random.default_rng(inputs * 100 + rows)
    for outputs in (1, 5, 15, 16, 17, 33, 49):
        x, trits, bias, multiplier, shift = random_layer(rng, outputs, inputs, rows)
        check(x, trits, bias, multiplier, shift)
        check(x, trits, (bias // 64).astype(I16), multiplier, np.minimum(shift, 7))


@pytest.mark.parametrize(("outputs", "inputs"), [(96, 384), (384, 96), (288, 96)])
def test_layers_of_a_real_size(outputs, inputs):
    layer = random_layer(np.random.default_rng(outputs), outputs, inputs, 50)
    check(*layer[:2], (layer[2] // 32).astype(I16), layer[3], np.full_like(layer[4], 3))


@pytest.mark.parametrize("shift", range(16))
def test_every_shift_and_extreme(shift):
    """Activations at the rails, rows of one trit, biases at both ends of 4.3; multipliers 0, 1, 64, 127."""
    inputs, outputs = 33, 48
    x = np.stack([np.full(inputs, v) for v in (-128, 127, 0)] + [np.where(np.arange(inputs) % 2, 127, -128)]).astype(I8)
    trits = np.zeros((outputs, inputs), int)
    trits[0::4], trits[1::4], trits[2::4] = 1, -1, np.where(np.arange(inputs) % 2, 1, -1)
    room = int(largest_bias(inputs, shift))
    bias = np.array([0, room, -room, 1, -1, room // 2] * 8, I16)
    multiplier = np.repeat(np.array([0, 1, 64, 127], I8), 12)
    shifts = np.array([shift, 15 - shift, shift], U8)
    bias[16:32] = np.clip(bias[16:32], -1, 1)
    check(x, trits, bias, multiplier, shifts)


@pytest.mark.parametrize("value", [-1, 0, 1])
@pytest.mark.parametrize("shift", [0, 6, 7, 15])
def test_longest_row(value, shift):
    """K = 4032: accumulators reach 524287 on both sides."""
    inputs = 4032
    room = int(largest_bias(inputs, shift))
    x = np.stack([np.full(inputs, v) for v in (-128, 127)] + [np.random.default_rng(1).integers(-128, 128, inputs)])
    trits = np.full((3, inputs), value)
    check(
        x.astype(I8),
        trits,
        np.array([room, -room, 0], I16),
        np.array([127, 127, 1], I8),
        np.array([shift], U8),
    )


@pytest.mark.parametrize("inputs", [4033, 4096])
def test_refuses_longer_rows(inputs):
    packed = np.full((1, -(-inputs // 5), 16), 128, U8)
    arguments = np.zeros((1, inputs), I8), packed, np.zeros(1, I16), np.zeros(1, I8), np.zeros(1, U8)
    refused("linear", *arguments, Out((1, 1), I8), Scratch(1 << 17))
    with pytest.raises(ValueError):
        ternary.linear_scratch(inputs)


@pytest.mark.parametrize("inputs", [1, 33, 4032])
@pytest.mark.parametrize("shift", [0, 5, 6, 7, 9, 15])
def test_refuses_a_bias_beyond_the_bound(inputs, shift):
    room = int(largest_bias(inputs, shift))
    x, trits = np.zeros((1, inputs), I8), np.zeros((17, inputs), int)
    shifts, multiplier = np.array([0, shift], U8), np.full(17, 127, I8)
    for sign in (-1, 1):
        bias = np.zeros(17, I16)
        bias[16] = sign * room
        check(x, trits, bias, multiplier, shifts)
        if room < 32767:
            bias[16] = sign * (room + 1)
            scratch = Scratch(ternary.linear_scratch(inputs))
            packed = oracle.pack_weight(trits)
            refused("linear", x, packed, bias, multiplier, shifts, Out((1, 17), I8), scratch, match="bias")


def test_refuses_forbidden_numbers():
    x, trits, bias, multiplier, shift = random_layer(np.random.default_rng(0), 17, 6, 2)
    packed, scratch = oracle.pack_weight(trits), Scratch(ternary.linear_scratch(6))
    negative, high = multiplier.copy(), shift.copy()
    negative[16], high[1] = -1, 16
    refused("linear", x, packed, bias // 512, negative, shift, Out((2, 17), I8), scratch, match="multiplier")
    refused("linear", x, packed, bias // 512, multiplier, high, Out((2, 17), I8), scratch, match="shift")


def test_padding_never_reaches_a_result():
    """SPEC 2.8, with noise instead of the trit 0."""
    rng = np.random.default_rng(5)
    for outputs, inputs in product((1, 15, 17), (1, 4, 6, 33)):
        x, trits, bias, multiplier, shift = random_layer(rng, outputs, inputs, 3)
        noisy = rng.integers(-1, 2, (-(-outputs // 16) * 16, -(-inputs // 5) * 5))
        noisy[:outputs, :inputs] = trits
        check(x, trits, bias, multiplier, shift, oracle.pack_weight(noisy))


def test_bytes_that_no_value_makes():
    """SPEC 2.3: they still decode to digits."""
    packed = np.random.default_rng(6).integers(0, 256, (2, 7, 16)).astype(U8)
    trits = oracle.unpack_weight(packed, 32, 35)
    x, _, bias, multiplier, shift = random_layer(np.random.default_rng(7), 32, 35, 4)
    check(x, trits, bias, multiplier, shift, packed)


def test_refuses_wrong_sizes():
    x, trits, bias, multiplier, shift = random_layer(np.random.default_rng(0), 17, 6, 2)
    good = [x, oracle.pack_weight(trits), bias // 512, multiplier, shift]
    size = ternary.linear_scratch(6)
    wrong = [np.zeros(11, I8), np.zeros((2, 3, 16), U8), np.zeros(16, I16), np.zeros(18, I8), np.zeros(1, U8)]
    for position, value in enumerate(wrong):
        refused("linear", *good[:position], value, *good[position + 1 :], Out((2, 17), I8), Scratch(size))
    refused("linear", *good, Out((33,), I8), Scratch(size))
    if size:
        refused("linear", *good, Out((2, 17), I8), Scratch(size - 1))
    refused("linear", *good[:2], np.zeros(17, np.float32), *good[3:], Out((2, 17), I8), Scratch(size))
    refused("linear", None, *good[1:], Out((2, 17), I8), Scratch(size))
    refused("linear", *good)


def scratch_sizes(inputs):
    """From the least to as much as is of use."""
    least, most = ternary.linear_scratch_least(inputs), ternary.linear_scratch(inputs)
    return sorted({least, min(least + 1, most), (least + most) // 2, max(least, most - 1), most})


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("inputs", [640, 657, 800, 801, 1536])
def test_less_scratch_gives_the_same(inputs, rows):
    """Weights are decoded slice by slice, for some rows at a time."""
    rng = np.random.default_rng(inputs + rows)
    x, trits, *scales = random_layer(rng, 17, inputs, rows)
    expected, packed = oracle.linear(x, trits, *scales), oracle.pack_weight(trits)
    room = np.full((rows, 20), 77, I8)
    for size in scratch_sizes(inputs):
        equal(run("linear", x, packed, *scales, Out((rows, 17), I8), Scratch(size)), expected)
        columns = run("linear_columns", x, rows, packed, *scales, Updated(room), 3, Scratch(size))
        equal(columns[:, 3:], expected)
        assert (columns[:, :3] == 77).all()
    size = ternary.linear_scratch_least(inputs)
    if size:
        refused("linear", x, packed, *scales, Out((rows, 17), I8), Scratch(size - 1), match=f"needs at least {size}")


@pytest.mark.parametrize("cores", [1, 2])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 1, 1), (5, 33, 17), (66, 48, 64), (50, 801, 32)])
def test_add(rows, inputs, outputs, cores):
    """The branch in `out`, the sum in the residual stream, saturated at both ends."""
    rng = np.random.default_rng(rows)
    x, trits, *scales = random_layer(rng, outputs, inputs, rows)
    packed, branch = oracle.pack_weight(trits), oracle.linear(x, trits, *scales)
    residual = rng.choice([-32768, -300, 0, 300, 32767], (rows, outputs)).astype(I16)
    ternary.cores(cores)
    try:
        for shift in (0, 3, 8):
            for scratch in {ternary.linear_scratch_least(inputs), ternary.linear_scratch(inputs)}:
                out, sums = Out((rows, outputs), I8), Updated(residual)
                run("linear_add", x, packed, *scales, out, sums, shift, Scratch(scratch))
                equal(out.array, branch)
                equal(sums.array, np.clip(residual + branch.astype(int) * 2**shift, -32768, 32767).astype(I16))
    finally:
        ternary.cores(1)


def test_add_refuses_another_stream():
    x, trits, bias, *scales = random_layer(np.random.default_rng(0), 17, 6, 2)
    layer, scratch = (x, oracle.pack_weight(trits), bias // 512, *scales), Scratch(1 << 16)
    for residual, shift, match in (
        (np.zeros((2, 16), I16), 3, "residual"),
        (np.zeros((3, 17), I16), 3, "residual"),
        (np.zeros((2, 17), I16), -1, "residual_shift"),
        (np.zeros((2, 17), I16), 9, "residual_shift"),
    ):
        refused("linear_add", *layer, Out((2, 17), I8), Updated(residual), shift, scratch, match=match)


def test_least_scratch():
    """Never more than the most, and less for all that do not fit a slice."""
    for inputs in (1, 384, 640, 657, 768, 1536, 4032):
        least, most = ternary.linear_scratch_least(inputs), ternary.linear_scratch(inputs)
        assert least < most if inputs > 656 else least == most
    for inputs in (0, -1, 4033):
        with pytest.raises(ValueError, match="in_features"):
            ternary.linear_scratch_least(inputs)


@pytest.mark.parametrize("inputs", SIZES)
def test_random_logits(inputs):
    rng = np.random.default_rng(inputs)
    room = oracle.ACCUMULATOR_MAX - 128 * inputs
    for outputs, rows in product((1, 10, 16, 17, 100), (1, 3)):
        x = rng.integers(-128, 128, (rows, inputs)).astype(I8)
        trits = rng.integers(-1, 2, (outputs, inputs))
        multiplier = rng.integers(0, 4096, outputs).astype(I16)
        check_logits(x, trits, rng.integers(-room, room + 1, outputs).astype(I32), multiplier)


@pytest.mark.parametrize("inputs", [1, 4032])
def test_extreme_logits(inputs):
    room = oracle.ACCUMULATOR_MAX - 128 * inputs
    x = np.stack([np.full(inputs, v) for v in (-128, 127)]).astype(I8)
    trits = np.stack([np.full(inputs, v) for v in (-1, 1, 0, -1)])
    bias = np.array([room, -room, room, -room], I32)
    multiplier = np.array([4095, 4095, 4095, 0], I16)
    check_logits(x, trits, bias, multiplier)
    scratch = Scratch(ternary.linear_scratch(inputs))
    packed = oracle.pack_weight(trits)
    for n, sign in product(range(4), (-1, 1)):
        beyond = bias.copy()
        beyond[n] = sign * (room + 1)
        refused("linear_logits", x, packed, beyond, multiplier, Out((2, 4), I32), scratch, match="bias")
    for value in (-1, 4096, 32767, -32768):
        wrong = multiplier.copy()
        wrong[3] = value
        refused("linear_logits", x, packed, bias, wrong, Out((2, 4), I32), scratch, match="multiplier")


def test_logits_refuse_the_rarest_bias():
    """|-2^31| has no int32."""
    for value in (-(2**31), 2**31 - 1):
        bias = np.array([value], I32)
        packed = oracle.pack_weight(np.ones((1, 1), int))
        scratch = Scratch(ternary.linear_scratch(1))
        refused("linear_logits", np.zeros((1, 1), I8), packed, bias, np.ones(1, I16), Out((1, 1), I32), scratch)

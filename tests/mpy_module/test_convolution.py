# SPDX-License-Identifier: MIT
"""convolution (SPEC 4.6): the same as patches and linear, one after the other."""

import numpy as np
import pytest
import ternary

from tests import oracle
from tests.mpy_module.kernel import I8, I16, U8, In, Out, Scratch, call, equal, on_every_target, prepare, refused
from tests.mpy_module.test_patches import noise

pytestmark = on_every_target


def tensors(inputs, outputs):
    """trits, bias, multiplier, shift."""
    rng = np.random.default_rng(inputs * 100 + outputs)
    trits, bias = rng.integers(-1, 2, (outputs, inputs)), rng.integers(-999, 1000, outputs).astype(I16)
    return trits, bias, rng.integers(0, 128, outputs).astype(I8), rng.integers(0, 9, -(-outputs // 16)).astype(U8)


def arguments(picture, window, outputs, room):
    """Of a call with patches for `room` rows, and what its output must be."""
    patches = oracle.patches(picture, *window)
    rows, columns, inputs = patches.shape
    trits, *scales = tensors(inputs, outputs)
    expected = oracle.linear(patches.reshape(rows * columns, -1), trits, *scales)
    out, memory = Out((rows * columns, outputs), I8), Scratch(min(room, rows) * columns * (-(-inputs // 16) * 16))
    work = Scratch(ternary.linear_scratch(inputs))
    return [picture, *picture.shape[1:], *window, oracle.pack_weight(trits), *scales, out, memory, work], expected


def check(picture, window, outputs, room=1):
    """The kernel gives what the oracle gives, and changes nothing else."""
    given, expected = arguments(picture, window, outputs, room)
    given = prepare(given)
    call("convolution", given)
    for argument in given:
        if isinstance(argument, In):
            assert argument.untouched(), "an input was modified"
        elif not isinstance(argument, int):
            argument.check()
    equal(given[10].array, expected.astype(I8))


# Whole vectors of channels, which PIE finds in the picture: an odd and an even number in a run and in what is inside.
@pytest.mark.parametrize("channels", [16, 32, 48])
@pytest.mark.parametrize(
    "window", [(1, 1, 0), (2, 1, 1), (2, 2, 0), (3, 1, 1), (3, 2, 1), (3, 3, 2), (5, 2, 4), (5, 1, 4)], ids=str
)
def test_whole_vectors_of_channels(window, channels):
    for height, width in ((7, 7), (4, 9), (3, 1)):
        if min(height, width) + 2 * window[2] >= window[0]:
            check(noise(height, width, channels), window, 32)


@pytest.mark.parametrize(("channels", "outputs"), [(1, 64), (3, 16), (5, 17), (16, 17), (20, 32)])
@pytest.mark.parametrize("room", [1, 2, 100])
def test_patches_are_cut_out(channels, outputs, room):
    """As many rows of them as there is room for."""
    check(noise(9, 5, channels), (3, 2, 1), outputs, room)
    check(noise(5, 6, channels), (2, 1, 0), outputs, room)


def test_most_inputs():
    check(noise(3, 3, 448), (3, 1, 1), 16)


def test_too_little_room_and_wrong_sizes_are_refused():
    given, _ = arguments(noise(4, 6, 16), (3, 2, 1), 16, 1)
    for position, wrong, match in (
        (11, Scratch(3 * 144 - 1), "patches has 431 bytes, needs at least 432"),
        (10, Out((2 * 3 * 16 - 1,), I8), "out has 95 bytes, needs 96"),
        (6, np.zeros(16, U8), "weight has 16 bytes"),
        (3, 7, "kernel is 7"),
        (5, 3, "padding is 3"),
    ):
        refused("convolution", *given[:position], wrong, *given[position + 1 :], match=match)

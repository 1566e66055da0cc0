# SPDX-License-Identifier: MIT
"""patches (SPEC 4.6)."""

import numpy as np
import pytest

from tests import oracle
from tests.mpy_module.kernel import I8, Out, on_every_target, refused, run

pytestmark = on_every_target

WINDOWS = (
    *((1, 1, 0), (2, 1, 0), (2, 2, 0), (2, 1, 1), (2, 2, 1), (3, 1, 1), (3, 2, 1), (3, 3, 0), (3, 3, 2), (3, 1, 2)),
    *((4, 3, 1), (5, 2, 4), (5, 4, 2), (7, 1, 6), (7, 4, 3), (11, 11, 10)),
)
SIDES = ((1, 1), (1, 2), (2, 1), (3, 3), (4, 7), (9, 5), (1, 13), (13, 2), (16, 15))


def noise(height, width, channels):
    """int8 [height, width, channels] without zeros, to distinguish pixels from padding."""
    picture = np.random.default_rng(height * 5000 + width).integers(-128, 127, (height, width, channels)).astype(I8)
    picture[picture >= 0] += 1
    return picture


def check(picture, *window):
    """The kernel gives what the oracle gives."""
    expected = oracle.patches(picture, *window)
    out = run("patches", picture, *picture.shape[1:], *window, 0, Out(expected.shape, I8))
    assert np.array_equal(out, expected)
    return out


@pytest.mark.parametrize("channels", [1, 3, 5, 33])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_patches(window, channels):
    kernel, _, padding = window
    checked = 0
    for height, width in SIDES:
        picture = noise(height, width, channels)
        if min(height, width) + 2 * padding >= kernel:
            check(picture, *window)
            checked += 1
        else:
            refused(
                "patches", picture, width, channels, *window, 0, Out((kernel * kernel * channels,), I8), match="kernel"
            )
    assert checked


@pytest.mark.parametrize("window", [(2, 2, 0), (3, 2, 1), (3, 1, 2), (5, 2, 4)], ids=str)
def test_some_rows_of_patches(window):
    """Some rows, and one row too many."""
    picture = noise(9, 5, 3)
    expected = check(picture, *window)
    rows = len(expected)
    for row in range(rows + 1):
        for count in range(1, rows - row + 1):
            out = run("patches", picture, 5, 3, *window, row, Out((count, *expected.shape[1:]), I8))
            assert np.array_equal(out, expected[row : row + count])
        more = Out((rows - row + 1, *expected.shape[1:]), I8)
        refused("patches", picture, 5, 3, *window, row, more, match=f"row is {row}, needs" if row else "out has")


@pytest.mark.parametrize(("kernel", "channels"), [(63, 1), (1, 4032), (36, 3), (2, 1008), (3, 448)])
def test_patches_of_most_inputs(kernel, channels):
    """K is 4032, or as close as a square kernel comes."""
    picture = noise(3, 2, channels)
    check(picture, kernel, max(1, kernel // 2), kernel - 1)
    too_many = Out((1,), I8)
    refused(
        "patches", picture, 2, channels, kernel + 1, 1, kernel, 0, too_many, match=f"kernel is .* needs 1..{kernel}"
    )


def test_one_pixel_is_at_every_place_of_a_kernel():
    out = check(np.array([[[7]]], I8), 3, 1, 2)
    assert np.array_equal(out.reshape(9, 9), 7 * np.eye(9)[::-1])


def test_patches_without_overlap_are_a_rearranged_picture():
    picture = noise(28, 28, 3)
    out = check(picture, 7, 7, 0)
    assert np.array_equal(out.reshape(4, 4, 7, 7, 3), picture.reshape(4, 7, 4, 7, 3).transpose(0, 2, 1, 3, 4))


def test_pixels_that_no_patch_reaches_do_not_count():
    picture = noise(9, 11, 2)
    expected = check(picture, 4, 4, 0)
    picture[8:], picture[:, 8:] = 1, 1
    assert np.array_equal(check(picture, 4, 4, 0), expected)


@pytest.mark.parametrize("shape", [(4096, 3, 1), (3, 4096, 1)])
def test_patches_of_the_longest_pictures(shape):
    """Compared by columns, as the oracle is slow."""
    picture = noise(*shape)
    rows, columns, _ = ((side + 1) // 2 for side in shape)
    out = run("patches", picture, *shape[1:], 3, 2, 1, 0, Out((rows, columns, 9), I8))
    padded = np.pad(picture[:, :, 0], 1)
    for ky, kx in np.ndindex(3, 3):
        assert np.array_equal(out[..., 3 * ky + kx], padded[ky:, kx:][: 2 * rows : 2, : 2 * columns : 2])


WRONG = {
    "width": (0, -1, 5, 7, 4097, 2**31 - 1),
    "channels": (0, -1, 5, 4033, 2**31 - 1),
    "kernel": (0, -1, 1, 6, 64, 46341, 2**31 - 1),
    "stride": (0, -1, 4, 2**31 - 1),
    "padding": (-1, 0, 2, 3, 2**31 - 1),
    "row": (-1, 1, 2, 2**31 - 1, -(2**31)),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_patches_refuse_numbers(name, value):
    """Every number outside its range, or one that the sizes do not fit."""
    numbers = {"width": 6, "channels": 2, "kernel": 3, "stride": 2, "padding": 1, "row": 0}
    picture = noise(4, 6, 2)
    check(picture, 3, 2, 1)
    numbers[name] = value
    refused("patches", picture, *numbers.values(), Out((2, 3, 18), I8), match="patches: ")


@pytest.mark.parametrize("size", [1, 17, 107, 109, 216])
def test_patches_refuse_outputs(size):
    needs = "108" if size > 108 and size % 54 == 0 else "a multiple of 54"
    refused("patches", noise(4, 6, 2), 6, 2, 3, 2, 1, 0, Out((size,), I8), match=f"out has {size} bytes, needs {needs}")


def test_patches_refuse_pictures():
    for size in (1, 11, 47, 49):
        picture = np.zeros(size, I8)
        refused("patches", picture, 6, 2, 3, 2, 1, 0, Out((108,), I8), match="picture .* needs a multiple of 12")
    refused("patches", np.zeros(4097, I8), 1, 1, 1, 1, 0, 0, Out((4097,), I8), match="picture .* needs 4096")
    refused("patches", np.zeros((2, 9), I8), 9, 1, 3, 1, 0, 0, Out((9,), I8), match="kernel is 3, needs 1..2")
    refused("patches", np.zeros((9, 2), I8), 2, 1, 5, 5, 1, 0, Out((25,), I8), match="kernel is 5, needs 1..4")

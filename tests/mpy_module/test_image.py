# SPDX-License-Identifier: MIT
"""convert, rgb565, yuv422, bgr888, resize, normalize (SPEC 3)."""

import numpy as np
import pytest
import ternary

from tests import oracle
from tests.mpy_module.kernel import (
    I8,
    I16,
    I32,
    U8,
    Out,
    Scratch,
    Updated,
    equal,
    host_only,
    on_every_target,
    refused,
    run,
)

pytestmark = on_every_target


def random_picture(height, width, channels):
    """uint8 [h, w, C] with rails, noise and the two grey values of a checkerboard."""
    rng = np.random.default_rng(height * 5000 + width)
    return rng.choice(np.array([0, 1, 2, 100, 128, 254, 255], U8), (height, width, channels))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("out_channels", [1, 3])
def test_convert(channels, out_channels):
    for height, width in ((1, 1), (5, 7), (16, 33)):
        picture = random_picture(height, width, channels)
        out = run("convert", picture, channels, Out((height, width, out_channels), U8), out_channels)
        equal(out, oracle.convert(picture, out_channels))


def test_convert_every_level():
    levels = np.arange(256).astype(U8)
    colours = np.stack([levels, np.roll(levels, 85), np.roll(levels, 170)], axis=1)
    greys = np.repeat(levels, 3).reshape(256, 3)
    picture = np.concatenate([colours, colours[:, ::-1], greys])[None]
    out = run("convert", picture, 3, Out((1, 768, 1), U8), 1)
    equal(out, oracle.convert(picture, 1))
    assert np.array_equal(out[0, 512:, 0], levels)


def test_convert_rounds():
    """Sums of 65536 k + 32767 (down) and 65536 k + 32768 (up) before the constant is added."""
    picture = np.array([[[0, 62, 229], [2, 185, 29], [0, 52, 184], [5, 57, 189]]], U8)
    sums = picture[0].astype(int) @ [19595, 38470, 7471]
    assert (sums % 65536).tolist() == [32767, 32767, 32768, 32768]
    out = run("convert", picture, 3, Out((1, 4, 1), U8), 1)
    assert out.ravel().tolist() == (sums // 65536 + [0, 0, 1, 1]).tolist()


def test_convert_refuses():
    picture = np.zeros((2, 3, 3), U8)
    for channels, out_channels, size in (
        (3, 1, 5),
        (3, 1, 7),
        (3, 2, 12),
        (2, 1, 9),
        (0, 1, 6),
        (3, 0, 6),
        (-3, 1, 6),
    ):
        refused("convert", picture, channels, Out((size,), U8), out_channels)


@pytest.mark.parametrize("order", range(4))
def test_rgb565_every_word(order):
    words = np.arange(65536)
    pair = [words & 255, words >> 8] if order % 2 else [words >> 8, words & 255]
    pixels = np.stack(pair, axis=-1).astype(U8)[None]
    out = run("rgb565", pixels, order, Out((1, 65536, 3), U8))
    equal(out, oracle.rgb565(pixels, order))
    ends = [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    first, green, last = ends[::-1] if order >= 2 else ends
    assert out[0, [0, 0xF800, 0x07E0, 0x001F, 0xFFFF]].tolist() == [[0, 0, 0], first, green, last, [255, 255, 255]]


def test_rgb565_refuses():
    for count, size in ((2, 2), (2, 4), (3, 3), (1, 3), (4, 12)):
        refused("rgb565", np.zeros(count, U8), 0, Out((size,), U8))
    for order in (-1, 4):
        refused("rgb565", np.zeros(2, U8), order, Out((3,), U8))


@pytest.mark.parametrize("order", range(4))
def test_yuv422(order):
    levels = np.array([0, 1, 16, 76, 127, 128, 129, 150, 235, 254, 255])
    u, v = (each.ravel() for each in np.meshgrid(levels, levels))
    pixels = np.stack([np.roll(u, 7), u, np.roll(v, 3), v], axis=-1).astype(U8)[None]
    equal(run("yuv422", pixels, order, Out((1, 242, 3), U8)), oracle.yuv422(pixels, order))


def test_yuv422_primary_colours():
    """Y, U, V of ITU-R BT.601 with full range, rounded: red, green, blue, white, to within a level."""
    pixels = np.array([[[76, 85, 76, 255], [150, 44, 150, 21], [29, 255, 29, 107], [255, 128, 255, 128]]], U8)
    out = run("yuv422", pixels, 0, Out((1, 8, 3), U8))[0, ::2].astype(int)
    assert np.abs(out - [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]).max() <= 1


def test_yuv422_refuses():
    for count, size in ((4, 3), (4, 5), (6, 6), (2, 3), (8, 6)):
        refused("yuv422", np.zeros(count, U8), 0, Out((size,), U8))
    for order in (-1, 4):
        refused("yuv422", np.zeros(4, U8), order, Out((6,), U8))


def test_bgr888():
    picture = random_picture(5, 7, 3)
    equal(run("bgr888", picture, Out(picture.shape, U8)), picture[..., ::-1])
    for count, size in ((2, 2), (3, 6), (6, 3), (4, 4)):
        refused("bgr888", np.zeros(count, U8), Out((size,), U8))


def test_bgr888_in_place():
    picture = random_picture(4, 4, 3)
    buffer = bytearray(picture.tobytes())
    ternary.bgr888(buffer, buffer)
    assert buffer == picture[..., ::-1].tobytes()


def check_resize(picture, left, top, side, size):
    """The kernel gives what the oracle gives."""
    _, width, channels = picture.shape
    scratch = Scratch(ternary.resize_scratch(side, channels))
    out = Out((size, size, channels), U8)
    out = run("resize", picture, width, channels, left, top, side, out, size, scratch)
    equal(out, oracle.resize(oracle.crop(picture, left, top, side), size))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [1, 2, 3, 16, 17, 28, 41])
def test_resize(side, channels):
    picture = random_picture(side, side, channels)
    for size in (1, 2, 3, 15, 16, 28, 40, 41, 42, 97):
        check_resize(picture, 0, 0, side, size)


@pytest.mark.parametrize("channels", [1, 3])
def test_resize_crops(channels):
    picture = random_picture(37, 50, channels)
    for left, top, side in (
        (0, 0, 37),
        (13, 0, 37),
        (6, 0, 37),
        (49, 36, 1),
        (0, 36, 1),
        (20, 10, 5),
        (3, 4, 28),
    ):
        for size in (1, 7, 28, side):
            check_resize(picture, left, top, side, size)


@pytest.mark.parametrize("value", [0, 1, 127, 255])
def test_resize_keeps_a_constant(value):
    check_resize(np.full((224, 224, 1), value, U8), 0, 0, 224, 28)
    check_resize(np.full((28, 28, 1), value, U8), 0, 0, 28, 224)


def test_resize_of_long_lines():
    picture = random_picture(64, 4096, 1)
    check_resize(picture, 4032, 0, 64, 28)
    tall = random_picture(4096, 30, 3)
    check_resize(tall, 0, 4066, 30, 28)


@host_only("the chip has no memory for 4096 x 4096 pixels")
def test_resize_to_the_largest_square():
    check_resize(random_picture(1, 1, 1), 0, 0, 1, 4096)


def test_resize_at_the_bound():
    """2048 -> 1: side * side // size = 2^22, all pixels 255."""
    check_resize(np.full((2048, 2048, 1), 255, U8), 0, 0, 2048, 1)


@host_only("the chip has no memory for 4096 x 4096 pixels")
def test_resize_at_the_bound_of_the_largest_square():
    """4096 -> 4 as above, and 3, which is beyond."""
    picture = np.full((4096, 4096, 1), 255, U8)
    check_resize(picture, 0, 0, 4096, 4)
    out, scratch = Out((3, 3, 1), U8), Scratch(ternary.resize_scratch(4096, 1))
    refused("resize", picture, 4096, 1, 0, 0, 4096, out, 3, scratch)


def test_resize_refuses():
    picture = np.zeros((10, 12, 1), U8)
    good = [12, 1, 1, 0, 10]
    wrong = [(0, v) for v in (0, -12, 11, 4097)] + [(1, v) for v in (0, -1, 2, 5)]
    wrong += [(2, v) for v in (-1, 3, 2**31 - 1)] + [(3, v) for v in (-1, 1, 2**31 - 1)]
    wrong += [(4, v) for v in (0, -1, 11, 2**31 - 1)]
    size = ternary.resize_scratch(10, 1)
    for position, value in wrong:
        arguments = [*good[:position], value, *good[position + 1 :]]
        refused("resize", picture, *arguments, Out((5, 5), U8), 5, Scratch(size))
    for target in (0, -5, 4, 6, 4097):
        refused("resize", picture, *good, Out((5, 5), U8), target, Scratch(size))
    refused("resize", np.zeros(119, U8), *good, Out((5, 5), U8), 5, Scratch(size))
    if size:
        refused("resize", picture, *good, Out((5, 5), U8), 5, Scratch(size - 1))


@pytest.mark.parametrize("channels", [1, 3])
def test_normalize(channels):
    rng = np.random.default_rng(channels)
    levels = np.arange(256).astype(U8)
    pixels = np.stack([np.roll(levels, 80 * c) for c in range(channels)], axis=1)
    for _ in range(20):
        multiplier = rng.integers(0, 2 ** rng.integers(1, 23), channels).astype(I32)
        offset = rng.integers(-(2 ** rng.integers(1, 31)), 2 ** rng.integers(1, 31), channels).astype(I32)
        out = run("normalize", pixels, multiplier, offset, Out(pixels.shape, I8))
        equal(out, oracle.normalize(pixels, multiplier, offset))


def test_normalize_extremes():
    pixels = np.arange(256).astype(U8)[:, None]
    for multiplier in (0, 1, 2**22 - 1):
        for offset in (-(2**30), -1, 0, 2**15, 2**30 - 1):
            numbers = np.array([multiplier], I32), np.array([offset], I32)
            equal(run("normalize", pixels, *numbers, Out((256, 1), I8)), oracle.normalize(pixels, *numbers))


def test_normalize_in_place():
    levels = np.arange(256).astype(U8)
    numbers = np.array([50000], I32), np.array([-7000000], I32)
    pixels = Updated(levels)
    ternary.normalize(pixels.array, *numbers, pixels.array)
    pixels.check()
    equal(pixels.array.view(I8), oracle.normalize(levels[:, None], *numbers)[:, 0])


def test_normalize_refuses():
    pixels, good = np.zeros((4, 3), U8), np.zeros(3, I32)
    for multiplier, offset in (
        (-1, 0),
        (2**22, 0),
        (0, -(2**30) - 1),
        (0, 2**30),
        (2**31 - 1, 0),
        (0, -(2**31)),
    ):
        numbers = good.copy(), good.copy()
        numbers[0][2], numbers[1][2] = multiplier, offset
        refused("normalize", pixels, *numbers, Out((4, 3), I8))
    refused("normalize", pixels, good, good[:2], Out((4, 3), I8))
    refused("normalize", pixels, good, good, Out((11,), I8))
    refused("normalize", pixels[:3, :2].copy(), good, good, Out((5,), I8))
    refused("normalize", pixels, good.astype(I16), good, Out((4, 3), I8))

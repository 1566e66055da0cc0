# SPDX-License-Identifier: MIT
"""PGM and PPM files, and the way from a picture to the network's int8."""

import ftervit
import numpy as np
import pytest

from tests import oracle


def write(path, header, pixels=b""):
    path.write_bytes(header + pixels)
    return str(path)


def test_reads_grey_and_colour(tmp_path):
    grey = ftervit.read_image(write(tmp_path / "x.pgm", b"P5\n3 2\n255\n", b"abcdef"))
    assert (grey.width, grey.height, grey.channels, bytes(grey.pixels)) == (3, 2, 1, b"abcdef")
    colour = ftervit.read_image(write(tmp_path / "x.ppm", b"P6 1 2 255 ", b"abcdef"))
    assert (colour.width, colour.height, colour.channels, bytes(colour.pixels)) == (1, 2, 3, b"abcdef")


def test_comments_and_white_space(tmp_path):
    image = ftervit.read_image(write(tmp_path / "x.pgm", b"P5# one\n #two\n 1\t\r\n1 #three\n255\n", b"z"))
    assert bytes(image.pixels) == b"z"


@pytest.mark.parametrize(
    ("header", "pixels", "words"),
    [
        (b"", b"", "P5 or P6"),
        (b"P2\n1 1\n255\n", b"0", "P5 or P6"),
        (b"\xff\xd8\xff", b"", "P5 or P6"),
        (b"P5\n1", b"", "header ends early"),
        (b"P5\n1 # no end", b"", "header ends early"),
        (b"P5\nx 1\n255\n", b"a", "width b'x'"),
        (b"P5\n1 -1\n255\n", b"a", "height b'-1'"),
        (b"P5\n1 1\n65535\n", b"ab", "maximum 65535"),
        (b"P5\n0 1\n255\n", b"", "0 x 1 pixels"),
        (b"P5\n4097 1\n255\n", b"", "4097 x 1 pixels"),
        (b"P5\n2 2\n255\n", b"abc", "3 bytes of pixels, needs 4"),
    ],
)
def test_bad_files_are_named(tmp_path, header, pixels, words):
    path = write(tmp_path / "bad.pgm", header, pixels)
    with pytest.raises(ValueError) as caught:
        ftervit.read_image(path)
    assert str(caught.value).startswith(path)
    assert words in str(caught.value)


def test_pixels_must_fit_the_size():
    with pytest.raises(ValueError, match="5 bytes, need 6"):
        ftervit.Image(bytes(5), 3, 2, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("out_channels", [1, 3])
@pytest.mark.parametrize(("width", "height"), [(28, 28), (40, 31), (9, 17), (1, 5)])
def test_square_follows_the_spec(channels, out_channels, width, height):
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, channels), np.uint8)
    image = ftervit.Image(pixels.tobytes(), width, height, channels)
    left, top, side = oracle.middle(width, height)
    expected = oracle.resize(oracle.crop(oracle.convert(pixels, out_channels), left, top, side), 28)
    assert np.array_equal(np.array(image.square(28, out_channels)).reshape(28, 28, out_channels), expected)


def test_show_prints_dark_and_light(capsys):
    pixels = bytes([0] * 8 + [255] * 8)
    ftervit.Image(pixels, 4, 4, 1).show(columns=8)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0] == " " * 8
    assert lines[-1] == "@" * 8


def test_a_frame_of_a_camera():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 2), np.uint8)
    image = ftervit.Image.from_rgb565(pixels.tobytes(), 6, 4)
    assert (image.width, image.height, image.channels) == (6, 4, 3)
    assert bytes(image.pixels) == oracle.rgb565(pixels).tobytes()
    with pytest.raises(ValueError, match="47 bytes, RGB565 needs 48"):
        ftervit.Image.from_rgb565(bytes(47), 6, 4)

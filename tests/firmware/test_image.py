# SPDX-License-Identifier: MIT
"""PGM and PPM files, and the way from a picture to the network's int8."""

import re
import shutil
from array import array

import ftervit
import numpy as np
import PIL.Image
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
        (b"\xff\xd8\xff", b"", ": no whole JPEG (cannot identify image file"),
        (b"\x89PNG", b"", "P5 or P6"),
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


@pytest.mark.parametrize(("order", "name"), [*enumerate(("big", "little", "big-bgr", "little-bgr"))])
def test_rgb565_frames(order, name):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 2), np.uint8)
    image = ftervit.Image.from_rgb565(pixels.tobytes(), 6, 4, name)
    assert (image.width, image.height, image.channels) == (6, 4, 3)
    assert bytes(image.pixels) == oracle.rgb565(pixels, order).tobytes()


@pytest.mark.parametrize(("order", "name"), [*enumerate(("yuyv", "uyvy", "yvyu", "vyuy"))])
def test_yuv422_frames(order, name):
    pixels = np.random.default_rng(1).integers(0, 256, (4, 3, 4), np.uint8)
    image = ftervit.Image.from_yuv422(pixels.tobytes(), 6, 4, name)
    assert (image.width, image.height, image.channels) == (6, 4, 3)
    assert bytes(image.pixels) == oracle.yuv422(pixels, order).tobytes()


def test_rgb888_frames():
    pixels = np.random.default_rng(2).integers(0, 256, (4, 6, 3), np.uint8)
    assert bytes(ftervit.Image.from_rgb888(pixels.tobytes(), 6, 4).pixels) == pixels.tobytes()
    assert bytes(ftervit.Image.from_rgb888(pixels.tobytes(), 6, 4, "bgr").pixels) == pixels[..., ::-1].tobytes()


def test_orders_by_default():
    """High byte first; luma first."""
    assert bytes(ftervit.Image.from_rgb565(b"\xf8\x00", 1, 1).pixels) == b"\xff\0\0"
    assert bytes(ftervit.Image.from_yuv422(b"\xff\x80\0\x80", 2, 1).pixels) == b"\xff\xff\xff\0\0\0"


@pytest.mark.parametrize(
    ("make", "arguments", "words"),
    [
        ("from_rgb565", (bytes(47), 6, 4), "pixels: 47 bytes, RGB565 needs 48"),
        (
            "from_rgb565",
            (bytes(48), 6, 4, "middle"),
            "order: 'middle', must be one of big, little, big-bgr, little-bgr",
        ),
        ("from_yuv422", (bytes(47), 6, 4), "pixels: 47 bytes, YUV422 needs 48"),
        ("from_yuv422", (bytes(6), 3, 1), "width: 3, YUV422 needs an even one"),
        ("from_yuv422", (bytes(48), 6, 4, "big"), "order: 'big', must be one of yuyv, uyvy, yvyu, vyuy"),
        ("from_rgb888", (bytes(71), 6, 4), "pixels: 71 bytes, need 72"),
        ("from_rgb888", (bytes(71), 6, 4, "bgr"), "pixels: 71 bytes, RGB888 needs 72"),
        ("from_rgb888", (bytes(72), 6, 4, 0), "order: 0, must be one of rgb, bgr"),
    ],
)
def test_frames_that_are_refused(make, arguments, words):
    with pytest.raises(ValueError) as caught:
        getattr(ftervit.Image, make)(*arguments)
    assert str(caught.value) == words


@pytest.mark.parametrize(("channels", "name"), [(1, "x.pgm"), (3, "x.ppm")])
def test_saved_pictures_are_read_again_and_by_others(tmp_path, channels, name):
    pixels = np.random.default_rng(3).integers(0, 256, (5, 7, channels), np.uint8)
    path = str(tmp_path / name)
    ftervit.Image(pixels.tobytes(), 7, 5, channels).save(path)
    image = ftervit.read_image(path)
    assert (image.width, image.height, image.channels) == (7, 5, channels)
    assert bytes(image.pixels) == pixels.tobytes()
    with PIL.Image.open(path) as other:
        assert np.array_equal(np.asarray(other).reshape(pixels.shape), pixels)


def test_a_frame_of_signed_bytes_is_saved(tmp_path):
    """What the camera's module gives."""
    path = str(tmp_path / "x.pgm")
    ftervit.Image(memoryview(array("b", [-1, -128, 127])), 3, 1, 1).save(path)
    assert bytes(ftervit.read_image(path).pixels) == b"\xff\x80\x7f"


def test_saving_where_it_cannot_be(tmp_path):
    image = ftervit.Image(bytes(6), 3, 2, 1)
    with pytest.raises(OSError, match=r"no/x\.pgm cannot be written"):
        image.save(str(tmp_path / "no" / "x.pgm"))


def test_saving_on_a_full_disk_leaves_no_half_file(own_board):
    script = """
import vfs
from ftervit import Image
class Disk:
    def __init__(self): self.data = bytearray(128 * 512)
    def readblocks(self, n, buf): buf[:] = self.data[n * 512:n * 512 + len(buf)]
    def writeblocks(self, n, buf): self.data[n * 512:n * 512 + len(buf)] = buf
    def ioctl(self, op, arg): return {4: 128, 5: 512}.get(op, 0)
disk = Disk()
vfs.VfsFat.mkfs(disk)
vfs.mount(disk, "/disk")
import os
for _ in range(2):
    try:
        Image(bytes(70000), 700, 100, 1).save("/disk/x.pgm")
    except OSError as error:
        print(*error.args)
    print(os.listdir("/disk"))
Image(bytes(300), 30, 10, 1).save("/disk/x.pgm")
print(os.stat("/disk/x.pgm")[6])
"""
    line = "28 /disk/x.pgm cannot be written, it needs 70015 bytes"
    assert own_board.mpremote("exec", script).stdout.splitlines() == [line, "[]"] * 2 + ["313"]


@pytest.mark.parametrize("pixels", [b"\nab", b"zab"])
def test_one_byte_of_white_space_ends_the_header(tmp_path, pixels):
    """As Netpbm says: what follows CR is a pixel, and Pillow agrees."""
    path = write(tmp_path / "x.pgm", b"P5 3 1 255\r", pixels)
    assert bytes(ftervit.read_image(path).pixels) == pixels
    with PIL.Image.open(path) as other:
        assert other.tobytes() == pixels


def test_crlf_after_the_header_is_no_silent_shift(tmp_path):
    path = write(tmp_path / "x.pgm", b"P5\r\n3 1\r\n255\r\n", b"abc")
    with pytest.raises(ValueError) as caught:
        ftervit.read_image(path)
    assert str(caught.value) == f"{path}: CR LF after the header, where one byte of white space must stand"


def test_more_than_one_picture_in_a_file(tmp_path):
    """Netpbm allows it: the first one counts."""
    first = b"P5\n3 1\n255\nabc"
    assert bytes(ftervit.read_image(write(tmp_path / "x.pgm", first, first)).pixels) == b"abc"


def test_a_folder_is_no_picture(board):
    script = "import os, ftervit\nos.mkdir('x.pgm')\ntry: ftervit.read_image('x.pgm')\n"
    script += "except OSError as error: print(error)\nfinally: os.rmdir('x.pgm')"
    assert re.fullmatch(r"\[Errno 21\] .*x\.pgm is a folder\s*", board.mpremote("exec", script).stdout)


def jpeg_file(tmp_path, mode="RGB", **options):
    path = tmp_path / "x.jpg"
    pixels = np.random.default_rng(4).integers(0, 256, (3, 5, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    PIL.Image.fromarray(pixels).convert(mode).save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_on_cpython_is_pillows(tmp_path, mode):
    path = jpeg_file(tmp_path, mode)
    image = ftervit.read_image(str(path))
    assert (image.width, image.height, image.channels) == (40, 24, 3)
    with PIL.Image.open(path) as other:
        assert bytes(image.pixels) == other.convert("RGB").tobytes()


def test_a_cut_jpeg(tmp_path):
    path = jpeg_file(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"x\.jpg: no whole JPEG \("):
        ftervit.read_image(str(path))


def test_jpeg_where_nothing_decodes_it(own_board, tmp_path):
    shutil.copy(jpeg_file(tmp_path), own_board.flash / "x.jpg")
    script = "import ftervit\ntry: ftervit.read_image('x.jpg')\nexcept ValueError as error: print(error)"
    line = "x.jpg: a JPEG, which is not decoded here; on the PC `trainer image` makes a PPM of it\n"
    assert own_board.mpremote("exec", script).stdout == line


ROM = """
def size(data, work):
    assert len(work) == 3100
    if bytes(data[-2:]) != b"\\xff\\xd9":
        raise ValueError("TJpgDec: error 2")
    return {size}
def decode(data, work, out):
    for i in range(len(out)):
        out[i] = i % 251
"""


@pytest.mark.parametrize(
    ("size", "said"),
    [((40, 24), "40 24 3 True"), ((5000, 24), "x.jpg: no whole baseline JPEG in colour (5000 x 24 pixels, sides must")],
)
def test_jpeg_of_a_rom_is_used(own_board, tmp_path, size, said):
    """With a stand-in for the module ternary_jpeg: what is asked of it, and what becomes of its pixels."""
    shutil.copy(jpeg_file(tmp_path), own_board.flash / "x.jpg")
    (own_board.flash / "cut.jpg").write_bytes(jpeg_file(tmp_path).read_bytes()[:-2])
    (own_board.flash / "rom.py").write_text(ROM.format(size=size))
    script = """
import rom, sys
sys.modules["ternary_jpeg"] = rom
from ftervit import read_image
for name in ("x.jpg", "cut.jpg"):
    try:
        image = read_image(name)
        right = bytes(image.pixels) == bytes([i % 251 for i in range(2880)])
        print(image.width, image.height, image.channels, right)
    except ValueError as error:
        print(error)
"""
    lines = own_board.mpremote("exec", script).stdout.splitlines()
    assert lines[0].startswith(said)
    assert lines[1] == "cut.jpg: no whole baseline JPEG in colour (TJpgDec: error 2)"

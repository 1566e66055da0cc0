# SPDX-License-Identifier: MIT
"""jpeg.c, the glue to TJpgDec: it reads the data it has, writes the picture it has room for, and nothing else.

The decoder itself is in the chip's ROM and was not run. Its stand-in here asks for data and hands over rectangles as
the ROM's documentation says, and as it does not.
"""

import ctypes
import subprocess

import numpy as np
import pytest

from host_sim import build
from tests.conftest import ROOT

HEADERS = ROOT / "tests" / "firmware" / "idf" / "components" / "esp_rom" / "include"
WORK = 3100
# Reads a header of width, height, result of either function and rectangles, then skips two bytes and hands over the
# rectangles: their pixels count up.
STAND_IN = """
#include <stdlib.h>
#include <string.h>
#include "esp32s3/rom/tjpgd.h"
static UINT (*input)(JDEC *, BYTE *, UINT);
static WORD number(JDEC *d) {
    BYTE b[2] = {0, 0};
    if (input(d, b, 2) != 2) return 0;
    return (WORD)(b[0] | b[1] << 8);
}
JRESULT jd_prepare(JDEC *d, UINT (*in)(JDEC *, BYTE *, UINT), void *work, UINT size, void *device) {
    d->device = device;
    input = in;
    memset(work, 0xA5, size);
    d->width = number(d);
    d->height = number(d);
    return (JRESULT)number(d);
}
JRESULT jd_decomp(JDEC *d, UINT (*out)(JDEC *, void *, JRECT *), BYTE scale) {
    if (scale || input(d, NULL, 2) != 2) return JDR_INP;
    WORD count = number(d);
    BYTE value = 0;
    for (WORD i = 0; i < count; i++) {
        JRECT r;
        r.left = number(d), r.right = number(d), r.top = number(d), r.bottom = number(d);
        long columns = r.right - r.left + 1L, rows = r.bottom - r.top + 1L;
        long bytes = columns > 0 && rows > 0 ? 3 * columns * rows : 1;
        BYTE *pixels = malloc((size_t)bytes);
        for (long k = 0; k < bytes; k++) pixels[k] = value++;
        UINT more = out(d, pixels, &r);
        free(pixels);
        if (!more) return JDR_INTR;
    }
    return JDR_OK;
}
"""


class Picture(ctypes.Structure):
    """ternary_jpeg_picture."""

    _fields_ = (
        ("data", ctypes.c_char_p),
        ("size", ctypes.c_size_t),
        ("work", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("out_size", ctypes.c_size_t),
        ("width", ctypes.c_uint32),
        ("height", ctypes.c_uint32),
    )


def compiled(folder, *flags):
    """jpeg.c with the stand-in, its addresses and undefined behaviour checked where the compiler can."""
    (folder / "stand_in.c").write_text(STAND_IN)
    sources = [build.SOURCE / "jpeg.c", folder / "stand_in.c"]
    options = ["-std=c99", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-O1", "-DTERNARY_ESP32", *flags]
    options += ["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
    command = [build.compiler(), *options, f"-I{build.SOURCE}", f"-I{HEADERS}", *sources, "-o", folder / "jpeg.so"]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(folder / "jpeg.so")).ternary_jpeg_decode


@pytest.fixture(scope="module")
def glue(tmp_path_factory):
    """ternary_jpeg_decode."""
    return compiled(tmp_path_factory.mktemp("jpeg"))


def run(glue, numbers, out_size, width=0, cut=0):
    """(result, width, height, out) of a picture of these numbers; fails where anything else is written."""
    data = np.array(numbers, "<u2").tobytes()
    data = data[: len(data) - cut]
    guard = 64
    work = np.full(WORK + guard, 77, np.uint8)
    out = np.full(out_size + 2 * guard, 77, np.uint8)
    place = out.ctypes.data + guard if out_size else None
    picture = Picture(data, len(data), work.ctypes.data, place, out_size, 0, 0)
    result = glue(ctypes.byref(picture))
    assert (work[WORK:] == 77).all() and (out[:guard] == 77).all() and (out[guard + out_size :] == 77).all()
    return result, picture.width, picture.height, out[guard : guard + out_size]


def test_the_size_alone(glue):
    assert run(glue, [5, 3, 0], 0)[:3] == (0, 5, 3)


def test_rectangles_lie_where_they_belong(glue):
    """Two units of 3 x 2 and two below, of which right and bottom ones are cut, as TJpgDec cuts them."""
    rectangles = [(0, 2, 0, 1), (3, 4, 0, 1), (0, 2, 2, 2), (3, 4, 2, 2)]
    numbers = [5, 3, 0, 0, len(rectangles), *(side for each in rectangles for side in each)]
    result, _, _, out = run(glue, numbers, 45)
    expected, value = np.zeros((3, 5, 3), np.uint8), 0
    for left, right, top, bottom in rectangles:
        shape = (bottom - top + 1, right - left + 1, 3)
        expected[top : bottom + 1, left : right + 1] = value + np.arange(np.prod(shape)).reshape(shape)
        value += int(np.prod(shape))
    assert result == 0
    assert np.array_equal(out.reshape(3, 5, 3), expected)


@pytest.mark.parametrize(
    ("rectangle", "result"),
    [
        ((3, 9, 0, 7), 0),  # beyond both edges
        ((0, 4, 5, 9), 0),  # below the picture
        ((5, 7, 0, 0), 1),  # beside it
        ((2, 1, 0, 0), 1),
        ((0, 0, 2, 1), 1),
        ((65535, 65535, 0, 0), 1),
        ((0, 0, 65535, 65535), 0),
        ((0, 65535, 0, 2), 0),
    ],
)
def test_rectangles_beyond_the_picture_write_nothing_there(glue, rectangle, result):
    assert run(glue, [5, 3, 0, 0, 1, *rectangle], 45)[0] == result


@pytest.mark.parametrize("number", range(1, 9))
def test_results_of_the_decoder_are_passed_on(glue, number):
    assert run(glue, [5, 3, number], 45)[0] == number


@pytest.mark.parametrize("out_size", [44, 46, 15])
def test_room_of_another_size_is_refused(glue, out_size):
    assert run(glue, [5, 3, 0, 0, 0], out_size)[0] == -2


def test_the_largest_sides_do_not_wrap(glue):
    """3 * 65286 * 21929 is 2^32 + 2786."""
    assert run(glue, [65286, 21929, 0, 0, 0], 2786)[0] == -2


@pytest.mark.parametrize("cut", range(1, 14))
def test_data_that_ends_early(glue, cut):
    """Nothing beyond it is read: numbers that are missing are 0."""
    result, width, height, _ = run(glue, [5, 3, 0, 0, 1, 0, 0], 45, cut=cut)
    assert result in (0, 2, -2) and width in (0, 5) and height in (0, 3)


def test_without_the_header_there_is_no_decoder(tmp_path):
    source = build.SOURCE / "jpeg.c"
    command = [build.compiler(), "-shared", "-fPIC", "-O1", "-DTERNARY_ESP32", source, "-o", tmp_path / "alone.so"]
    subprocess.run(command, check=True)
    glue = ctypes.CDLL(str(tmp_path / "alone.so")).ternary_jpeg_decode
    assert run(glue, [5, 3, 0], 0)[0] == -1

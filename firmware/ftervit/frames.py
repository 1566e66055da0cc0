# SPDX-License-Identifier: MIT
"""Cameras' frames and JPEGs as pixels of an Image, and Images as files; Image's methods say what these functions do."""

from os import remove

import ternary

from ftervit.architecture import MAX_PICTURE
from ftervit.modelfile import check_room

# Orders of bytes by the numbers of SPEC 3.2: RGB565 as Python names byte orders, YUV422 by its codes.
RGB565_ORDERS = "big", "little", "big-bgr", "little-bgr"
YUV422_ORDERS = "yuyv", "uyvy", "yvyu", "vyuy"
RGB888_ORDERS = "rgb", "bgr"
JPEG_WORK = 3100  # bytes, as in mpy_module/jpeg.h
ENOSPC = 28  # MicroPython's errno lacks it


def _order(order, orders):
    """The number of a name; a ValueError lists all names."""
    if order not in orders:
        raise ValueError("order: %r, must be one of %s" % (order, ", ".join(orders)))
    return orders.index(order)


def _room(pixels, width, height, size, name):
    """Memory for the colour picture of a frame of `size` bytes a pixel."""
    if len(pixels) != size * width * height:
        raise ValueError("pixels: %d bytes, %s needs %d" % (len(pixels), name, size * width * height))
    check_room(3 * width * height, "frame of %d x %d" % (width, height))
    return ternary.heap(3 * width * height, "B")


def rgb565(pixels: bytes | bytearray | memoryview, width: int, height: int, order: str) -> memoryview:
    """RGB565 -> uint8 [height, width, 3]."""
    number = _order(order, RGB565_ORDERS)
    out = _room(pixels, width, height, 2, "RGB565")
    ternary.rgb565(pixels, number, out)
    return out


def yuv422(pixels: bytes | bytearray | memoryview, width: int, height: int, order: str) -> memoryview:
    """YUV422 -> uint8 [height, width, 3]."""
    number = _order(order, YUV422_ORDERS)
    if width % 2:
        raise ValueError("width: %d, YUV422 needs an even one" % width)
    out = _room(pixels, width, height, 2, "YUV422")
    ternary.yuv422(pixels, number, out)
    return out


def rgb888(
    pixels: bytes | bytearray | memoryview, width: int, height: int, order: str
) -> bytes | bytearray | memoryview:
    """RGB888 -> uint8 [height, width, 3], "rgb" in place."""
    if _order(order, RGB888_ORDERS) == 0:
        return pixels
    out = _room(pixels, width, height, 3, "RGB888")
    ternary.bgr888(pixels, out)
    return out


def _with_rom(data):
    """By TJpgDec, which is in an ESP32-S3's ROM; ImportError or NotImplementedError where it is not."""
    from ternary_jpeg import decode, size  # type: ignore[import-not-found]

    work = ternary.heap(JPEG_WORK, "B")
    try:
        width, height = size(data, work)
        _check_sides(width, height)
        check_room(3 * width * height, "JPEG of %d x %d" % (width, height))
        out = ternary.heap(3 * width * height, "B")
        decode(data, work, out)
    except ValueError as error:
        raise ValueError("no whole baseline JPEG in colour (%s)" % error)
    return out, width, height


def _with_pillow(data):
    """By Pillow, on CPython."""
    from io import BytesIO

    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(BytesIO(data), formats=("JPEG",)) as image:
            _check_sides(*image.size)
            return image.convert("RGB").tobytes(), image.size[0], image.size[1]
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise ValueError("no whole JPEG (%s)" % error)


def _check_sides(width, height):
    if not (1 <= width <= MAX_PICTURE and 1 <= height <= MAX_PICTURE):
        raise ValueError("%d x %d pixels, sides must be 1 to %d" % (width, height, MAX_PICTURE))


def jpeg(data: bytes | bytearray | memoryview) -> tuple[bytes | memoryview, int, int]:
    """A JPEG -> (uint8 [height, width, 3], width, height), as it lies in the file, whatever EXIF says of turning it."""
    for decode in (_with_rom, _with_pillow):
        try:
            return decode(data)
        except (ImportError, NotImplementedError):
            pass
    raise ValueError("a JPEG, which is not decoded here; on the PC `trainer image` makes a PPM of it")


def save(image, path: str) -> None:
    """Write a PGM or PPM file."""
    magic = "P5" if image.channels == 1 else "P6"
    header = ("%s\n%d %d\n255\n" % (magic, image.width, image.height)).encode()
    try:
        file = open(path, "wb")
    except OSError as error:
        raise OSError(error.errno, "%s cannot be written" % path)
    try:
        with file:
            for part in (header, image.pixels):
                if file.write(part) != len(part):
                    raise OSError(ENOSPC, "no room")
    except OSError as error:
        remove(path)
        needed = len(header) + len(image.pixels)
        raise OSError(error.errno, "%s cannot be written, it needs %d bytes" % (path, needed))

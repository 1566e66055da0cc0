# SPDX-License-Identifier: MIT
"""Cameras' frames as pixels of an Image, and Images as files; Image's methods say what these functions do."""

from os import remove

import ternary

from ftervit.modelfile import check_room

# Orders of bytes by the numbers of SPEC 3.2: RGB565 as Python names byte orders, YUV422 by its codes.
RGB565_ORDERS = "big", "little", "big-bgr", "little-bgr"
YUV422_ORDERS = "yuyv", "uyvy", "yvyu", "vyuy"
RGB888_ORDERS = "rgb", "bgr"
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


def rgb565(pixels, width, height, order):
    """RGB565 -> uint8 [height, width, 3]."""
    number = _order(order, RGB565_ORDERS)
    out = _room(pixels, width, height, 2, "RGB565")
    ternary.rgb565(pixels, number, out)
    return out


def yuv422(pixels, width, height, order):
    """YUV422 -> uint8 [height, width, 3]."""
    number = _order(order, YUV422_ORDERS)
    if width % 2:
        raise ValueError("width: %d, YUV422 needs an even one" % width)
    out = _room(pixels, width, height, 2, "YUV422")
    ternary.yuv422(pixels, number, out)
    return out


def rgb888(pixels, width, height, order):
    """RGB888 -> uint8 [height, width, 3], "rgb" in place."""
    if _order(order, RGB888_ORDERS) == 0:
        return pixels
    out = _room(pixels, width, height, 3, "RGB888")
    ternary.bgr888(pixels, out)
    return out


def save(image, path):
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

# SPDX-License-Identifier: MIT
"""Pictures: PGM and PPM files, the way from pixels to the network's int8, and a look at them in a terminal."""

import ternary

LONGEST_WORD = 5  # digits of a number in the header, enough for MAX_PICTURE
RAMP = b" .,:;-~+=*o%#@"  # dark to light


class Image:
    """pixels: uint8 [height, width, channels], channels 1 (grey) or 3 (red, green, blue)."""

    def __init__(self, pixels: bytes | bytearray | memoryview, width: int, height: int, channels: int) -> None:
        if len(pixels) != width * height * channels:
            raise ValueError("pixels: %d bytes, need %d" % (len(pixels), width * height * channels))
        self.pixels, self.width, self.height, self.channels = pixels, width, height, channels

    @classmethod
    def from_rgb565(cls, pixels: bytes | bytearray | memoryview, width: int, height: int) -> "Image":
        """A colour Image of a camera's frame: two bytes a pixel, RGB565, high byte first (SPEC 3.2); copied.

        Raises ValueError if their number is not that of the pixels, MemoryError with both numbers.
        """
        from ftervit.modelfile import check_room

        if len(pixels) != 2 * width * height:
            raise ValueError("pixels: %d bytes, RGB565 needs %d" % (len(pixels), 2 * width * height))
        check_room(3 * width * height, "frame of %d x %d" % (width, height))
        out = ternary.heap(3 * width * height, "B")
        ternary.rgb565(pixels, out)
        return cls(out, width, height, 3)

    def square(self, size: int, channels: int) -> memoryview:
        """The middle square as uint8 [size, size, channels] (SPEC 3.2 to 3.4)."""
        pixels = self.pixels
        if channels != self.channels:
            pixels = ternary.heap(self.width * self.height * channels, "B")
            ternary.convert(self.pixels, self.channels, pixels, channels)
        side = min(self.width, self.height)
        left, top = (self.width - side) // 2, (self.height - side) // 2
        out = ternary.heap(size * size * channels, "B")
        work = ternary.heap(ternary.resize_scratch(side, channels))
        ternary.resize(pixels, self.width, channels, left, top, side, out, size, work)
        return out

    def show(self, columns: int = 56) -> None:
        """Print the middle square with characters from dark to light."""
        size = columns // 2 * 2
        square = self.square(size, 1)
        table = bytearray(256)
        for pixel in range(256):
            # ternary.lookup reads its bytes as int8: pixel 128 is -128, the table's first entry.
            table[(pixel + 128) % 256] = RAMP[pixel * len(RAMP) // 256]
        text = ternary.heap(size * size, "B")
        ternary.lookup(square, table, text)
        # A character is about twice as high as wide: every second row.
        for row in range(0, size, 2):
            print(bytes(text[row * size : (row + 1) * size]).decode())


def _token(file, path):
    """The next word of a PNM header; comments are skipped."""
    word = b""
    while True:
        byte = file.read(1)
        if byte == b"#":
            while byte not in (b"\n", b""):
                byte = file.read(1)
        if byte in (b" ", b"\t", b"\n", b"\r", b""):
            if word:
                return word
            if not byte:
                raise ValueError("%s: header ends early" % path)
        elif len(word) == LONGEST_WORD:
            raise ValueError("%s: %r.. is no number of a PGM or PPM header" % (path, word))
        else:
            word += byte


def read_image(path: str) -> Image:
    """Read a binary PGM (P5) or PPM (P6) with 8 bits per value.

    Raises ValueError that names the file and what is wrong, OSError if it cannot be read.
    """
    from ftervit.architecture import MAX_PICTURE
    from ftervit.modelfile import check_room, open_named

    with open_named(path) as file:
        magic = file.read(2)
        if magic not in (b"P5", b"P6"):
            raise ValueError("%s: not a binary PGM or PPM, which begin with P5 or P6" % path)
        words = [_token(file, path) for _ in range(3)]
        for name, word in zip(("width", "height", "maximum"), words):
            if not word.isdigit():
                raise ValueError("%s: %s %s is not a number" % (path, name, word))
        width, height, maximum = (int(word) for word in words)
        if maximum != 255:
            raise ValueError("%s: maximum %d, must be 255" % (path, maximum))
        if not (1 <= width <= MAX_PICTURE and 1 <= height <= MAX_PICTURE):
            raise ValueError("%s: %d x %d pixels, sides must be 1 to %d" % (path, width, height, MAX_PICTURE))
        channels = 1 if magic == b"P5" else 3
        check_room(width * height * channels, path)
        pixels = ternary.heap(width * height * channels, "B")
        count = file.readinto(pixels)
        if count != len(pixels):
            raise ValueError("%s: %d bytes of pixels, needs %d" % (path, count, len(pixels)))
    return Image(pixels, width, height, channels)

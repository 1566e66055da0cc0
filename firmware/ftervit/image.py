# SPDX-License-Identifier: MIT
"""Pictures: PGM and PPM files, cameras' frames, the way from pixels to the network's int8, a look in a terminal."""

import ternary

LONGEST_WORD = 5  # digits of a number in the header, enough for MAX_PICTURE
RAMP = b" .,:;-~+=*o%#@"  # dark to light


class Image:
    """pixels: uint8 [height, width, channels], channels 1 (grey) or 3 (red, green, blue)."""

    def __init__(self, pixels: bytes | bytearray | memoryview, width: int, height: int, channels: int) -> None:
        if len(pixels) != width * height * channels:
            raise ValueError("pixels: %d bytes, need %d" % (len(pixels), width * height * channels))
        self.pixels, self.width, self.height, self.channels = pixels, width, height, channels

    # What few need takes no memory of the others: it is imported when it is called.

    @classmethod
    def from_rgb565(
        cls, pixels: bytes | bytearray | memoryview, width: int, height: int, order: str = "big"
    ) -> "Image":
        """A colour Image of a camera's RGB565 frame, two bytes a pixel (SPEC 3.2); copied.

        order: "big" (high byte first), "little", "big-bgr" or "little-bgr" (red and blue exchanged).
        Raises ValueError if their number is not that of the pixels, MemoryError with both numbers.
        """
        from ftervit.frames import rgb565

        return cls(rgb565(pixels, width, height, order), width, height, 3)

    @classmethod
    def from_yuv422(
        cls, pixels: bytes | bytearray | memoryview, width: int, height: int, order: str = "yuyv"
    ) -> "Image":
        """The same of a YUV422 frame, four bytes for two pixels; order: "yuyv", "uyvy", "yvyu" or "vyuy"."""
        from ftervit.frames import yuv422

        return cls(yuv422(pixels, width, height, order), width, height, 3)

    @classmethod
    def from_rgb888(
        cls, pixels: bytes | bytearray | memoryview, width: int, height: int, order: str = "rgb"
    ) -> "Image":
        """The same of an RGB888 frame, three bytes a pixel; order: "rgb", used in place, or "bgr", copied."""
        from ftervit.frames import rgb888

        return cls(rgb888(pixels, width, height, order), width, height, 3)

    @classmethod
    def from_jpeg(cls, data: bytes | bytearray | memoryview) -> "Image":
        """The same of a JPEG: by the ROM of an ESP32-S3, which takes baseline JPEGs in colour, or by Pillow on CPython.

        Decoders differ by a level here and there. Raises ValueError where there is none, or for a damaged JPEG.
        """
        from ftervit.frames import jpeg

        pixels, width, height = jpeg(data)
        return cls(pixels, width, height, 3)

    def save(self, path: str) -> None:
        """Write a binary PGM (grey) or PPM (colour) file, which read_image reads.

        Raises OSError that names the file; one that cannot be written whole is removed.
        """
        from ftervit.frames import save

        save(self, path)

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
    """The next word of a PNM header, and the white space that ends it; comments are skipped."""
    word = b""
    while True:
        byte = file.read(1)
        if byte == b"#":
            while byte not in (b"\n", b""):
                byte = file.read(1)
        if byte in (b" ", b"\t", b"\n", b"\r", b""):
            if word:
                return word, byte
            if not byte:
                raise ValueError("%s: header ends early" % path)
        elif len(word) == LONGEST_WORD:
            raise ValueError("%s: %r.. is no number of a PGM or PPM header" % (path, word))
        else:
            word += byte


def read_image(path: str) -> Image:
    """Read a binary PGM (P5) or PPM (P6) with 8 bits per value; one byte of white space ends the header, as in Netpbm.
    A JPEG is read as by Image.from_jpeg.

    Raises ValueError that names the file and what is wrong, OSError if it cannot be read.
    """
    from ftervit.modelfile import open_named

    with open_named(path) as file:
        try:
            return _read(file, path)
        except OSError as error:
            # A folder opens on some file systems.
            raise OSError(error.errno, "%s cannot be read" % path)


def _read(file, path):
    from ftervit.architecture import MAX_PICTURE
    from ftervit.modelfile import check_room

    magic = file.read(2)
    if magic == b"\xff\xd8":
        size = file.seek(0, 2)
        check_room(size, path)
        file.seek(0)
        try:
            return Image.from_jpeg(file.read())
        except ValueError as error:
            raise ValueError("%s: %s" % (path, error))
    if magic not in (b"P5", b"P6"):
        raise ValueError("%s: not a binary PGM or PPM, which begin with P5 or P6" % path)
    words = []
    for name in ("width", "height", "maximum"):
        word, ending = _token(file, path)
        if not word.isdigit():
            raise ValueError("%s: %s %s is not a number" % (path, name, word))
        words.append(int(word))
    width, height, maximum = words
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
    # The line feed is a pixel, as in Netpbm, unless there is one byte too many: then the header ends with CR LF.
    if ending == b"\r" and pixels[0] == 10 and file.read(1):
        raise ValueError("%s: CR LF after the header, where one byte of white space must stand" % path)
    return Image(pixels, width, height, channels)

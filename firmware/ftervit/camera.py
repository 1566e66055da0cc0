# SPDX-License-Identifier: MIT
"""A board's camera by github.com/cnadler86/micropython-camera-API: pins by board, frames as Images, a colour test."""

from time import sleep

from ftervit.frames import RGB565_ORDERS, RGB888_ORDERS, YUV422_ORDERS
from ftervit.image import Image

TRIES = 10  # bad frames in a row that end it
PAUSE = 0.1  # seconds after a bad frame

ESP32S3_EYE = {
    "data_pins": [11, 9, 8, 10, 12, 18, 17, 16],
    "pclk_pin": 13,
    "vsync_pin": 6,
    "href_pin": 7,
    "sda_pin": 4,
    "scl_pin": 5,
    "xclk_pin": 15,
}
# From the makers' published pin maps (docs/board.md); data_pins from D0 to D7.
BOARDS = {
    "XIAO_ESP32S3_SENSE": {
        "data_pins": [15, 17, 18, 16, 14, 12, 11, 48],
        "pclk_pin": 13,
        "vsync_pin": 38,
        "href_pin": 47,
        "sda_pin": 40,
        "scl_pin": 39,
        "xclk_pin": 10,
    },
    "ESP32S3_EYE": ESP32S3_EYE,
    "FREENOVE_ESP32S3_CAM": ESP32S3_EYE,
    # Its sensor has a clock of its own.
    "M5STACK_CORES3": {
        "data_pins": [39, 40, 41, 42, 15, 16, 48, 47],
        "pclk_pin": 45,
        "vsync_pin": 46,
        "href_pin": 38,
        "sda_pin": 12,
        "scl_pin": 11,
        "xclk_pin": -1,
    },
}
# Formats of frames by the module's names, with the orders of their bytes, the usual one first.
FORMATS = {"RGB565": RGB565_ORDERS, "YUV422": YUV422_ORDERS, "RGB888": RGB888_ORDERS, "GRAYSCALE": ("",), "JPEG": ("",)}
BARS = "white yellow cyan green magenta red blue black".split()  # of a sensor's test picture
COLOURS = "black blue green cyan red magenta yellow white".split()  # by 4 red + 2 green + blue


class CameraError(RuntimeError):
    """What is missing or wrong, in one line."""


def _one_of(name, value, values):
    if value not in values:
        raise CameraError("%s: %r, must be one of %s" % (name, value, ", ".join(sorted(values))))


class Camera:
    """The camera, switched on; `close` it at the end.

    board: a name of BOARDS, or "" for pins that the firmware knows; pins: keyword arguments of the module's Camera that
    replace them. format: a name of FORMATS, None for GRAYSCALE if `grey`, else RGB565; order: one of the format's, None
    for the first; size: a name of the module's FrameSize. Raises CameraError.
    """

    def __init__(
        self,
        grey: bool = False,
        board: str = "",
        format: str | None = None,
        order: str | None = None,
        size: str = "R240X240",
        pins: dict | None = None,
    ) -> None:
        self.format = format or ("GRAYSCALE" if grey else "RGB565")
        _one_of("format", self.format, FORMATS)
        orders = FORMATS[self.format]
        self.order = orders[0] if order is None else order
        _one_of("order", self.order, orders)
        if board:
            _one_of("board", board, BOARDS)
        settings = dict(BOARDS[board]) if board else {}
        settings.update(pins or {})
        try:
            from camera import Camera, FrameSize, PixelFormat  # type: ignore[import-not-found]
        except ImportError:
            raise CameraError(
                "this firmware has no camera module; flash an image with camera, or build one with CAMERA_DIR"
            )
        try:
            settings["pixel_format"] = getattr(PixelFormat, self.format)
            settings["frame_size"] = getattr(FrameSize, size)
            self._camera = Camera(**settings)
        except (AttributeError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise CameraError("the camera does not start, check size, board and pins: %s" % error)

    def image(self) -> Image:
        """The next frame as an Image; GRAYSCALE and RGB888 "rgb" frames in place, valid until the next one.

        A frame that does not come, or is no whole one, costs a line and the next try; TRIES in a row raise CameraError.
        """
        for _ in range(TRIES):
            try:
                frame = self._camera.capture()
                if frame:  # neither None nor False nor empty
                    return self.to_image(frame, self.order)
                problem = "no frame came"
            except (MemoryError, OSError, RuntimeError, TypeError, ValueError) as error:
                problem = "no whole frame came: %s" % (error,)
            print("camera: " + problem)
            sleep(PAUSE)
        raise CameraError(
            "%d times in a row no whole frame came: check the flat cable, board and pins, a smaller size, and that "
            "PSRAM is there (gc.mem_free() of about 8 MB)" % TRIES
        )

    def to_image(self, frame: memoryview, order: str) -> Image:
        """A frame as an Image, read in this order; ValueError if it has another number of bytes than its size needs."""
        if self.format == "JPEG":
            return Image.from_jpeg(frame)
        width, height = self._camera.get_pixel_width(), self._camera.get_pixel_height()
        if self.format == "GRAYSCALE":
            return Image(frame, width, height, 1)
        if self.format == "RGB565":
            return Image.from_rgb565(frame, width, height, order)
        if self.format == "YUV422":
            return Image.from_yuv422(frame, width, height, order)
        return Image.from_rgb888(frame, width, height, order)

    def test_orders(self) -> str | None:
        """Print the colours of the sensor's test picture, eight bars, as each order reads them.

        Returns the order that gives the usual bars, None if none does: then a person judges. A sensor without a test
        picture shows what is before it.
        """
        if len(FORMATS[self.format]) == 1:
            raise CameraError("format: %s has no order to test" % self.format)
        bars = self._colour_bars(True)
        try:
            self.image()  # began before the bars
            self.image()
            print("colour bars" if bars else "this sensor has no colour bars: hold something red before it")
            right = None
            for order in FORMATS[self.format]:
                self.order = order
                colours = colours_along(self.image())
                names = [COLOURS[4 * (red > 127) + 2 * (green > 127) + (blue > 127)] for red, green, blue in colours]
                found = bars and names in (BARS, BARS[::-1])
                right = order if found else right
                # Without bars the middle's red, green and blue tell more than a name.
                note = "  <- right" if found else "" if bars else "  middle %d %d %d" % colours[len(colours) // 2]
                print("%-10s %s%s" % (order, " ".join(names), note))
        finally:
            self._colour_bars(False)
        print("right is the order that shows: " + (" ".join(BARS) if bars else "most red, least green and blue"))
        return right

    def _colour_bars(self, on):
        """Whether the sensor can show its test picture, which is switched on or off."""
        try:
            self._camera.set_colorbar(on)
            return True
        except (AttributeError, OSError, RuntimeError, ValueError):
            return False

    def close(self) -> None:
        """Switch the camera off."""
        try:
            self._camera.deinit()
        except (OSError, RuntimeError) as error:
            print("camera: not switched off: %s" % error)


def colours_along(image: Image) -> list[tuple]:
    """(red, green, blue) at eight places along the middle row of a colour Image."""
    row, colours = image.height // 2 * image.width, []
    for place in range(len(BARS)):
        at = 3 * (row + (2 * place + 1) * image.width // (2 * len(BARS)))
        # & 255: frames in place may be of signed bytes.
        colours.append(tuple([image.pixels[at + i] & 255 for i in range(3)]))
    return colours

# SPDX-License-Identifier: MIT
# Classifies camera frames until Ctrl-C: mpremote connect PORT run firmware/classify_camera.py
# Change first: MODEL, and BOARD (a name of ftervit.camera.BOARDS, such as "XIAO_ESP32S3_SENSE") or PINS (keyword
# arguments of the module's Camera, such as {"data_pins": [..8..], "pclk_pin": 13, ...}) if the firmware does not know
# your board's pins. SIZE: a name of FrameSize; the middle square of the frame is used.
# Wrong colours: set TEST = True, run once, and set ORDER to the line that is right. FORMAT: "RGB565", "YUV422",
# "RGB888", "JPEG" (decoded by the chip's ROM) or "GRAYSCALE"; None: grey for a grey model, otherwise RGB565.
# INVERT: exchange light and dark; the shipped model was trained on bright clothes on black, unlike a shoe on paper.
# Needs firmware with the module of github.com/cnadler86/micropython-camera-API, and PSRAM. To act on the result,
# change `seen` below.

import time

import ternary
from ftervit import Image, VisionTransformer
from ftervit.camera import Camera, CameraError

MODEL = "models/fashion_mnist.safetensors"
BOARD = ""
PINS = {}
SIZE = "R240X240"
FORMAT = None
ORDER = None
TEST = False
INVERT = False
COLUMNS = 40  # width of the printed picture, 0 for none


def stopwatch():
    """A function that returns the milliseconds since this call."""
    started = time.ticks_us()
    return lambda: time.ticks_diff(time.ticks_us(), started) / 1000


def inverted(image):
    """A copy with light and dark exchanged."""
    # ternary.lookup reads bytes as int8: pixel 128 is -128, the table's first entry.
    table = bytes((127 - i) % 256 for i in range(256))
    pixels = ternary.heap(len(image.pixels), "B")
    ternary.lookup(image.pixels, table, pixels)
    return Image(pixels, image.width, image.height, image.channels)


def seen(label, confidence, milliseconds):
    """Called for every frame. confidence: 0 to 1; milliseconds: time for resizing, normalising and the network."""
    print("%-12s %5.1f %%  %.1f ms" % (label, 100 * confidence, milliseconds))


def look(camera, model):
    """Take a frame and classify it."""
    image = camera.image()
    if INVERT:
        image = inverted(image)
    if COLUMNS:
        image.show(COLUMNS)
    elapsed = stopwatch()
    label, confidence = model.predict(image, 1)[0]
    seen(label, confidence, elapsed())


def follow(camera, model):
    """Classify frames until Ctrl-C; the camera is always switched off at the end."""
    frames = 0
    try:
        while True:
            look(camera, model)
            frames += 1
    except KeyboardInterrupt:
        print("%d frames" % frames)
    finally:
        camera.close()


def test(camera):
    """Show which ORDER is right."""
    try:
        camera.test_orders()
    finally:
        camera.close()


def main():
    """Test the colours or classify frames; what is missing or wrong is printed in one line."""
    try:
        if TEST:
            test(Camera(False, BOARD, FORMAT, ORDER, SIZE, PINS))
        else:
            model = VisionTransformer.load(MODEL)
            follow(Camera(model.in_chans == 1, BOARD, FORMAT, ORDER, SIZE, PINS), model)
    except (CameraError, OSError) as error:
        print("classify_camera.py: %s" % (error.args[-1],))


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: MIT
# Classifies camera frames until Ctrl-C: mpremote connect PORT run firmware/classify_camera.py
# Change first: MODEL, and PINS if the firmware does not define your board's pins (keyword arguments of Camera, such as
# {"data_pins": [..8..], "pclk_pin": 13, ...}). SIZE: a name of FrameSize; the middle square of the frame is used.
# INVERT: exchange light and dark; the shipped model was trained on bright clothes on black, unlike a shoe on paper.
# Needs firmware with the module of github.com/cnadler86/micropython-camera-API, and PSRAM. Frames are grey for a grey
# model, otherwise RGB565. To act on the result, change `seen` below.

import time

import ternary
from ftervit import Image, VisionTransformer

MODEL = "models/fashion_mnist.safetensors"
PINS = {}
SIZE = "R240X240"
INVERT = False
COLUMNS = 40  # width of the printed picture, 0 for none


def stopwatch():
    """A function that returns the milliseconds since this call."""
    started = time.ticks_us()
    return lambda: time.ticks_diff(time.ticks_us(), started) / 1000


def open_camera(grey):
    """The camera, set to grey or RGB565 frames; None after printing what is missing."""
    try:
        from camera import Camera, FrameSize, PixelFormat
    except ImportError:
        words = "this firmware has no camera module; flash an image with camera, or build one with CAMERA_DIR"
        print("classify_camera.py: " + words)
        return None
    try:
        pixels = PixelFormat.GRAYSCALE if grey else PixelFormat.RGB565
        return Camera(pixel_format=pixels, frame_size=getattr(FrameSize, SIZE), **PINS)
    except (AttributeError, OSError, RuntimeError, TypeError, ValueError) as error:
        print("classify_camera.py: the camera does not start, check SIZE and PINS: %s" % error)
        return None


def to_image(frame, width, height):
    """A frame as an Image: grey in place (valid while the frame is), RGB565 converted."""
    if len(frame) == width * height:
        return Image(frame, width, height, 1)
    return Image.from_rgb565(frame, width, height)


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
    """Take a frame and classify it; returns whether a frame came."""
    frame = camera.capture()
    if frame is None:
        print("classify_camera.py: no frame came")
        return False
    image = to_image(frame, camera.get_pixel_width(), camera.get_pixel_height())
    if INVERT:
        image = inverted(image)
    if COLUMNS:
        image.show(COLUMNS)
    elapsed = stopwatch()
    label, confidence = model.predict(image, 1)[0]
    seen(label, confidence, elapsed())
    return True


def main():
    """Classify frames until Ctrl-C; the camera is always switched off at the end."""
    model = VisionTransformer.load(MODEL)
    camera = open_camera(model.in_chans == 1)
    if camera is None:
        return
    frames = 0
    try:
        while True:
            frames += look(camera, model)
    except KeyboardInterrupt:
        print("%d frames" % frames)
    finally:
        camera.deinit()


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: MIT
# What a camera sees, classified frame after frame until Ctrl-C: mpremote connect PORT run firmware/classify_camera.py
# Change first: MODEL, and PINS if the firmware does not know your board's (names and numbers as Camera takes them,
# {"data_pins": [..8..], "pclk_pin": 13, ...}). SIZE: a name of FrameSize; of the frame the middle square is used.
# INVERT: the shipped model knows bright clothes on black; a shoe on white paper needs light and dark exchanged.
# Needs the module of github.com/cnadler86/micropython-camera-API in the firmware, and PSRAM. The frames of a grey model
# are grey, others RGB565. To do something with what is seen, change `seen` below.

import time

import ternary
from ftervit import Image, VisionTransformer

MODEL = "models/fashion_mnist.safetensors"
PINS = {}
SIZE = "R240X240"
INVERT = False
COLUMNS = 40  # of the small picture, 0 for none


def stopwatch():
    """A function that tells the milliseconds since now."""
    started = time.ticks_us()
    return lambda: time.ticks_diff(time.ticks_us(), started) / 1000


def open_camera(grey):
    """The camera, for grey or RGB565 frames, or None after a line that says what is missing."""
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
    """A frame as an Image: grey in place (as long as the frame lives), RGB565 converted."""
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
    """Called for every frame. confidence: 0 to 1; milliseconds: of resizing, normalising and the network."""
    print("%-12s %5.1f %%  %.1f ms" % (label, 100 * confidence, milliseconds))


def look(camera, model):
    """Take a frame and classify it; returns whether there was one."""
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
    """Frames until Ctrl-C; the camera is switched off however it ends."""
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

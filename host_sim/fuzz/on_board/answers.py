# SPDX-License-Identifier: MIT
"""What the package answers to a hostile file or call, as one line; the same on MicroPython and on CPython.

On a board this file is the program: it reads "KIND ARGUMENT" lines and answers each.
"""

import sys
from binascii import crc32

import calls
from ftervit import Image, VisionTransformer, read_image

PIXELS = bytes([(37 * i) % 256 for i in range(60)])


def model_file(path):
    """Load a model file, and compute with it if it is accepted."""
    try:
        model = VisionTransformer.load(path)
    except ValueError as error:
        return "refused " + str(error)
    logits = model(model.preprocess(Image(PIXELS, 5, 4, 3)))
    model.predict(Image(PIXELS, 10, 6, 1))
    return "loaded %d labels %d" % (crc32(bytes(logits)), crc32("".join(list(model.labels)).encode()))


def image(path):
    """Read a picture, and make squares of it."""
    try:
        picture = read_image(path)
    except ValueError as error:
        return "refused " + str(error)
    squares = bytes(picture.square(7, 1)), bytes(picture.square(40, 3))
    return "read %d x %d %d %d" % (picture.width, picture.height, crc32(squares[0]), crc32(squares[1]))


def call(seed):
    """Call an operation."""
    return calls.outcome(int(seed))


ANSWERS = {"model_file": model_file, "image": image, "call": call}


def serve():
    """Answer lines until there are no more."""
    while True:
        line = sys.stdin.readline()
        if not line:
            return
        kind, argument = line.rstrip("\n").split(" ", 1)
        try:
            print(ANSWERS[kind](argument))
        except MemoryError:
            print("MemoryError")
        except Exception as error:
            print("EXCEPTION", type(error).__name__, str(error).replace("\n", " "))


if __name__ == "__main__":
    serve()

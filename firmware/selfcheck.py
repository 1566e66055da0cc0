# SPDX-License-Identifier: MIT
# Whether all rows of kernels give the same numbers here: mpremote connect PORT run firmware/selfcheck.py
# Change first: MODEL (a file on the board) or PICTURES (how many). The logits of made-up pictures are compared with
# those of the portable kernels; where they differ it ends with a RuntimeError. On a board that means a fault. In an
# emulator it means that its PIE instructions are wrong, some of Espressif's QEMU are (espressif/qemu 161 and 162).

import gc
import os

import ternary

MODEL = "models/fashion_mnist.safetensors"
PICTURES = 3
PLACES = ("", "/rom/", "/")
PORTABLE = "reference"


def rows():
    """The names of the rows of kernels that this firmware has."""
    try:
        ternary.use("")
    except ValueError as error:
        return str(error).split(" one of ")[1].split(", ")


def found(path):
    """A file's path, in the current directory, in /rom or in /."""
    for place in PLACES:
        try:
            os.stat(place + path)
            return place + path
        except OSError:
            pass
    raise OSError("%s is neither here nor in /rom: deploy a model, or change MODEL" % path)


def picture(size, number):
    """Bytes that look like noise, the same everywhere."""
    state, data = 12345 + number, bytearray(size)
    for i in range(size):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        data[i] = state >> 16 & 255
    return data


def logits(path, row, count):
    """The logits of `count` pictures, computed with a row of kernels."""
    from ftervit import VisionTransformer

    ternary.use(row)
    gc.collect()
    model = VisionTransformer.load(path)
    size = model.img_size * model.img_size * model.in_chans
    return [list(model(picture(size, number))) for number in range(count)]


def check(path=MODEL, count=PICTURES):
    """Compare all rows with the portable one; returns the names of those that differ."""
    path, names = found(path), rows()
    wanted = logits(path, PORTABLE, count)
    differing = []
    for name in names:
        if name != PORTABLE:
            same = sum(a == b for a, b in zip(logits(path, name, count), wanted))
            print("%s: %d of %d pictures have the logits of %s" % (name, same, count, PORTABLE))
            if same < count:
                differing.append(name)
    ternary.use(names[0])
    if len(names) == 1:
        print("%s: the only row" % names[0])
    return differing


def main():
    """Print what was found; a RuntimeError if rows differ."""
    differing = check()
    if differing:
        raise RuntimeError("wrong numbers from %s: ternary.use('%s') computes right ones" % (differing, PORTABLE))


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: MIT
# Classifies the pictures in images/ with the model in models/: mpremote connect PORT run firmware/classify.py
# Change first: PICTURES, a list of PGM or PPM files of your own (a name like "7_sneaker.pgm" says the right class),
# or MODEL. What is printed comes from ftervit.VisionTransformer.predict; see tinker.py for what else a model can do.
# Nothing here is needed to use the package: these two lines are enough.
#     model = VisionTransformer.load(MODEL); print(model.predict(read_image("images/7_sneaker.pgm")))

import gc
import os
import time

from ftervit import VisionTransformer, read_image

MODEL = "models/fashion_mnist.safetensors"
PICTURES = ["images/" + name for name in sorted(os.listdir("images")) if name.endswith((".pgm", ".ppm"))]
BAR = 30  # characters of a bar for 100 %


def ram_used():
    """Bytes of heap in use, or None where Python does not tell."""
    gc.collect()
    return gc.mem_alloc() if hasattr(gc, "mem_alloc") else None


def stopwatch():
    """A function that tells the milliseconds since now."""
    if hasattr(time, "ticks_us"):
        started = time.ticks_us()
        return lambda: time.ticks_diff(time.ticks_us(), started) / 1000
    started = time.time()
    return lambda: (time.time() - started) * 1000


def right_class(path, classes):
    """The class that a name like "images/7_sneaker.pgm" gives, or None."""
    number = path.split("/")[-1].split("_")[0]
    return int(number) if number.isdigit() and int(number) < classes else None


def classify(model, path):
    """Print one picture and what it is taken for; returns the most likely label."""
    image = read_image(path)
    image.show()
    elapsed = stopwatch()
    best = model.predict(image)
    line = "%s: %.1f ms" % (path, elapsed())
    used = ram_used()
    print(line if used is None else "%s, %d bytes of RAM in use" % (line, used))
    for label, probability in best:
        bar = "#" * int(probability * BAR + 0.5)
        print("  %-12s %5.1f %%  %s" % (label, 100 * probability, bar))
    return best[0][0]


def main():
    """Load the model, classify all pictures, count those that are right."""
    before = ram_used()
    model = VisionTransformer.load(MODEL)
    after = ram_used()
    print("%s: %d classes, %d blocks, %d tokens" % (MODEL, len(model.labels), len(model.blocks), model.tokens))
    right = known = 0
    for path in PICTURES:
        print()
        try:
            label = classify(model, path)
        except (ValueError, MemoryError) as error:
            print("left out:", error)
            continue
        expected = right_class(path, len(model.labels))
        if expected is not None:
            known += 1
            right += model.labels[expected] == label
    print()
    if before is not None:
        print("RAM: %d bytes for the model, of them %d for activations" % (after - before, model.activation_bytes))
    print("%d of %d right" % (right, known))


main()

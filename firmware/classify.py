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


def ram_text():
    """What a line about a picture says of memory."""
    used = ram_used()
    return "" if used is None else ", %d bytes of RAM in use" % used


def milliseconds():
    """A clock in milliseconds."""
    return time.ticks_ms() if hasattr(time, "ticks_ms") else time.time() * 1000


def right_class(path):
    """The class that a name like "images/7_sneaker.pgm" gives, or None."""
    number = path.split("/")[-1].split("_")[0]
    return int(number) if number.isdigit() else None


def classify(model, path):
    """Print one picture and what it is taken for; returns whether that is right."""
    image = read_image(path)
    image.show()
    started = milliseconds()
    best = model.predict(image)
    took = milliseconds() - started
    print("%s: %.1f ms%s" % (path, took, ram_text()))
    for label, probability in best:
        bar = "#" * int(probability * BAR + 0.5)
        print("  %-12s %5.1f %%  %s" % (label, 100 * probability, bar))
    right = right_class(path)
    return right is not None and model.labels[right] == best[0][0]


def main():
    before = ram_used()
    model = VisionTransformer.load(MODEL)
    after = ram_used()
    print("%s: %d classes, %d blocks, %d tokens" % (MODEL, len(model.labels), len(model.blocks), model.tokens))
    right = 0
    for path in PICTURES:
        print()
        right += classify(model, path)
    print()
    if before is not None:
        activations = model.activation_bytes
        print("RAM: %d bytes for the model, of them %d for activations" % (after - before, activations))
    print("%d of %d right" % (right, len(PICTURES)))


main()

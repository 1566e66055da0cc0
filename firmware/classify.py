# SPDX-License-Identifier: MIT
# Classifies the pictures in images/ with the model in models/: mpremote connect PORT run firmware/classify.py
# Change first: PICTURES, a list of PGM or PPM files (a name like "7_sneaker.pgm" gives the right class), or MODEL, a
# model file. None: all pictures in images/ and the first model in models/, in the current directory or else in /rom,
# where `just deploy` writes. THRESHOLD, a number: a picture whose largest logit is below it is "unknown"; None: that in
# the file.
# The results come from ftervit.VisionTransformer.predict; tinker.py shows what else a model can do.
# To use the package, these two lines are enough:
#     model = VisionTransformer.load("models/fashion_mnist.safetensors")
#     print(model.predict(read_image("images/7_sneaker.pgm")))

import gc
import os
import time

from ftervit import VisionTransformer, read_image

MODEL = None
PICTURES = None
THRESHOLD = None
PLACES = "", "/rom/"
BAR = 30  # characters of the bar at 100 %


def ram_used():
    """Bytes of heap in use, or None if unknown."""
    gc.collect()
    return gc.mem_alloc() if hasattr(gc, "mem_alloc") else None


def stopwatch():
    """A function that returns the milliseconds since this call."""
    if hasattr(time, "ticks_us"):
        started = time.ticks_us()
        return lambda: time.ticks_diff(time.ticks_us(), started) / 1000
    started = time.time()
    return lambda: (time.time() - started) * 1000


def right_class(path, classes):
    """The class in a name like "images/7_sneaker.pgm", or None."""
    number = path.split("/")[-1].split("_")[0]
    return int(number) if number.isdigit() and int(number) < classes else None


def classify(model, path):
    """Print one picture and its most likely labels; returns the first."""
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


def found(folder, endings):
    """The files of models/ or images/ with these endings, from the first of PLACES with such files."""
    for place in PLACES:
        try:
            names = sorted(os.listdir(place + folder))
        except OSError:
            continue
        names = [name for name in names if name.endswith(endings)]
        if names:
            return [place + folder + "/" + name for name in names]
    return []


def missing(what, folder):
    """Print in one line what is missing, and how to copy it to the board."""
    ways = "mpremote mkdir :%s, then mpremote cp FILE :%s/; or just deploy PORT MODEL" % (folder, folder)
    print("classify.py: no %s in %s/ or /rom/%s/: %s" % (what, folder, folder, ways))


def main():
    """Load the model, classify all pictures and count correct results."""
    models = [MODEL] if MODEL else found("models", (".safetensors",))
    if not models:
        return missing("model (.safetensors)", "models")
    pictures = PICTURES or found("images", (".pgm", ".ppm"))
    if not pictures:
        return missing("pictures (.pgm, .ppm)", "images")
    path = models[0]
    before = ram_used()
    try:
        model = VisionTransformer.load(path)
    except OSError as error:
        print("classify.py: MODEL: %s; it must be a file on the board" % (error.args[-1],))
        return
    if THRESHOLD is not None:
        model.threshold = THRESHOLD
    after = ram_used()
    print("%s: %d classes, %d blocks, %d tokens" % (path, len(model.labels), len(model.blocks), model.tokens))
    right = known = 0
    for path in pictures:
        print()
        try:
            label = classify(model, path)
        except (ValueError, MemoryError, OSError) as error:
            print("left out:", error)
            continue
        expected = right_class(path, len(model.labels))
        if expected is not None:
            known += 1
            right += model.labels[expected] == label
    print()
    if before is not None:
        used = after - before, model.activation_bytes
        print("RAM: %d bytes for the model and the code that loads it, of them %d for activations" % used)
    print("%d of %d right" % (right, known))


main()

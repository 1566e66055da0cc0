# SPDX-License-Identifier: MIT
# Classifies the pictures in images/ with a model in models/: mpremote connect PORT run firmware/classify.py
# Of several models it takes the newest that is for pictures of their size, or else the newest.
# Other ones: change MODEL, a model file, or PICTURES, a PGM or PPM file or a list of them; or, without editing,
#     mpremote connect PORT exec "MODEL = 'models/pets.safetensors'; PICTURES = ['cat.ppm']" run firmware/classify.py
# Both are looked for in the current directory or else in /rom, where `just deploy` writes. A name like "cat_3.ppm",
# "7_sneaker.pgm" or "cat/3.ppm" gives the right class: by label, or by its number from 0 in the labels' order. A model
# may call pictures "unknown" whose largest logit is below its threshold: THRESHOLD is used instead of the file's.
# The results come from ftervit.VisionTransformer.predict; tinker.py shows what else a model can do.
# To use the package, these two lines are enough:
#     model = VisionTransformer.load("models/fashion_mnist.safetensors")
#     print(model.predict(read_image("images/7_sneaker.pgm")))

import gc
import os
import time

from ftervit import VisionTransformer, read_image
from ftervit.modelfile import ModelFile

MODEL = globals().get("MODEL")
PICTURES = globals().get("PICTURES")
THRESHOLD = globals().get("THRESHOLD")
PLACES = "", "/rom/"
ENDINGS = {"models": (".safetensors",), "images": (".pgm", ".ppm", ".jpg", ".jpeg")}
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


def plain(text):
    """A label or file name, to be compared: ASCII letters in lower case, "-" for what is neither letter nor digit."""
    kept = [c if c.isdigit() or c.isalpha() or ord(c) > 127 else "-" for c in text.lower()]
    return "".join(kept)


def as_people_sort(text):
    """A key to sort texts with numbers by: "2" comes before "10"."""
    parts, digits = [], ""
    for c in text + " ":
        if c in "0123456789":
            digits += c
        else:
            if digits:
                parts.append((0, int(digits), ""))
            digits = ""
            parts.append((1, 0, c))
    return parts


def right_class(path, labels):
    """The label that is the name of a picture's folder, or that its own name begins with, or None.

    The longest that fits, also behind a number as in "7_sneaker.pgm"; else the number says which, from 0, in the
    labels' order. Labels that are sorted as texts, as those of class folders are, count in the order in which people
    sort.
    """
    labels = list(labels)
    *folders, name = path.split("/")
    if folders and folders[-1] in labels:
        return folders[-1]
    stem = name.rsplit(".", 1)[0]
    number = stem.split("_")[0]
    names = [plain(stem)]
    digits = len(stem) - len(stem.lstrip("0123456789"))
    if 0 < digits < len(stem):
        names.append(plain(stem[digits + 1 :]))
    for name in names:
        fitting = [label for label in labels if (name + "-").startswith(plain(label) + "-")]
        if fitting:
            return max(fitting, key=len)
    if not number.isdigit() or int(number) >= len(labels):
        return None
    if labels == sorted(labels):
        labels.sort(key=as_people_sort)
    return labels[int(number)]


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


def found(folder):
    """(files of models/ or images/ with its endings, other names there), from the first of PLACES with such files."""
    others = []
    for place in PLACES:
        try:
            names = sorted(os.listdir(place + folder))
        except OSError:
            continue
        paths = [place + folder + "/" + name for name in names if name[0] != "."]
        right = [path for path in paths if path.lower().endswith(ENDINGS[folder])]
        others = [path for path in paths if path not in right]
        if right:
            return right, others
    return [], others


def missing(what, folder):
    """Print in one line what is missing, and how to copy it to the board."""
    ways = "mpremote mkdir :%s, then mpremote cp FILE :%s/; or just deploy PORT MODEL" % (folder, folder)
    print("classify.py: no %s in %s/ or /rom/%s/: %s" % (what, folder, folder, ways))


def first_size(pictures):
    """(width, height, channels) of the first picture that can be read, or None."""
    for path in pictures:
        try:
            image = read_image(path)
        except (ValueError, MemoryError, OSError):
            continue  # classify() says what is wrong with it
        return image.width, image.height, image.channels
    return None


def changed(path):
    """When a file was changed, 0 if it is not there."""
    try:
        return os.stat(path)[8]
    except OSError:
        return 0


def opened(models, wanted):
    """(path, its ModelFile) of the newest for pictures of this size; if none is, the newest's path and None."""
    models = sorted(models, key=lambda path: (-changed(path), path))
    for path in models:
        try:
            file = ModelFile(path)
        except (ValueError, MemoryError, OSError):
            continue
        sizes = file.architecture
        if (sizes["img_size"], sizes["img_size"], sizes["in_chans"]) == wanted:
            return path, file
        file = sizes = None  # its memory is for the next one
        gc.collect()
    return models[0], None


def chosen_model(pictures):
    """(path, its ModelFile or None) of MODEL, or of the newest for pictures of this size; None: printed what lacks."""
    if MODEL:
        return MODEL, None
    models, _ = found("models")
    if not models:
        return missing("model (.safetensors)", "models")
    if len(models) == 1:
        return models[0], None
    print("%d models in models/: the newest for such pictures is taken, MODEL chooses another" % len(models))
    return opened(models, first_size(pictures))


def chosen_pictures():
    """PICTURES or those in images/; None after printing that there are none."""
    if PICTURES:
        return [PICTURES] if isinstance(PICTURES, str) else PICTURES
    pictures, others = found("images")
    for path in others:
        print("left out: %s: no name of a picture, which ends with %s" % (path, ", ".join(ENDINGS["images"])))
    return pictures or missing("pictures (.pgm, .ppm)", "images")


def load(pictures):
    """The model for these pictures; None after printing why there is none."""
    before = ram_used()
    chosen = chosen_model(pictures)
    if not chosen:
        return None
    path, file = chosen
    try:
        model = VisionTransformer(file or ModelFile(path))
    except (ValueError, MemoryError, OSError) as error:
        print("classify.py: MODEL: %s; it must be a model file on the board" % (error.args[-1],))
        return None
    file = chosen = None  # the model needs no more of it
    if THRESHOLD is not None:
        model.threshold = THRESHOLD
    print("%s: %d classes, %d blocks, %d tokens" % (path, len(model.labels), len(model.blocks), model.tokens))
    if before is not None:
        used = ram_used() - before, model.activation_bytes
        print("RAM: %d bytes for the model and the code that loads it, of them %d for activations" % used)
    return model


def main():
    """Load the model, classify all pictures and count correct results."""
    pictures = chosen_pictures()
    model = pictures and load(pictures)
    if not model:
        return
    right = known = 0
    for path in pictures:
        print()
        try:
            label = classify(model, path)
        except (ValueError, MemoryError, OSError) as error:
            print("left out: %s" % (error.args[-1],))
            continue
        expected = right_class(path, model.labels)
        if expected is not None:
            known += 1
            right += label == expected
    print()
    print("%d of %d right" % (right, known))


main()

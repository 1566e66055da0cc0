# SPDX-License-Identifier: MIT
# What the page asks of MicroPython: each function returns JSON. The model is `model` of __main__, as at the REPL.

import gc
import json
import time
from math import exp

import ftervit
import ternary
from ftervit import VisionTransformer, read_image
from ftervit.layers import Int8Head

import __main__

SEEN = "/tmp/seen"


def load(path):
    """Load a model file as `model`; says what it is."""
    __main__.model = model = VisionTransformer.load(path)
    about = {"labels": list(model.labels), "side": model.img_size, "channels": model.in_chans}
    about["blocks"], about["tokens"] = len(model.blocks), model.tokens
    about["decides"] = model.threshold is not None  # what is unknown, by itself
    return json.dumps(about)


def current():
    """The model at the REPL; a ValueError in a user's words if there is none."""
    if not hasattr(__main__, "model"):
        raise ValueError("there is no `model` at the REPL any more: choose a model above")
    return __main__.model


def look(path):
    """Classify a PGM or PPM file: labels with probabilities, most likely first, logits, milliseconds.

    "unknown" comes first if the model's threshold says so (SPEC 9.8).
    The picture as the network sees it goes to SEEN: uint8 [side, side, channels].
    """
    model, image = current(), read_image(path)
    started = time.ticks_us()
    picture = model.preprocess(image)
    logits = model(picture)
    milliseconds = time.ticks_diff(time.ticks_us(), started) / 1000
    with open(SEEN, "wb") as file:
        file.write(image.square(model.img_size, model.in_chans))
    logits = list(logits)
    best, unit = max(logits), 2.0**-model.logit_frac
    powers = [exp((logit - best) * unit) for logit in logits]
    total = sum(powers)
    order = sorted(range(len(logits)), key=lambda i: -logits[i])
    ranked = [[model.labels[i], powers[i] / total] for i in order]
    if model.threshold is not None and best < model.threshold:
        known = 1 / (1 + exp(min(60.0, (model.threshold - best) * unit)))  # as predict has it
        ranked = [["unknown", 1 - known]] + [[label, known * share] for label, share in ranked]
    return json.dumps({"ranked": ranked, "logits": logits, "ms": milliseconds})


class RecordingSoftmax:
    """Does as the softmax that it stands for, and keeps the class token's row of each head."""

    def __init__(self, softmax, tokens):
        self.softmax, self.tokens, self.rows = softmax, tokens, []

    def __call__(self, scores, out=None):
        weights = self.softmax(scores, out)
        self.rows.append(bytes(weights[: self.tokens]))
        return weights


def attention(path):
    """How much the class token looks at each patch, by block: sums over heads of weights 0..127, [blocks][patches]."""
    model, image = current(), read_image(path)
    picture = model.preprocess(image)
    attentions = [block.attn for block in model.blocks]
    softmaxes = [attn.softmax for attn in attentions]
    try:
        for attn in attentions:
            attn.softmax = RecordingSoftmax(attn.softmax, model.tokens)
        model(picture)
        # The class token is the first; it looks at itself, too.
        found = [[sum(column) for column in list(zip(*attn.softmax.rows))[1:]] for attn in attentions]
    finally:
        for attn, softmax in zip(attentions, softmaxes):
            attn.softmax = softmax
    return json.dumps(found)


def layers(model):
    """(name, layer) of all layers with a matrix of ternary weights, in the order of a picture's way."""
    for i, stage in enumerate(model.patch_embed.backbone):
        yield "stem %d" % i, stage.conv.linear
    yield "patches", model.patch_embed.proj.linear
    for i, block in enumerate(model.blocks):
        yield "block %d  qkv" % i, block.attn.qkv
        yield "block %d  proj" % i, block.attn.proj
        yield "block %d  fc1" % i, block.mlp.fc1
        yield "block %d  fc2" % i, block.mlp.fc2
    yield "head", model.head


def share_of_zeros(layer):
    """The share of a layer's weights that are zero."""
    features, outputs, zeros = layer.in_features, layer.out_features, 0
    size, trits = (features + 4) // 5 * 16, ternary.heap(features * 16)
    weight = memoryview(layer.weight)
    for tile in range((outputs + 15) // 16):
        ternary.decode(weight[tile * size : (tile + 1) * size], trits)
        # Outputs beyond the last are padding with zero weights.
        zeros += bytes(trits).count(b"\0") - max(0, 16 * (tile + 1) - outputs) * features
    return zeros / (features * outputs)


def zeros():
    """[name, inputs, outputs, share of zeros] of each ternary layer; what has been replaced is left out."""
    found = []
    for name, layer in layers(current()):
        if hasattr(layer, "weight") and not isinstance(layer, Int8Head):
            found.append([name, layer.in_features, layer.out_features, share_of_zeros(layer)])
    return json.dumps(found)


class Lesson:
    """What the page has taught a Learner: pictures, as [(label, features)] in their order.

    base: path of the taught file that they came on top of, or None. The learner is `learner` at the REPL.
    """

    def __init__(self, learner, base=None):
        self.learner, self.base, self.pictures = learner, base, []
        __main__.learner = learner

    def without(self, left_out):
        """A new Learner of everything but the pictures whose numbers are left out."""
        model, capacity = self.learner.model, self.learner.capacity
        made = ftervit.Learner.load(self.base, model) if self.base else ftervit.Learner(model, capacity=capacity)
        for number, (label, features) in enumerate(self.pictures):
            if number not in left_out:
                made.add(label, features)
        return made


class Desk:
    """The Lesson that goes on."""

    lesson = None

    @classmethod
    def now(cls):
        """The Lesson of the current model and of `learner` at the REPL; a new one if another model was loaded."""
        model, found = current(), getattr(__main__, "learner", None)
        if found is None or found.model is not model:
            cls.lesson = Lesson(ftervit.Learner(model))
        elif cls.lesson is None or cls.lesson.learner is not found:
            cls.lesson = Lesson(found)
        return cls.lesson


def start_lesson():
    """A Lesson without pictures, of the current model; returns {label: pictures}, of which there are none."""
    Desk.lesson = Lesson(ftervit.Learner(current()))
    return counts(Desk.lesson)


def counts(lesson):
    """{label: pictures} as JSON."""
    return json.dumps(lesson.learner.counts)


def teach(label, path):
    """Teach a picture; returns {label: pictures}."""
    lesson = Desk.now()
    features = lesson.learner.features(read_image(path))
    lesson.learner.add(label, features)
    lesson.pictures.append((label, features))
    return counts(lesson)


def undo():
    """Take the last picture back; returns {label: pictures}."""
    lesson = Desk.now()
    lesson.learner.undo()
    if lesson.pictures:
        lesson.pictures.pop()
    return counts(lesson)


def guess(path):
    """[label, probability] of what has been taught, most likely first; empty if nothing has."""
    taught = Desk.now().learner
    found = taught.predict(read_image(path), len(taught.labels) + 1) if taught.labels else []
    return json.dumps([list(pair) for pair in found])


def judge(numbers):
    """What a learner says of pictures that it was not taught, but all others.

    numbers: JSON, of the pictures of one take; returns their answers, null for one of a class that is then unheard of.
    """
    lesson, left_out = Desk.now(), json.loads(numbers)
    made = lesson.without(left_out)
    answers = []
    for number in left_out:
        label, features = lesson.pictures[number]
        answers.append(made.decide(features, 1)[0][0] if label in made.labels else None)
    return json.dumps(answers)


def save(path):
    """Write what has been taught; returns {label: pictures}."""
    lesson = Desk.now()
    lesson.learner.save(path)
    return counts(lesson)


def load_taught(path):
    """Read a taught file for the current model, which is the base of what is taught then; returns {label: pictures}."""
    Desk.lesson = Lesson(ftervit.Learner.load(path, current()), path)
    return counts(Desk.lesson)


def cameras():
    """Names of boards whose camera pins are known, and orders of colours."""
    from ftervit.camera import BOARDS, FORMATS

    return json.dumps([sorted(BOARDS), FORMATS["RGB565"]])


def memory():
    """Bytes of MicroPython's heap: in use, and free."""
    return json.dumps([gc.mem_alloc(), gc.mem_free()])

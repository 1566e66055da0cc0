# SPDX-License-Identifier: MIT
# What the page asks of MicroPython: each function returns JSON. The model is `model` of __main__, as at the REPL.

import gc
import json
import time
from math import exp

import ftervit
import ternary
from ftervit import VisionTransformer, read_image

import __main__

SEEN = "/tmp/seen"


def load(path):
    """Load a model file as `model`; says what it is."""
    __main__.model = model = VisionTransformer.load(path)
    about = {"labels": list(model.labels), "side": model.img_size, "channels": model.in_chans}
    about["blocks"], about["tokens"] = len(model.blocks), model.tokens
    return json.dumps(about)


def current():
    """The model at the REPL; a ValueError in a user's words if there is none."""
    if not hasattr(__main__, "model"):
        raise ValueError("there is no `model` at the REPL any more: choose a model above")
    return __main__.model


def look(path):
    """Classify a PGM or PPM file: labels with probabilities, most likely first, logits, milliseconds.

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
    """[name, inputs, outputs, share of zeros] of each layer; what has been replaced by anything else is left out."""
    found = []
    for name, layer in layers(current()):
        if hasattr(layer, "weight"):
            found.append([name, layer.in_features, layer.out_features, share_of_zeros(layer)])
    return json.dumps(found)


def learner():
    """The Learner of the current model, `learner` at the REPL."""
    model = current()
    if not hasattr(__main__, "learner") or __main__.learner.model is not model:
        __main__.learner = ftervit.Learner(model)
    return __main__.learner


def teach(label, path):
    """Teach a picture; returns {label: pictures}."""
    learner().learn(label, read_image(path))
    return json.dumps(learner().counts)


def undo():
    """Take the last picture back; returns {label: pictures}."""
    learner().undo()
    return json.dumps(learner().counts)


def guess(path):
    """[label, probability] of what has been taught, most likely first; empty if nothing has."""
    taught = learner()
    found = taught.predict(read_image(path), len(taught.labels) + 1) if taught.labels else []
    return json.dumps([list(pair) for pair in found])


def save(path):
    """Write what has been taught; returns {label: pictures}."""
    learner().save(path)
    return json.dumps(learner().counts)


def load_taught(path):
    """Read a taught file for the current model; returns {label: pictures}."""
    __main__.learner = ftervit.Learner.load(path, current())
    return json.dumps(__main__.learner.counts)


def memory():
    """Bytes of MicroPython's heap: in use, and free."""
    return json.dumps([gc.mem_alloc(), gc.mem_free()])

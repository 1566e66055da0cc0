# SPDX-License-Identifier: MIT
# Shows how to inspect and change a network: mpremote connect PORT run firmware/tinker.py
# Change first: `make_relu` below, BLOCK, or SRAM. Each step prints its change and the logits; at the end everything is
# restored and the logits are compared bit for bit. Any part can be replaced by a function (x, out), see
# ftervit/layers.py: model.blocks[i].attn.softmax, .mlp.act, .norm1, model.head and so on.
# Buffers hold int8, two's complement: in a bytearray 255 is -1. A layer's `frac` is its scale: q means q * 2^-frac.

import ternary
from ftervit import Softmax, TernaryBitLinear, VisionTransformer, read_image
from ftervit.layers import tokens_of
from ftervit.plan import Plan

BLOCK = 2
SRAM = 24 * 1024


class ShowZeros(TernaryBitLinear):
    """A TernaryBitLinear that prints the share of its weights that are zero, then computes normally."""

    def __call__(self, x, out=None):
        zeros = 0
        for tile in range((self.out_features + 15) // 16):
            # Outputs beyond the last are padding with zero weights.
            padding = max(0, 16 * (tile + 1) - self.out_features)
            zeros += bytes(self.trits(tile)).count(b"\0") - padding * self.in_features
        share = zeros / (self.in_features * self.out_features)
        print("  [%d x %d weights, %.1f %% zero]" % (self.out_features, self.in_features, 100 * share))
        return super().__call__(x, out)


class RecordingSoftmax(Softmax):
    """Returns the usual weights and keeps those of the class token."""

    def __call__(self, scores, out=None):
        weights = super().__call__(scores, out)
        self.seen = bytes(weights[: tokens_of(weights)])
        return weights


def make_relu(in_frac, out_frac):
    """A plain function on buffers of int8: max(x, 0), with the scales of the GELU that it replaces."""
    shift = out_frac - in_frac

    def relu(x, out):
        for i in range(len(x)):
            value = x[i]
            if value < 0 or value > 127:
                value = 0
            out[i] = min(127, value << shift if shift >= 0 else value >> -shift)
        return out

    return relu


class Bench:
    """A model, a picture, and the logits of the unchanged model."""

    def __init__(self):
        self.model = VisionTransformer.load("models/fashion_mnist.safetensors")
        self.picture = self.model.preprocess(read_image("images/9_ankle_boot.pgm"))
        self.block = self.model.blocks[BLOCK]
        self.first = None
        self.first = self.show("the model as shipped")

    def show(self, what, changed=None):
        """Print the logits; `changed`: whether they must differ from the first ones, None for either."""
        logits = list(self.model(self.picture))
        unit = 2.0**-self.model.logit_frac
        print("%-34s" % what, " ".join("%6.2f" % (logit * unit) for logit in logits))
        if changed is not None and (logits != self.first) is not changed:
            raise AssertionError("%s: the logits %s" % (what, "stayed" if changed else "changed"))
        return logits


def call_a_layer(bench):
    """A layer is a callable: for a row of zeros, a linear layer returns the effect of its bias."""
    fc1 = bench.block.mlp.fc1
    y = fc1(bytes(fc1.in_features))
    print("fc1 of a row of zeros, first outputs:", list(y[:8]))


def replace_gelu(bench):
    """Replace a block's GELU by a MicroPython function."""
    mlp = bench.block.mlp
    gelu = mlp.act
    mlp.act = make_relu(mlp.fc1.frac, gelu.frac)
    bench.show("ReLU for GELU in block %d" % BLOCK, changed=True)
    mlp.act = gelu


def subclass_a_layer(bench):
    """Replace a layer by a subclass that prints something and computes the same."""
    mlp = bench.block.mlp
    fc1 = mlp.fc1
    mlp.fc1 = ShowZeros.like(fc1)
    bench.show("fc1 that shows its zeros", changed=False)
    mlp.fc1 = fc1


def look_into_softmax(bench):
    """Replace the softmax: attention then runs head by head instead of in one call, with the same bits."""
    attn = bench.block.attn
    softmax = attn.softmax
    attn.softmax = RecordingSoftmax(softmax.table)
    bench.show("softmax that can be looked into", changed=False)
    print("  the class token looks at", list(attn.softmax.seen))
    attn.softmax = softmax


def plan_for_less_memory(bench):
    """Print the plan of the activations, and that for SRAM bytes: load(path, sram=SRAM) gives the same logits."""
    print(bench.model.plan)
    print("within %d bytes:" % SRAM)
    print(Plan(bench.model.plan.sizes, SRAM))


def skip_a_block(bench):
    """Remove a block."""
    bench.model.blocks.pop(BLOCK)
    bench.show("without block %d" % BLOCK, changed=True)
    bench.model.blocks.insert(BLOCK, bench.block)


def go_by_hand(bench):
    """Do the calls of model(picture) one by one."""
    model = bench.model
    stream = model.embed(bench.picture)
    for block in model.blocks:
        stream = block(stream)
    logits = model.head(model.norm(stream[: model.embed_dim]))
    if list(logits) != bench.first:
        raise AssertionError("by hand: the logits changed")
    best = ternary.arena(4, "i")
    ternary.topk(logits, best)
    print("layer by layer, the same logits:", model.labels[best[0]])


def main():
    """Run all steps; each restores what it changed."""
    bench = Bench()
    steps = call_a_layer, replace_gelu, subclass_a_layer, look_into_softmax, skip_a_block, go_by_hand
    for step in steps + (plan_for_less_memory,):
        step(bench)
    bench.show("everything back, bit for bit", changed=False)


main()

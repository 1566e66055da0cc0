# SPDX-License-Identifier: MIT
# A walk through a network that can be changed: mpremote connect PORT run firmware/tinker.py
# Change first: `make_relu` below, BLOCK, or SRAM. Each step says what it changes and shows the logits; at the end all
# is back and the logits are compared bit for bit. Any part can be replaced by something called the same way, see
# ftervit/layers.py: model.blocks[i].attn.softmax, .mlp.act, .norm1, model.head and so on.
# Buffers hold int8, two's complement: in a bytearray 255 is -1. The `frac` of a layer says what its numbers mean.

import ternary
from ftervit import Softmax, TernaryBitLinear, VisionTransformer, read_image
from ftervit.plan import Plan

BLOCK = 2
SRAM = 24 * 1024


class ShowZeros(TernaryBitLinear):
    """A TernaryBitLinear that prints the share of its weights that are zero, then computes as ever."""

    def __call__(self, x, out=None):
        zeros = 0
        for tile in range((self.out_features + 15) // 16):
            # Outputs beyond the last are padding and always zero.
            padding = max(0, 16 * (tile + 1) - self.out_features)
            zeros += bytes(self.trits(tile)).count(b"\0") - padding * self.in_features
        share = zeros / (self.in_features * self.out_features)
        print("  [%d x %d weights, %.1f %% zero]" % (self.out_features, self.in_features, 100 * share))
        return super().__call__(x, out)


class SoftmaxThatLooks(Softmax):
    """Gives the same weights as ever and remembers those of the class token."""

    def __call__(self, scores, tokens, out=None):
        weights = super().__call__(scores, tokens, out)
        self.seen = bytes(weights[:tokens])
        return weights


def make_relu(in_frac, out_frac):
    """max(x, 0) between the scales of the GELU that it replaces: a plain function on a buffer of int8."""
    shift = out_frac - in_frac

    def relu(x):
        for i in range(len(x)):
            value = x[i]
            if value < 0 or value > 127:
                value = 0
            x[i] = min(127, value << shift if shift >= 0 else value >> -shift)
        return x

    return relu


class Bench:
    """A model, a picture, and the logits as they were at the start."""

    def __init__(self):
        self.model = VisionTransformer.load("models/fashion_mnist.safetensors")
        self.picture = self.model.preprocess(read_image("images/9_ankle_boot.pgm"))
        self.block = self.model.blocks[BLOCK]
        self.first = None
        self.first = self.show("the model as shipped")

    def show(self, what, changed=None):
        """Print the logits; `changed` says whether they must differ from the first ones."""
        logits = list(self.model(self.picture))
        unit = 2.0**-self.model.logit_frac
        print("%-34s" % what, " ".join("%6.2f" % (logit * unit) for logit in logits))
        if changed is not None and (logits != self.first) is not changed:
            raise AssertionError("%s: the logits %s" % (what, "stayed" if changed else "changed"))
        return logits


def call_a_layer(bench):
    """A layer is a callable: a row of zeros through a linear layer gives what its bias alone gives."""
    fc1 = bench.block.mlp.fc1
    y = fc1(bytes(fc1.in_features))
    print("fc1 of a row of zeros, first outputs:", list(y[:8]))


def replace_gelu(bench):
    """A MicroPython function in the place of the block's GELU."""
    mlp = bench.block.mlp
    gelu = mlp.act
    mlp.act = make_relu(mlp.fc1.frac, gelu.frac)
    bench.show("ReLU for GELU in block %d" % BLOCK, changed=True)
    mlp.act = gelu


def subclass_a_layer(bench):
    """A subclass that prints something and computes the same."""
    mlp = bench.block.mlp
    fc1 = mlp.fc1
    mlp.fc1 = ShowZeros.like(fc1)
    bench.show("fc1 that shows its zeros", changed=False)
    mlp.fc1 = fc1


def look_into_softmax(bench):
    """Attention now runs head by head instead of in one call: same bits."""
    attn = bench.block.attn
    softmax = attn.softmax
    attn.softmax = SoftmaxThatLooks(softmax.table)
    bench.show("softmax that can be looked into", changed=False)
    print("  the class token looks at", list(attn.softmax.seen))
    attn.softmax = softmax


def plan_for_less_memory(bench):
    """Where activations lie, and where they would within SRAM bytes: load(path, sram=SRAM) gives the same logits."""
    print(bench.model.plan)
    print("within %d bytes:" % SRAM)
    print(Plan(bench.model.plan.sizes, SRAM))


def skip_a_block(bench):
    """One block less."""
    bench.model.blocks.pop(BLOCK)
    bench.show("without block %d" % BLOCK, changed=True)
    bench.model.blocks.insert(BLOCK, bench.block)


def go_by_hand(bench):
    """What model(picture) does, one call after the other."""
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
    """All steps, each of which puts back what it changed."""
    bench = Bench()
    steps = call_a_layer, replace_gelu, subclass_a_layer, look_into_softmax, skip_a_block, go_by_hand
    for step in steps + (plan_for_less_memory,):
        step(bench)
    bench.show("everything back, bit for bit", changed=False)


main()

# A walk through a network that can be changed: mpremote connect PORT run firmware/tinker.py
# Change first: `relu` below, or the block that is skipped. Each step says what it changed and shows the logits;
# the last one puts everything back and compares bit for bit. Any part of the model can be replaced by a function
# or an object that is called the same way: model.blocks[i].attn.softmax, .mlp.act, .norm1, model.head and so on.
# Buffers hold int8, two's complement: in a bytearray 255 is -1. model.blocks[2].mlp.fc1.frac says what they mean.

import ternary
from ftervit import Softmax, TernaryBitLinear, VisionTransformer, read_image

BLOCK = 2


def numbers(logits):
    """A copy of a logits buffer that outlives the next call."""
    return [logit for logit in logits]


def show(what, logits, unit):
    print("%-34s" % what, " ".join("%6.2f" % (logit * unit) for logit in logits))


class ShowZeros(TernaryBitLinear):
    """A TernaryBitLinear that prints the share of its weights that are zero, then computes as ever."""

    def __call__(self, x, out=None):
        zeros = 0
        for tile in range((self.out_features + 15) // 16):
            # Outputs beyond the last are padding and always zero.
            lanes = min(16, self.out_features - 16 * tile)
            zeros += bytes(self.trits(tile)).count(b"\0") - (16 - lanes) * self.in_features
        share = zeros / (self.in_features * self.out_features)
        print("  [%d x %d weights, %.1f %% zero]" % (self.out_features, self.in_features, 100 * share))
        return super().__call__(x, out)


def make_relu(in_frac, out_frac):
    """max(x, 0) between the scales of the GELU that it replaces; a plain function on a buffer of int8."""
    shift = out_frac - in_frac

    def relu(x):
        for i in range(len(x)):
            value = x[i]
            if value < 0 or value > 127:
                value = 0
            x[i] = min(127, value << shift if shift >= 0 else value >> -shift)
        return x

    return relu


class SoftmaxThatLooks(Softmax):
    """Gives the same weights as ever and remembers those of the class token."""

    def __call__(self, scores, tokens, out=None):
        weights = super().__call__(scores, tokens, out)
        self.seen = bytes(weights[:tokens])
        return weights


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def main():
    model = VisionTransformer.load("models/fashion_mnist.safetensors")
    picture = model.preprocess(read_image("images/9_ankle_boot.pgm"))
    unit = 2.0**-model.head.frac
    first = numbers(model(picture))
    show("the model as shipped", first, unit)

    # A layer is a callable: one row of zeros through block 2's first linear gives what its bias alone gives.
    block = model.blocks[BLOCK]
    fc1 = block.mlp.fc1
    y = fc1(bytes(fc1.in_features))
    print("fc1 of a row of zeros, first outputs:", [y[i] for i in range(8)])

    # 1. A MicroPython function in place of block 2's GELU.
    gelu = block.mlp.act
    block.mlp.act = make_relu(fc1.frac, gelu.frac)
    changed = numbers(model(picture))
    show("block 2 with ReLU for GELU", changed, unit)
    check(changed != first, "ReLU changed nothing")
    block.mlp.act = gelu

    # 2. A subclass that prints the share of zeros; the numbers stay the same.
    block.mlp.fc1 = ShowZeros(fc1.weight, fc1.bias, fc1.multiplier, fc1.shift, fc1.in_features, fc1.frac)
    same = numbers(model(picture))
    show("fc1 that shows its zeros", same, unit)
    check(same == first, "ShowZeros changed the logits")
    block.mlp.fc1 = fc1

    # 3. A softmax that can be looked into. Attention now runs head by head instead of in one call: same bits.
    softmax = block.attn.softmax
    block.attn.softmax = SoftmaxThatLooks(softmax.table)
    same = numbers(model(picture))
    show("softmax that can be looked into", same, unit)
    print("  the class token looks at", list(block.attn.softmax.seen))
    check(same == first, "attention in parts changed the logits")
    block.attn.softmax = softmax

    # 4. Without block 2.
    model.blocks.pop(BLOCK)
    changed = numbers(model(picture))
    show("without block 2", changed, unit)
    check(changed != first, "skipping a block changed nothing")
    model.blocks.insert(BLOCK, block)

    # 5. By hand: what model(picture) does, one call after the other.
    stream = model.embed(picture)
    for part in model.blocks:
        part(stream)
    normed = model.norm(stream[: model.embed_dim])
    show("layer by layer at the REPL", model.head(normed), unit)

    last = numbers(model(picture))
    show("everything back", last, unit)
    check(last == first, "the logits did not come back")
    best = ternary.arena(4, "i")
    ternary.topk(model(picture), best)
    print("same bits as at the start, still:", model.labels[best[0]])


main()

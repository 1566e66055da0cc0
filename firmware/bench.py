# SPDX-License-Identifier: MIT
# How fast the kernels are: mpremote connect PORT run firmware/bench.py
# Change first: MODELS (a file on the board for each network), SRAM and PIECE (bytes for activations), SOAK.
# Prints a row for each kernel of DeiT-III-S at 224 and for each network that is there; cycles are seconds times the
# board's clock. `just bench-s3` runs these very rows on a simulated chip and calls its cycles modelled.
# To find rare errors of two cores (SOAK, or `--soak N` under Python on a computer): networks run N times on one and
# on two cores, and checksums of their logits must agree.

import gc
import os
import sys
import time
from binascii import crc32

import ternary

MODELS = {
    "deit3_small_patch16_224": "models/deit3_small_patch16_224.safetensors",
    "shipped_model": "models/fashion_mnist.safetensors",
}
SRAM, PIECE = 192 * 1024, 100 * 1024  # for networks that do not fit as they are
TOKENS, WIDTH, HIDDEN, HEADS = 197, 384, 1536, 6  # DeiT-III-S at 224
ELEMENTWISE = 49  # tokens in the rows of gelu, residual_add and layernorm
LINEAR = (
    ("linear_qkv", WIDTH, 3 * WIDTH),
    ("linear_proj", WIDTH, WIDTH),
    ("linear_fc1", WIDTH, HIDDEN),
    ("linear_fc2", HIDDEN, WIDTH),
)
SOAK = 0
HEAD = "%-26s %13s %13s %10s %6s %10s"


def pattern(size, low, high):
    """`size` bytes that go through low..high in leaps."""
    span = high - low + 1
    leap = 37 if span % 37 else 41
    period = bytes((low + i * leap % span) & 255 for i in range(span))
    return (period * (size // span + 1))[:size]


def filled(size, low=-128, high=127):
    """The same in fast memory."""
    buffer = ternary.arena(size, "B")
    buffer[:] = pattern(size, low, high)
    return buffer


def round_up(count):
    """The next multiple of 16."""
    return (count + 15) // 16 * 16


class Kernels:
    """Calls of single operations. packed: bytes that stand for weights (any bytes decode), where weights lie."""

    def __init__(self, packed):
        self.packed = memoryview(packed)

    def linear(self, inputs, outputs, rows):
        """A call of one linear layer: (function, multiply-accumulates)."""
        size = round_up(outputs) * ((inputs + 4) // 5)
        weight = self.packed[:size]
        if len(weight) < size:
            raise ValueError("%d bytes of weights, the file has %d" % (size, len(self.packed)))
        x, out = filled(rows * inputs), ternary.arena(rows * outputs)
        bias, shift = bytes(2 * outputs), b"\7" * (round_up(outputs) // 16)
        multiplier, work = pattern(outputs, 64, 127), ternary.arena(ternary.linear_scratch(inputs))
        return lambda: ternary.linear(x, weight, bias, multiplier, shift, out, work), rows * inputs * outputs

    def gemm_inner(self, measure):
        """What 8 more rows of the longest row take: the inner loop without decoding, and all but without drain."""
        inputs, outputs = 4032, 16
        some, _ = self.linear(inputs, outputs, 8)
        some()  # brings its weights into the cache
        cycles = measure(some)
        del some
        more, macs = self.linear(inputs, outputs, 16)
        more()
        return macs // 2, measure(more) - cycles

    def attention(self):
        """Calls of scores, softmax and values for all heads of a layer: [(name, function, multiply-accumulates)]."""
        step, head_width = round_up(TOKENS), WIDTH // HEADS
        qkv, out = filled(TOKENS * 3 * WIDTH, -62, 62), ternary.arena(TOKENS * WIDTH)
        scores, weights = ternary.arena(TOKENS * step), filled(TOKENS * step, 0, 30)
        work = ternary.arena(ternary.attention_scratch(TOKENS, head_width))
        table = bytes([127] + [127 * 8 // (8 + i) for i in range(1, 256)])

        def qk():
            for head in range(HEADS):
                ternary.attention_scores(qkv, TOKENS, HEADS, head, 8, scores, work)

        def softmax():
            for _ in range(HEADS):
                ternary.softmax(scores, step, table, scores)

        def av():
            for head in range(HEADS):
                ternary.attention_values(weights, qkv, TOKENS, HEADS, head, 1, out, work)

        macs = TOKENS * TOKENS * WIDTH
        return [("attention_qk", qk, macs), ("attention_av", av, macs), ("softmax", softmax, 0)]

    def elementwise(self):
        """Calls of what has no products, for some tokens: [(name, function, 0)]."""
        hidden, table = filled(ELEMENTWISE * HIDDEN), pattern(256, -128, 127)
        stream, y = ternary.arena(2 * ELEMENTWISE * WIDTH, "h"), filled(ELEMENTWISE * WIDTH)
        trits = self.packed[: (WIDTH // 16 + 4) // 5 * 16]
        work = ternary.arena(ternary.layernorm_scratch(WIDTH))
        return [
            ("gelu", lambda: ternary.lookup(hidden, table, hidden), 0),
            ("residual_add", lambda: ternary.residual_add(stream, y, 3), 0),
            ("layernorm", lambda: ternary.layernorm(stream, trits, trits, 20000, 3, 500, WIDTH, y, work), 0),
        ]


def macs_of(model):
    """Multiply-accumulates of a picture, logits left out."""
    width, tokens = model.embed_dim, model.tokens
    convolutions = [stage.conv for stage in model.patch_embed.backbone] + [model.patch_embed.proj]
    total = sum(c.new_side**2 * c.linear.in_features * c.linear.out_features for c in convolutions)
    hidden = model.blocks[0].mlp.hidden
    block = tokens * (4 * width * width + 2 * width * hidden) + 2 * tokens * tokens * width
    return total + len(model.blocks) * block


def load(path):
    """A network: as it is if its activations fit, else by a plan."""
    from ftervit import VisionTransformer

    model = VisionTransformer.load(path, sram=SRAM, piece=PIECE)
    if model.plan.rows == model.tokens and not model.plan.external_bytes():
        del model
        gc.collect()
        model = VisionTransformer.load(path)
    return model


def network(path):
    """A forward pass: (function, multiply-accumulates)."""
    model = load(path)
    size = model.img_size * model.img_size * model.in_chans
    # A large picture goes where the heap is: PSRAM, on boards that have it.
    picture = filled(size) if model.plan.sram is None else bytearray(pattern(size, -128, 127))
    return lambda: model(picture), macs_of(model)


def there(path):
    """Whether a file is there."""
    try:
        os.stat(path)
    except OSError:
        return False
    return True


def frequency():
    """Cycles per second of the core that runs this, or None."""
    try:
        import machine

        return machine.freq()
    except (ImportError, AttributeError):
        return None


def stopwatch(function):
    """Seconds of a call, the best of three; the first one fills caches."""
    best = None
    for _ in range(3):
        gc.collect()
        if hasattr(time, "ticks_us"):
            started = time.ticks_us()
            function()
            elapsed = time.ticks_diff(time.ticks_us(), started) / 1e6
        else:
            started = time.time()
            function()
            elapsed = time.time() - started
        best = elapsed if best is None or elapsed < best else best
    return best


def show(name, macs, seconds, cores=1):
    """Print a row."""
    hertz = frequency()
    cycles = None if hertz is None else seconds * hertz
    rate = "" if cycles is None or not macs else "%.2f" % (macs / cycles)
    print(HEAD % (name, macs or "", "" if cycles is None else int(cycles), rate, cores, "%.6f" % seconds))


def skip(name, error):
    """Say why a row is missing."""
    print("%-26s left out: %s" % (name, error))


def measured():
    """Print all rows, measured on what this runs on."""
    print(HEAD % ("name", "macs", "cycles", "MAC/cycle", "cores", "seconds"))
    packed = pattern(131072, 0, 242)
    for path in MODELS.values():
        if there(path):
            from ftervit.modelfile import map_file

            packed = map_file(path)
            if len(packed) >= 131072:
                break
    kernels = Kernels(packed)
    try:
        show("gemm_inner", *kernels.gemm_inner(stopwatch))
    except (MemoryError, ValueError) as error:
        skip("gemm_inner", error)
    for name, inputs, outputs in LINEAR:
        linear(kernels, name, inputs, outputs)
    for make in (kernels.attention, kernels.elementwise):
        gc.collect()
        try:
            for name, function, macs in make():
                show(name, macs, stopwatch(function))
        except MemoryError as error:
            skip(make.__name__, error)
    for name, path in MODELS.items():
        networks(name, path)


def linear(kernels, name, inputs, outputs):
    """A linear layer's row, with as many tokens as fit."""
    rows = TOKENS
    while rows:
        gc.collect()
        try:
            function, macs = kernels.linear(inputs, outputs, rows)
        except MemoryError:
            rows //= 2
            continue
        except ValueError as error:
            return skip(name, error)
        return show(name if rows == TOKENS else "%s (%d tokens)" % (name, rows), macs, stopwatch(function))
    return skip(name, "no memory for one token")


def networks(name, path):
    """A network's rows, on one core and on two."""
    if not there(path):
        return skip(name, path + " is not here")
    for cores in (1, 2):
        gc.collect()
        if ternary.cores(cores) == cores:
            try:
                function, macs = network(path)
                show(name, macs, stopwatch(function), cores)
            except MemoryError as error:
                skip(name, error)
    ternary.cores(1)


def soak(times):
    """Run every network that is there `times` times on one core and on two; returns how many checksums differed."""
    wrong = 0
    for name, path in MODELS.items():
        if not there(path):
            skip(name, path + " is not here")
            continue
        expected = None
        for cores in (1, 2):
            gc.collect()
            if ternary.cores(cores) != cores:
                skip(name, "there is no second core")
                continue
            function, _ = network(path)
            for i in range(times):
                found = crc32(function())
                expected = found if expected is None else expected
                if found != expected:
                    wrong += 1
                    print("%s: run %d on %d cores: logits %08x, not %08x" % (name, i, cores, found, expected))
            print("%s: %d runs on %d cores: logits %08x" % (name, times, cores, expected))
    ternary.cores(1)
    print("%d of the checksums differ" % wrong)
    return wrong


def main():
    """The table, or the soak test."""
    arguments = sys.argv[1:] if hasattr(sys, "argv") else []
    if arguments and (len(arguments) != 2 or arguments[0] != "--soak" or not arguments[1].isdigit()):
        raise SystemExit("usage: bench.py [--soak N]")
    times = int(arguments[1]) if arguments else SOAK
    if times:
        soak(times)
    else:
        measured()


if __name__ == "__main__":
    main()

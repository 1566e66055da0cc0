# SPDX-License-Identifier: MIT
# Measures the speed of kernels and networks: mpremote connect PORT run firmware/bench.py
# Change first: MODELS (a file on the board for each network), RESERVE (bytes left free in one block), LAYERS, SOAK.
# Prints a row for each kernel of DeiT-III-S at 224 and for each network on the board, with cycles if the clock is
# known; with LAYERS (or `--layers`) a row for each layer of the networks. `just bench-s3` runs the same rows on a
# simulated chip; its cycles are modelled. The soak test (SOAK, or `--soak N`) finds rare errors: networks run N times
# on one and on two cores; the checksums of their logits must agree, and free memory must not shrink.

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
RESERVE = 64 * 1024  # of internal memory, for Wi-Fi and others: 0 if nobody else is there
TOKENS, WIDTH, HIDDEN, HEADS = 197, 384, 1536, 6  # DeiT-III-S at 224
ELEMENTWISE = 49  # tokens in the rows of gelu, residual_add and layernorm
LINEAR = (
    ("linear_qkv", WIDTH, 3 * WIDTH),
    ("linear_proj", WIDTH, WIDTH),
    ("linear_fc1", WIDTH, HIDDEN),
    ("linear_fc2", HIDDEN, WIDTH),
)
WEIGHTS = 131072  # bytes, enough for each layer of LINEAR
LAYERS = False
SOAK = 0
KEPT = 1024  # bytes that the garbage collector may keep because a word looks like a pointer
LAYER = "%-38s %6s %10s %13s %10s"
HEAD = "%-26s %13s %13s %10s %6s %10s"


def pattern(size, low, high):
    """`size` bytes that cover low..high in steps of `leap`."""
    span = high - low + 1
    leap = 37 if span % 37 else 41
    period = bytes((low + i * leap % span) & 255 for i in range(span))
    return (period * (size // span + 1))[:size]


def filled(size, low=-128, high=127):
    """`pattern` in fast memory."""
    buffer = ternary.arena(size, "B")
    buffer[:] = pattern(size, low, high)
    return buffer


def round_up(count):
    """The next multiple of 16."""
    return (count + 15) // 16 * 16


class Kernels:
    """Calls of single operations. packed: bytes used as weights (any bytes decode), in the memory of weights."""

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
        """The cost of 8 more rows of the longest row length: the inner loop, no decoding, almost no drain."""
        inputs, outputs = 4032, 16
        some, _ = self.linear(inputs, outputs, 8)
        some()  # brings its weights into the cache
        cycles = measure(some)
        del some
        more, macs = self.linear(inputs, outputs, 16)
        more()
        return macs // 2, measure(more) - cycles

    def attention(self):
        """Scores, softmax and values for all heads of a layer: [(name, function, multiply-accumulates)]."""
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
        """Operations without products, for ELEMENTWISE tokens: [(name, function, 0)]."""
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
    """Multiply-accumulates per picture, without the head."""
    width, tokens = model.embed_dim, model.tokens
    convolutions = [stage.conv for stage in model.patch_embed.backbone] + [model.patch_embed.proj]
    total = sum(c.new_side**2 * c.linear.in_features * c.linear.out_features for c in convolutions)
    hidden = model.blocks[0].mlp.hidden
    block = tokens * (4 * width * width + 2 * width * hidden) + 2 * tokens * tokens * width
    return total + len(model.blocks) * block


def load(path):
    """A network, planned into what is free less RESERVE."""
    from ftervit import VisionTransformer

    return VisionTransformer.load(path, reserve=RESERVE)


def network(path):
    """A forward pass: (function, multiply-accumulates)."""
    model = load(path)
    size = model.img_size * model.img_size * model.in_chans
    picture = ternary.heap(size, "B")  # where pictures lie
    picture[:] = pattern(size, -128, 127)
    return lambda: model(picture), macs_of(model)


def there(path):
    """Whether a file exists, here or in /rom."""
    for place in ("", "/rom/"):
        try:
            os.stat(place + path)
            return True
        except OSError:
            pass
    return False


def frequency():
    """Clock of the core in Hz, or None if unknown."""
    try:
        import machine

        return machine.freq()
    except (ImportError, AttributeError):
        return None


def microseconds():
    """A start time for `elapsed_since`."""
    return time.ticks_us() if hasattr(time, "ticks_us") else time.time()


def elapsed_since(started):
    """Microseconds since a start time."""
    return time.ticks_diff(time.ticks_us(), started) if hasattr(time, "ticks_us") else (time.time() - started) * 1e6


def stopwatch(function):
    """Seconds of a call, the best of three; the first one fills caches."""
    best = None
    for _ in range(3):
        gc.collect()
        started = microseconds()
        function()
        elapsed = elapsed_since(started) / 1e6
        best = elapsed if best is None or elapsed < best else best
    return best


def show(name, macs, seconds, cores=1):
    """Print a row."""
    hertz = frequency()
    cycles = None if hertz is None else seconds * hertz
    rate = "" if cycles is None or not macs else "%.2f" % (macs / cycles)
    print(HEAD % (name, macs or "", "" if cycles is None else int(cycles), rate, cores, "%.6f" % seconds))


def skip(name, error):
    """Print the reason why a row is missing."""
    print("%-26s left out: %s" % (name, error))


def measured():
    """Measure and print all rows."""
    print(HEAD % ("name", "macs", "cycles", "MAC/cycle", "cores", "seconds"))
    packed = pattern(WEIGHTS, 0, 242)
    for path in MODELS.values():
        if there(path):
            from ftervit.modelfile import map_file

            packed = map_file(path)
            if len(packed) >= WEIGHTS:
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


class Layers:
    """Times every layer of a model between `watch` and `stop`: calls, microseconds (without nested layers) and
    multiply-accumulates, by the layer's name. It patches classes, not objects, so checks of a layer's type still
    work."""

    def __init__(self, model):
        self.rows, self.order, self.inner, self.kept = {}, [], [0], []
        self.names = {}
        for i, stage in enumerate(model.patch_embed.backbone):
            self._name("patch_embed.backbone.%d.conv" % i, stage.conv)
            self._name("patch_embed.backbone.%d.act" % i, stage.act)
        self._name("patch_embed.proj", model.patch_embed.proj)
        for i, block in enumerate(model.blocks):
            for name in ("norm1", "attn.qkv", "attn", "attn.proj", "norm2", "mlp.fc1", "mlp.act", "mlp.fc2"):
                part = block
                for step in name.split("."):
                    part = getattr(part, step)
                self._name("blocks.%d.%s" % (i, name), part)
        self._name("norm", model.norm)
        self._name("head", model.head)

    def _name(self, name, layer):
        self.names[id(layer)] = name
        self.order.append(name)
        self.rows[name] = [0, 0, 0]

    def timed(self, function, products):
        """`function`, timed for the layer that is its first argument; products: MACs from its arguments."""

        def call(*arguments):
            row = self.rows.get(self.names.get(id(arguments[0])))
            if row is None:  # a layer of another model, or the user's own
                return function(*arguments)
            self.inner.append(0)
            started = microseconds()
            result = function(*arguments)
            elapsed = elapsed_since(started)
            row[0] += 1
            row[1] += elapsed - self.inner.pop()
            row[2] += products(*arguments)
            self.inner[-1] += elapsed
            return result

        return call

    def watch(self):
        """Start timing; `stop` must follow."""
        from ftervit import layers

        def rows(layer, x, *rest):
            return len(x) * layer.out_features

        def some(layer, first, count, x, *rest):
            return len(x) * count

        def scores(attn, operation, qkv, tokens, heads, out, column):
            return 2 * tokens * tokens * heads * (attn.width // attn.heads)

        def windows(conv, *arguments):
            return conv.new_side**2 * conv.kernel**2 * conv.channels * conv.out_features

        def none(*arguments):
            return 0

        self.kept = []
        for owner, name, products in (
            (layers.TernaryBitLinear, "__call__", rows),
            (layers.TernaryBitLinear, "add", rows),  # to the residual stream, whose time counts as the layer's
            (layers.TernaryBitLinear, "columns", some),
            (layers.TernaryHead, "__call__", rows),
            (layers.Attention, "_attend", scores),
            (layers.TernaryBitConv2d, "__call__", windows),
            (layers.TernaryLayerNorm, "__call__", none),
            (layers.Activation, "__call__", none),
        ):
            function = getattr(owner, name)
            self.kept.append((owner, name, function))
            # A function becomes a method; an object with __call__ would not.
            setattr(owner, name, self.timed(function, products))

    def stop(self):
        """Restore the patched classes."""
        for owner, name, value in self.kept:
            setattr(owner, name, value)
        self.kept = []


def layers(path):
    """Print a row for each layer of a network: calls, milliseconds, multiply-accumulates and, if the clock is known,
    multiply-accumulates per cycle, of the fastest of three pictures. Returns the rows: name -> [calls, us, MACs]."""
    model = load(path)
    picture = bytearray(pattern(model.img_size * model.img_size * model.in_chans, -128, 127))
    model(picture)
    best = None
    for _ in range(3):
        gc.collect()
        watched = Layers(model)
        watched.watch()
        try:
            started = microseconds()
            model(picture)
            total = elapsed_since(started)
        finally:
            watched.stop()
        if best is None or total < best[0]:
            best = total, watched
    total, watched = best
    print(LAYER % ("layer", "calls", "ms", "MACs", "MAC/cycle"))
    calls = spent = products = 0
    for name in watched.order:
        row = watched.rows[name]
        show_layer(name, *row)
        calls, spent, products = calls + row[0], spent + row[1], products + row[2]
    show_layer("(between layers)", 0, total - spent, 0)
    show_layer(path, calls, total, products)
    return watched.rows


def show_layer(name, calls, spent, macs):
    """Print a row of `layers`."""
    hertz = frequency()
    rate = "%.2f" % (macs / (spent * hertz / 1e6)) if hertz and macs and spent else ""
    print(LAYER % (name, calls or "", "%.3f" % (spent / 1000), macs or "", rate))


def soak(times):
    """Run every network on the board `times` times on one core and on two; returns the number of faults: checksums
    that differ, and runs that lost memory."""
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
            first = crc32(function())
            expected = first if expected is None else expected
            free = free_bytes()
            for i in range(times):
                found = crc32(function())
                if found != expected:
                    wrong += 1
                    print("%s: run %d on %d cores: logits %08x, not %08x" % (name, i, cores, found, expected))
            left = free_bytes()
            if free is not None and left < free - KEPT:
                wrong += 1
                print("%s: %d bytes were free before %d runs, %d are after" % (name, free, times, left))
            print("%s: %d runs on %d cores: logits %08x, %s bytes free" % (name, times, cores, expected, left))
            del function
    ternary.cores(1)
    print("%d faults" % wrong)
    return wrong


def free_bytes():
    """Bytes of free heap, or None if unknown."""
    gc.collect()
    return gc.mem_free() if hasattr(gc, "mem_free") else None


def all_layers():
    """Print the layers of all networks on the board."""
    for name, path in MODELS.items():
        if there(path):
            layers(path)
        else:
            skip(name, path + " is not here")


def main():
    """Print the table or the layers, or run the soak test."""
    arguments = sys.argv[1:] if hasattr(sys, "argv") else []
    times = SOAK
    if len(arguments) == 2 and arguments[0] == "--soak" and arguments[1].isdigit():
        times = int(arguments[1])
    elif arguments not in ([], ["--layers"]):
        raise SystemExit("usage: bench.py [--layers | --soak N]")
    if times:
        soak(times)
    elif arguments or LAYERS:
        all_layers()
    else:
        measured()


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: MIT
# Checks that all backends give the same results on this board: mpremote connect PORT run firmware/selfcheck.py
# Change first: MODEL (a file on the board) or ROUNDS (inputs per operation, and pictures). Each operation gets noise
# with extreme values, the model pictures of noise; results are compared with those of the reference backend, and a
# difference raises RuntimeError. On a board this means a fault. In an emulator it means that its PIE instructions are
# wrong, as some are in Espressif's QEMU (espressif/qemu, issues 161 and 162).

import gc
import os

import ternary

MODEL = "models/fashion_mnist.safetensors"
ROUNDS = 3
TOKENS, WIDTH, HIDDEN, HEADS = 19, 64, 144, 2
PLACES = ("", "/rom/", "/")
PORTABLE = "reference"


def backends():
    """The names of the backends that this firmware has."""
    try:
        ternary.use("")
    except ValueError as error:
        return str(error).split(" one of ")[1].split(", ")


def found(path):
    """The path of a file in the current directory, in /rom or in /."""
    for place in PLACES:
        try:
            os.stat(place + path)
            return place + path
        except OSError:
            pass
    raise OSError("%s is neither here nor in /rom: deploy a model, or change MODEL" % path)


def noise(size, number, low=-128, high=127):
    """`size` pseudo-random bytes in low..high, the same on every target; every ninth is low or high."""
    state, data = 12345 + number, bytearray(size)
    for i in range(size):
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        value = low + (state >> 16) % (high - low + 1)
        if i % 9 == 0:
            value = high if state >> 8 & 1 else low
        data[i] = value & 255
    return data


def zeros(size, typecode="b"):
    """An output buffer in fast memory."""
    return ternary.arena(size, typecode)


def residual_add(number):
    """Sums, some of which saturate at either end."""
    stream = zeros(2 * TOKENS * WIDTH, "h")
    y = noise(TOKENS * WIDTH, number)
    for i in range(TOKENS * WIDTH):
        stream[i] = (-32768, -32760, 32767, 300 * (i % 100) - 15000)[i % 4]
    ternary.residual_add(stream, y, number % 4)
    return stream


def layernorm(number):
    """Rows of many magnitudes, up to full scale."""
    stream, out = zeros(2 * TOKENS * WIDTH, "h"), zeros(TOKENS * WIDTH)
    values = noise(2 * TOKENS * WIDTH, number)
    for i in range(TOKENS * WIDTH):
        value = (values[2 * i] | values[2 * i + 1] << 8) - 32768
        stream[i] = value >> (i // WIDTH) % 12
    trits = noise((WIDTH // 16 + 4) // 5 * 16, number + 1)
    ternary.layernorm(stream, trits, trits, 20000, 3, 500, WIDTH, out, zeros(ternary.layernorm_scratch(WIDTH)))
    return out


def linear(number):
    """Products with random trits."""
    groups = HIDDEN // 16
    weight = noise(HIDDEN * ((WIDTH + 4) // 5), number)
    bias, multiplier = noise(2 * HIDDEN, number + 1), noise(HIDDEN, number + 2, 64, 127)
    shift, out = noise(groups, number + 3, 4, 9), zeros(TOKENS * HIDDEN)
    x, work = noise(TOKENS * WIDTH, number + 4), zeros(ternary.linear_scratch(WIDTH))
    ternary.linear(x, weight, bias, multiplier, shift, out, work)
    return out


def lookup(number):
    """A random table and random values."""
    x, out = noise(TOKENS * WIDTH, number), zeros(TOKENS * WIDTH)
    ternary.lookup(x, noise(256, number + 1), out)
    return out


def attention(number):
    """Scores, softmax and weighted values of all heads."""
    step, table = (TOKENS + 15) // 16 * 16, bytes([127] + [127 * 8 // (8 + i) for i in range(1, 256)])
    qkv, out = noise(TOKENS * 3 * WIDTH, number, -62, 62), zeros(TOKENS * WIDTH)
    scores, work = zeros(TOKENS * step), zeros(ternary.attention_scratch(TOKENS, WIDTH // HEADS))
    for head in range(HEADS):
        ternary.attention_scores(qkv, TOKENS, HEADS, head, 8, scores, work)
        ternary.softmax(scores, step, table, scores)
        ternary.attention_values(scores, qkv, TOKENS, HEADS, head, 1, out, work)
    return out


OPERATIONS = (residual_add, layernorm, linear, lookup, attention)


def results(path, backend, rounds):
    """What a backend computes: [(name, values)]."""
    from ftervit import VisionTransformer

    ternary.use(backend)
    values = [(call.__name__, list(call(number))) for call in OPERATIONS for number in range(rounds)]
    gc.collect()
    model = VisionTransformer.load(path)
    size = model.img_size * model.img_size * model.in_chans
    return values + [("logits", list(model(noise(size, number)))) for number in range(rounds)]


def check(path=MODEL, rounds=ROUNDS):
    """Compare all backends with the portable one; returns {backend: names of what differs}, not those that agree."""
    path, names, wrong = found(path), backends(), {}
    wanted = results(path, PORTABLE, rounds)
    for backend in names:
        if backend == PORTABLE:
            continue
        differing = []
        for (name, values), (_, right) in zip(results(path, backend, rounds), wanted):
            if values != right and name not in differing:
                differing.append(name)
        print("%s: %s" % (backend, "wrong: " + ", ".join(differing) if differing else "as %s" % PORTABLE))
        if differing:
            wrong[backend] = differing
    # The host simulator knows its own SIMD backends only while it computes on the host.
    ternary.use("host" if "host" in names else names[0])
    if len(names) == 1:
        print("%s: the only backend" % names[0])
    return wrong


def main():
    """Print the result; raises RuntimeError if backends differ."""
    wrong = check()
    if wrong:
        raise RuntimeError(
            "wrong numbers from %s: ternary.use('%s') computes right ones" % (", ".join(wrong), PORTABLE)
        )


if __name__ == "__main__":
    main()

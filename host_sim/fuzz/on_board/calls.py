# SPDX-License-Identifier: MIT
"""One valid call of every operation of `ternary`, and random calls near them. Runs on MicroPython and on CPython."""

from binascii import crc32

import ternary

SIZES = {"b": 1, "B": 1, "h": 2, "i": 4}


def buffer(typecode, values):
    """An arena with these values."""
    values = list(values)
    view = ternary.arena(len(values) * SIZES[typecode], typecode)
    for i, value in enumerate(values):
        view[i] = value
    return view


def noise(count, low, high):
    """Reproducible numbers in low..high."""
    state = count
    for _ in range(count):
        state = (state * 1103515245 + 12345) % 2**31
        yield low + (state >> 8) % (high - low + 1)


def new(typecode, count, low=0, high=0):
    """A maker of arguments."""
    return lambda: buffer(typecode, noise(count, low, high))


def exponentials():
    """A table allowed by SPEC 7.2."""
    return buffer("b", [127 >> (i // 16) for i in range(256)])


# x [3, 7], N = 18: what linear operations begin with.
LAYER = [
    new("b", 21, -128, 127),
    new("B", 64, 0, 255),
    new("h", 18, -99, 99),
    new("b", 18, 0, 127),
    new("B", 2, 0, 15),
    new("b", 54),
]
# T = 5, H = 2, d = 3; pictures of 6 x 4 pixels.
CASES = {
    "decode": [new("B", 32, 0, 255), new("b", 96)],
    "linear": LAYER + [new("b", ternary.linear_scratch(7))],
    "linear_logits": [
        new("b", 21, -128, 127),
        new("B", 64, 0, 255),
        new("i", 18, -99, 99),
        new("h", 18, 0, 4095),
        new("i", 54),
        new("b", ternary.linear_scratch(7)),
    ],
    "linear_add": LAYER + [new("h", 54, -32768, 32767), 7, new("b", ternary.linear_scratch(7))],
    "linear_columns": [
        new("b", 21, -128, 127),
        3,
        new("B", 64, 0, 255),
        new("h", 18, -99, 99),
        new("b", 18, 0, 127),
        new("B", 2, 0, 9),
        new("b", 63),
        2,
        new("b", ternary.linear_scratch(7)),
    ],
    "linear_scratch": [7],
    "linear_scratch_least": [7],
    "prefetch": [new("B", 64, 0, 255)],
    "patches": [new("b", 72, -128, 127), 6, 3, 3, 2, 1, 0, new("b", 162)],
    "convolution": [
        new("b", 72, -128, 127),
        6,
        3,
        3,
        2,
        1,
        new("B", 192, 0, 255),
        new("h", 18, -99, 99),
        new("b", 18, 0, 127),
        new("B", 2, 0, 9),
        new("b", 108),
        new("b", 96),
        new("b", ternary.linear_scratch(27)),
    ],
    "layernorm": [
        new("h", 51, -9999, 9999),
        new("B", 16, 0, 255),
        new("B", 16, 0, 255),
        20000,
        3,
        999,
        17,
        new("b", 51),
        new("b", 415),
    ],
    "layernorm_scratch": [17],
    "attention": [new("b", 90, -128, 127), 5, 2, 6, exponentials, 1, new("b", 30), 0, new("b", 1055)],
    "attention_columns": [new("b", 60, -128, 127), 5, 2, 6, exponentials, 1, new("b", 35), 1, new("b", 1055)],
    "attention_scratch": [5, 3],
    "attention_scratch_least": [5, 3],
    "attention_scores": [new("b", 90, -128, 127), 5, 2, 1, 6, new("b", 25), new("b", 1055)],
    "softmax": [new("b", 25, -128, 127), 5, exponentials, new("b", 25)],
    "attention_values": [new("b", 25, 0, 127), new("b", 90, -128, 127), 5, 2, 1, 0, new("b", 30), new("b", 1055)],
    "lookup": [new("b", 40, -128, 127), new("b", 256, -128, 127), new("b", 40)],
    "residual_start": [new("h", 20), new("b", 20, -128, 127), 8],
    "residual_add": [new("h", 20, -32768, 32767), new("b", 20, -128, 127), 7],
    "convert": [new("B", 72, 0, 255), 3, new("B", 24), 1],
    "rgb565": [new("B", 48, 0, 255), 1, new("B", 72)],
    "yuv422": [new("B", 48, 0, 255), 2, new("B", 72)],
    "bgr888": [new("B", 72, 0, 255), new("B", 72)],
    "resize": [new("B", 72, 0, 255), 6, 3, 1, 0, 4, new("B", 27), 3, new("B", 48)],
    "resize_scratch": [4, 3],
    "normalize": [
        new("B", 72, 0, 255),
        new("i", 3, 0, 2**22 - 1),
        new("i", 3, -(2**30), 2**30 - 1),
        new("b", 72),
    ],
    "mean_rows": [new("b", 51, -128, 127), new("b", 17)],
    "topk": [new("i", 20, -9, 9), new("i", 4)],
    "rms_norm": [new("b", 17, -128, 127), new("b", 17)],
    "gram": [new("b", 51, -99, 99), 17, 2, new("h", 5)],
    "drop_class": [new("b", 51, -99, 99), new("B", 3, 0, 2), 1],
    "ridge_fit": [
        new("b", 51, -99, 99),
        new("B", 3, 0, 1),
        new("h", 6, -9999, 9999),
        new("i", 2, 1, 9999),
        new("b", 34),
        new("i", 2),
        new("i", 2),
        new("i", 3),
        new("b", 191),
    ],
    "ridge_scratch": [3, 17, 2],
    "ridge_scores": [
        new("b", 17, -99, 99),
        new("b", 34, -99, 99),
        new("i", 2, 0, 9**9),
        new("i", 2, -99, 99),
        new("i", 2),
    ],
    "span_fit": [new("b", 51, -99, 99), new("h", 6, -9999, 9999), 1024, new("B", 18), new("i", 3), new("b", 51)],
    "span_scratch": [2],
    "span_distance": [new("b", 17, -99, 99), new("B", 18, 0, 255)],
    "moments": [new("i", 5, -99, 99), new("i", 2)],
}


def make(case):
    """Fresh arguments."""
    return [argument() if callable(argument) else argument for argument in case]


WRONG = (None, 1.5, "text", b"1", [1], (), {}, 2**31, -(2**31) - 1, 2**62, 2**70, -(2**70), bytearray(0), b"", "", True)
NUMBERS = (-(2**31), -(10**6), -2, -1, 0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 255, 256, 4032, 4096, 4097, 65536, 2**31 - 1)


class Chance:
    """Random numbers, the same on MicroPython and CPython."""

    def __init__(self, seed):
        self.state = (seed * 2654435761 + 88172645463325252) % 2**64 or 1

    def below(self, limit):
        """A number from 0 to limit - 1."""
        x = self.state
        x ^= (x << 13) % 2**64
        x ^= x >> 7
        x ^= (x << 17) % 2**64
        self.state = x
        return (x >> 11) % limit

    def of(self, values):
        """One of the values."""
        return values[self.below(len(values))]


def resized(chance, view, typecode):
    """A buffer with another number of elements, or at another place in its memory."""
    data = bytes(view)
    kind = chance.below(6)
    if kind == 0:
        data = data[: chance.below(len(data) + 1)]
    elif kind == 1:
        data += bytes(1 + chance.below(64))
    elif kind == 2:
        return buffer("B", b"\0" + data)[1:]
    elif kind == 3:
        return data
    elif kind == 4:
        data = bytes([chance.of((0, 1, 127, 128, 255)) for _ in range(len(data))])
    else:
        typecode = chance.of("bBhi")
    size = SIZES[typecode]
    memory = buffer("B", data[: len(data) // size * size] or bytes(size))
    return memory if chance.below(2) else cast(memory, typecode)


def cast(memory, typecode):
    """A copy of the bytes as elements of another type."""
    view = ternary.arena(len(memory), typecode)
    lowest = {"b": 1 << 7, "h": 1 << 15, "i": 1 << 31}
    size = SIZES[typecode]
    for i in range(len(view)):
        value = int.from_bytes(bytes(memory[i * size : (i + 1) * size]), "little")
        view[i] = value - 2 * lowest[typecode] if value >= lowest.get(typecode, 256) else value
    return view


def overlapping(chance, arguments):
    """Let two of the buffers share memory."""
    places = [i for i, value in enumerate(arguments) if isinstance(value, memoryview)]
    if len(places) < 2:
        return
    one, other = chance.of(places), chance.of(places)
    data = bytes(arguments[one])
    size = len(bytes(arguments[other]))
    distance = chance.of((0, 0, 1, 4, 16, len(data)))
    memory = buffer("B", data + bytes(size + distance))
    arguments[one] = memory[: len(data)]
    arguments[other] = memory[distance : distance + size]


def random_call(seed):
    """Name and arguments of a call, most of them wrong in one to three ways."""
    chance = Chance(seed)
    for _ in range(4):
        chance.below(2)
    name = chance.of(NAMES)
    case = CASES[name]
    arguments = make(case)
    for _ in range(chance.below(4)):
        kind, place = chance.below(8), chance.below(len(case))
        if place >= len(arguments):
            continue
        if kind == 0:
            arguments[place] = chance.of(WRONG)
        elif kind == 1:
            overlapping(chance, arguments)
        elif kind == 2 and not chance.below(4):
            arguments = arguments[: chance.below(len(arguments) + 1)] + [0] * chance.below(3)
        elif type(arguments[place]) is int:  # on MicroPython True is none
            arguments[place] = chance.of(NUMBERS) if chance.below(2) else arguments[place] + chance.below(9) - 4
        elif isinstance(arguments[place], memoryview):
            arguments[place] = resized(chance, arguments[place], chance.of("bBhi"))
    return name, arguments


def contents(arguments):
    """The contents of the buffers among the arguments."""
    return [bytes(a) for a in arguments if isinstance(a, (bytearray, memoryview))]


def outcome(seed):
    """The outcome of a call as a line of text; a refused call that changed a buffer is a fault."""
    name, arguments = random_call(seed)
    before = contents(arguments)
    try:
        result = getattr(ternary, name)(*arguments)
    except (TypeError, ValueError) as error:
        if contents(arguments) != before:
            return "FAULT %s: refused, and changed its arguments: %s" % (name, error)
        text = str(error)
        if not text.startswith(name):
            return "FAULT %s: the error does not name it: %s" % (name, text)
        return "%s %s %s" % (name, type(error).__name__, text)
    return "%s %s %d" % (name, result, crc32(b"".join(contents(arguments))))


NAMES = sorted(CASES)

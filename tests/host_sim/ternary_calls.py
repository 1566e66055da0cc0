# SPDX-License-Identifier: MIT
"""Calls every function of `ternary` with valid and invalid arguments and prints the results.

Runs on MicroPython and on CPython; test_ternary.py demands the same lines from both. An invalid call must leave
every argument unchanged.
"""

import gc
from array import array
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


# x [3, 7], N = 18; T = 5, H = 2, d = 3; pictures of 6 x 4 pixels.
CASES = {
    "decode": [new("B", 32, 0, 255), new("b", 96)],
    "linear": [
        new("b", 21, -128, 127),
        new("B", 64, 0, 255),
        new("h", 18, -99, 99),
        new("b", 18, 0, 127),
        new("B", 2, 0, 15),
        new("b", 54),
        new("b", 4367),
    ],
    "linear_logits": [
        new("b", 21, -128, 127),
        new("B", 64, 0, 255),
        new("i", 18, -99, 99),
        new("h", 18, 0, 4095),
        new("i", 54),
        new("b", 4367),
    ],
    "linear_columns": [
        new("b", 21, -128, 127),
        3,
        new("B", 64, 0, 255),
        new("h", 18, -99, 99),
        new("b", 18, 0, 127),
        new("B", 2, 0, 9),
        new("b", 63),
        2,
        new("b", 4367),
    ],
    "linear_scratch": [7],
    "prefetch": [new("B", 64, 0, 255)],
    "patches": [new("b", 72, -128, 127), 6, 3, 3, 2, 1, 0, new("b", 162)],
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
    "attention_scratch": [5, 3],
    "attention_scores": [new("b", 90, -128, 127), 5, 2, 1, 6, new("b", 25), new("b", 1055)],
    "softmax": [new("b", 25, -128, 127), 5, exponentials, new("b", 25)],
    "attention_values": [new("b", 25, 0, 127), new("b", 90, -128, 127), 5, 2, 1, 0, new("b", 30), new("b", 1055)],
    "lookup": [new("b", 40, -128, 127), new("b", 256, -128, 127), new("b", 40)],
    "residual_start": [new("h", 20), new("b", 20, -128, 127), 8],
    "residual_add": [new("h", 20, -32768, 32767), new("b", 20, -128, 127), 7],
    "convert": [new("B", 72, 0, 255), 3, new("B", 24), 1],
    "rgb565": [new("B", 48, 0, 255), new("B", 72)],
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
    "span_fit": [new("b", 51, -99, 99), new("h", 6, -9999, 9999), 1024, new("b", 34), new("i", 3), new("b", 51)],
    "span_scratch": [2],
    "span_distance": [new("b", 17, -99, 99), new("b", 34, -99, 99)],
    "moments": [new("i", 5, -99, 99), new("i", 2)],
}


def make(case):
    """Fresh arguments."""
    return [argument() if callable(argument) else argument for argument in case]


def raw(view):
    """A copy of a buffer as bytes."""
    return buffer("B", bytes(view))


def state(arguments):
    """The contents of the buffers among the arguments."""
    return [bytes(a) for a in arguments if isinstance(a, (bytearray, memoryview))]


def attempt(label, name, arguments):
    """Call, and print the result or the exception."""
    before = state(arguments)
    try:
        result = getattr(ternary, name)(*arguments)
    except (TypeError, ValueError) as error:
        assert state(arguments) == before, label
        print(label, type(error).__name__, error)
    else:
        print(label, result, crc32(b"".join(state(arguments))))


def wrong_buffers(good):
    """(kind, value) of arguments to be refused in the place of a buffer, or told apart from it."""
    size = len(bytes(good))
    moved = ternary.arena(size + 1)[1:]
    longer = raw(bytes(good) + b"\0")
    yield "empty", bytearray(0)
    yield "short", longer[: size - 1]
    yield "long", longer
    yield "half", longer[: size // 2]
    yield "moved", moved
    yield "raw", raw(good)
    yield "constant", bytes(good)
    yield "floats", array("f", [0.0] * (size // 4 + 1))
    yield "doubles", array("d", [0.0] * (size // 8 + 1))
    yield "words", array("q", [0] * (size // 8 + 1))
    yield "shorts", array("H", [0] * (size // 2 + 1))
    for value in (None, 1, "text", [1, 2], 1.5):
        yield type(value).__name__, value


WRONG_NUMBERS = (None, 1.5, "1", b"1", [1], 2**31, -(2**31) - 1, 2**62, 2**70, -(2**70))
NUMBERS = (-(2**31), -(10**6), -2, -1, 0, 1, 2, 3, 5, 16, 4096, 4097, 10**6, 2**31 - 1, True, False)


def attack_buffer(name, case, position):
    """Wrong buffers in one place, then the same memory in two."""
    for kind, value in wrong_buffers(make(case)[position]):
        arguments = make(case)
        arguments[position] = value
        attempt(f"{name} {position} {kind}", name, arguments)
    for other, argument in enumerate(case):
        if other == position or not callable(argument):
            continue
        sizes = [len(bytes(make(case)[i])) for i in (position, other)]
        for distance in (0, min(4, sizes[1] - 1)):
            arguments = make(case)
            memory = raw(bytes(arguments[other]) + bytes(sizes[0] + 4))
            arguments[other] = memory[: sizes[1]]
            arguments[position] = memory[distance : distance + sizes[0]]
            attempt(f"{name} {position} on {other} + {distance}", name, arguments)


def attack_number(name, case, position):
    """Numbers of every kind in one place."""
    for value in WRONG_NUMBERS + NUMBERS:
        arguments = make(case)
        arguments[position] = value
        attempt(f"{name} {position} {value}", name, arguments)


def attack_contents(name, case, position):
    """Extreme bytes everywhere."""
    for byte in (0, 1, 127, 128, 255):
        arguments = make(case)
        size = len(bytes(arguments[position]))
        arguments[position] = raw(bytes([byte]) * size)
        attempt(f"{name} {position} full of {byte}", name, arguments)


def attack(name, case):
    """All attacks on one function."""
    attempt(name, name, make(case))
    longer = make(case)
    longer.append(0)
    for arguments in ([], longer[:-2], longer, longer * 3):
        attempt(f"{name} with {len(arguments)} arguments", name, arguments)
    for position, argument in enumerate(case):
        if callable(argument):
            attack_buffer(name, case, position)
            attack_contents(name, case, position)
        else:
            attack_number(name, case, position)


def address(view):
    """The address of a buffer."""
    try:
        from uctypes import addressof
    except ImportError:
        from ctypes import addressof, c_char

        return addressof(c_char.from_buffer(view))
    return addressof(view)


def attack_arena():
    """Right and wrong arenas, and memory of the heap."""
    for arguments in ((1,), (48, "b"), (48, "B"), (48, "h"), (48, "i")):
        for name in ("arena", "heap"):
            view = getattr(ternary, name)(*arguments)
            print(name, arguments, len(view), bytes(view), address(view) % 16)
    print("arena", len(ternary.arena(48, "h", 1000)), "internal", ternary.internal())
    sizes = (0, -1, -(2**31), 2**31, 2**70, None, 1.5, "1", b"1")
    wrong = [(size, "b") for size in sizes] + [(size, "h") for size in (1, 47)] + [(46, "i"), (), (1, "b", 2, 3)]
    wrong += [(16, "b", leave) for leave in (-1, 2**31, "1", None)]
    wrong += [(16, code) for code in ("f", "d", "q", "", "bb", "l", "\0", b"b", 98, None)]
    for arguments in wrong:
        attempt(f"arena {arguments}", "arena", arguments)
        attempt(f"heap {arguments}", "heap", arguments)
    views = [buffer("h", [i] * 9) for i in range(50)]
    gc.collect()
    print("arenas stay", all(list(view) == [i] * 9 for i, view in enumerate(views)))


def attack_settings():
    """Right and wrong arguments of `cores` and `use`."""
    numbers = (0, 1, 2, 3, -1, 2**31 - 1, -(2**31), True, 1)
    for arguments in [(), (1, 2)] + [(number,) for number in WRONG_NUMBERS + numbers]:
        attempt(f"cores {arguments}", "cores", arguments)
    print("cores set", ternary.cores())
    for arguments in ((), ("reference", 1), (None,), (3,), (b"reference",), ([],), ("reference\0",), ("x" * 999,)):
        try:
            ternary.use(*arguments)
        except (TypeError, ValueError) as error:  # the host has more to choose from
            print(f"use {arguments}", type(error).__name__, str(error).split(" one of ")[0])
    ternary.use("reference")


for key in sorted(CASES):
    attack(key, CASES[key])
    gc.collect()
attack_arena()
attack_settings()

# SPDX-License-Identifier: MIT
"""Calls every function of `ternary` with valid and invalid arguments and prints the results.

Runs on MicroPython and on CPython; test_ternary.py demands the same lines from both. An invalid call must leave
every argument unchanged.
"""

import gc
import sys
from array import array
from binascii import crc32

import ternary

sys.path.insert(0, __file__.rpartition("/")[0] + "/../../host_sim/fuzz/on_board")
from calls import CASES, buffer, make


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

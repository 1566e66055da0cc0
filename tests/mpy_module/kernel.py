# SPDX-License-Identifier: MIT
"""Calls kernels with read-only inputs, outputs between guard bytes, and scratch of exact size."""

import os

import numpy as np
import pytest
import ternary

GUARD = 64
I8, U8, I16, I32 = np.int8, np.uint8, np.int16, np.int32

# What a preloaded sanitizer or a caller's options would change in programs of our own.
PLAIN = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "TSAN_OPTIONS")}

# For a module's `pytestmark`: its tests run on this machine and on the simulated chip (conftest.py).
on_every_target = pytest.mark.usefixtures("target")
host_only = pytest.mark.host_only


class Guarded:
    """An array aligned to 16 bytes, with GUARD bytes of noise before and after it."""

    def __init__(self, shape, dtype, values=None):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        whole = np.random.default_rng(size).integers(0, 256, size + 2 * GUARD + 16).astype(U8)
        start = -whole.ctypes.data % 16
        self.memory = whole[start : start + size + 2 * GUARD]
        self.array = self.memory[GUARD : GUARD + size].view(dtype).reshape(shape)
        if values is not None:
            self.array[...] = values
        self.before = self.memory.copy()

    def check(self):
        """Check that nothing around the array has changed."""
        assert np.array_equal(self.memory[:GUARD], self.before[:GUARD]), "written before its start"
        assert np.array_equal(self.memory[-GUARD:], self.before[-GUARD:]), "written beyond its end"

    def untouched(self):
        """Check that nothing in or around the array has changed."""
        return np.array_equal(self.memory, self.before)


class Out(Guarded):
    """An output, full of noise."""


class Updated(Guarded):
    """An argument that the kernel updates."""

    def __init__(self, values):
        super().__init__(values.shape, values.dtype, values)


class Scratch(Guarded):
    """Scratch, full of noise."""

    def __init__(self, size):
        super().__init__((size,), U8)


class In(Guarded):
    """A read-only input; without guards, so that a sanitizer detects reads past its end."""

    def __init__(self, values):
        self.array = np.array(values, order="C")
        self.before = self.array.copy()
        self.array.flags.writeable = False

    def untouched(self):
        return np.array_equal(self.array, self.before)


def prepare(arguments):
    """Arrays become guarded inputs; numbers stay."""
    return [In(a) if isinstance(a, np.ndarray) else a for a in arguments]


def call(name, arguments):
    """ternary.<name> with the arrays of prepared arguments."""
    return getattr(ternary, name)(*[a.array if isinstance(a, Guarded) else a for a in arguments])


def run(name, *arguments):
    """Runs a kernel and checks its inputs and guards; returns a copy of its output, or its result if it has none."""
    arguments = prepare(arguments)
    result = call(name, arguments)
    for argument in arguments:
        if isinstance(argument, In):
            assert argument.untouched(), "an input was modified"
        elif isinstance(argument, Guarded):
            argument.check()
    return next((a.array.copy() for a in arguments if isinstance(a, Out | Updated)), result)


def refused(name, *arguments, match=None):
    """The kernel raises ValueError or TypeError and has written nothing."""
    arguments = prepare(arguments)
    with pytest.raises((ValueError, TypeError), match=match):
        call(name, arguments)
    for argument in arguments:
        if isinstance(argument, Scratch):
            argument.check()
        elif isinstance(argument, Guarded):
            assert argument.untouched(), "written before the arguments were checked"


def equal(actual, expected):
    """Bit for bit, shape and type included."""
    expected = np.asarray(expected)
    assert actual.dtype == expected.dtype and actual.shape == expected.shape
    assert np.array_equal(actual, expected), np.argwhere(actual != expected)[:5].tolist()

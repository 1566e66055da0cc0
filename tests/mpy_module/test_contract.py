# SPDX-License-Identifier: MIT
"""Refusals of every operation: wrong buffers, wrong numbers, overlap. Nothing is written and nothing crashes."""

import inspect

import numpy as np
import pytest
import ternary

from tests import oracle
from tests.mpy_module.kernel import I8, I16, I32, U8, Guarded, In, Out, Scratch, Updated, call, prepare, run

TABLE = np.full(256, 127, I8)
PACKED = oracle.pack_weight(np.ones((17, 6), int))
GAMMA = oracle.pack_channels(np.ones(17, int))
QKV = np.ones((3, 12), I8)
KV, QUERIES = np.ones((3, 8), I8), np.ones((3, 6), I8)


def scratch(name, *sizes):
    """Scratch for an operation."""
    return lambda: Scratch(getattr(ternary, f"{name}_scratch")(*sizes))


# Valid arguments of every operation; functions create the written ones.
CASES = {
    "decode": [np.zeros((2, 16), U8), lambda: Out((10, 16), I8)],
    "linear": [
        *(np.ones((2, 6), I8), PACKED, np.zeros(17, I16), np.ones(17, I8), np.zeros(2, U8)),
        *(lambda: Out((2, 17), I8), scratch("linear", 6)),
    ],
    "linear_logits": [
        *(np.ones((2, 6), I8), PACKED, np.zeros(17, I32), np.ones(17, I16)),
        *(lambda: Out((2, 17), I32), scratch("linear", 6)),
    ],
    "linear_add": [
        *(np.ones((2, 6), I8), PACKED, np.zeros(17, I16), np.ones(17, I8), np.zeros(2, U8)),
        *(lambda: Out((2, 17), I8), lambda: Updated(np.zeros((2, 17), I16)), 3, scratch("linear", 6)),
    ],
    "linear_columns": [
        *(np.ones((2, 6), I8), 2, PACKED, np.zeros(17, I16), np.ones(17, I8), np.zeros(2, U8)),
        *(lambda: Out((2, 20), I8), 3, scratch("linear", 6)),
    ],
    "linear_scratch": [6],
    "linear_scratch_least": [6],
    "prefetch": [PACKED],
    "patches": [np.ones((4, 6, 1), I8), 6, 1, 3, 2, 1, 0, lambda: Out((6, 9), I8)],
    "convolution": [
        *(np.ones((4, 6, 1), I8), 6, 1, 3, 2, 1, PACKED, np.zeros(17, I16), np.ones(17, I8), np.zeros(2, U8)),
        *(lambda: Out((6, 17), I8), lambda: Scratch(48), scratch("linear", 9)),
    ],
    "layernorm": [
        *(np.zeros((3, 17), I16), GAMMA, GAMMA, 20000, 0, 0, 17),
        *(lambda: Out((3, 17), I8), scratch("layernorm", 17)),
    ],
    "layernorm_scratch": [17],
    "attention": [QKV, 3, 2, 0, TABLE, 0, lambda: Out((3, 4), I8), 0, scratch("attention", 3, 2)],
    "attention_columns": [KV, 3, 2, 0, TABLE, 0, lambda: Updated(QUERIES), 1, scratch("attention", 3, 2)],
    "attention_scratch": [3, 2],
    "attention_scratch_least": [3, 2],
    "attention_scores": [QKV, 3, 2, 1, 0, lambda: Out((3, 3), I8), scratch("attention", 3, 2)],
    "softmax": [np.zeros((3, 3), I8), 3, TABLE, lambda: Out((3, 3), I8)],
    "attention_values": [
        np.full((3, 3), 100, I8),
        QKV,
        3,
        2,
        1,
        0,
        lambda: Out((3, 4), I8),
        scratch("attention", 3, 2),
    ],
    "lookup": [np.zeros(20, I8), TABLE, lambda: Out((20,), I8)],
    "residual_start": [lambda: Out((20,), I16), np.ones(20, I8), 3],
    "residual_add": [lambda: Updated(np.zeros(20, I16)), np.ones(20, I8), 3],
    "convert": [np.zeros((2, 3, 3), U8), 3, lambda: Out((2, 3, 1), U8), 1],
    "rgb565": [np.zeros((2, 3, 2), U8), 1, lambda: Out((2, 3, 3), U8)],
    "yuv422": [np.zeros((2, 3, 4), U8), 1, lambda: Out((2, 6, 3), U8)],
    "bgr888": [np.zeros((2, 3, 3), U8), lambda: Out((2, 3, 3), U8)],
    "resize": [np.zeros((4, 5, 1), U8), 5, 1, 1, 0, 4, lambda: Out((3, 3), U8), 3, scratch("resize", 4, 1)],
    "resize_scratch": [4, 1],
    "normalize": [np.zeros((4, 3), U8), np.ones(3, I32), np.zeros(3, I32), lambda: Out((4, 3), I8)],
    "mean_rows": [np.ones((3, 17), I8), lambda: Out((17,), I8)],
    "topk": [np.zeros(5, I32), lambda: Out((2,), I32)],
    "rms_norm": [np.ones(17, I8), lambda: Out((17,), I8)],
    "gram": [np.ones((3, 17), I8), 17, 2, lambda: Out((5,), I16)],
    "drop_class": [lambda: Updated(np.ones((3, 17), I8)), lambda: Updated(np.arange(3, dtype=U8)), 1],
    "ridge_fit": [
        *(np.full((3, 17), 32, I8), np.array([0, 1, 0], U8), np.full(6, 16384, I16), np.array([999, 9999], I32)),
        *(lambda: Out((2, 17), I8), lambda: Out((2,), I32), lambda: Out((2,), I32), lambda: Out((3,), I32)),
        scratch("ridge", 3, 17, 2),
    ],
    "ridge_scratch": [3, 17, 2],
    "ridge_scores": [np.ones(17, I8), np.ones((2, 17), I8), np.ones(2, I32), np.ones(2, I32), lambda: Out((2,), I32)],
    "span_fit": [
        *(np.full((3, 17), 32, I8), np.full(6, 16384, I16), 1024),
        *(lambda: Out((2, 9), U8), lambda: Out((3,), I32), scratch("span", 2)),
    ],
    "span_scratch": [2],
    "span_distance": [np.full(17, 32, I8), np.ones((2, 9), U8)],
    "moments": [np.arange(5, dtype=I32), lambda: Out((2,), I32)],
}
IN_PLACE = {"lookup", "softmax", "normalize", "bgr888"}  # the output may be the first argument itself


def valid(name):
    """Fresh valid arguments."""
    return prepare([a() if callable(a) else a for a in CASES[name]])


def refused(name, arguments):
    """The call raises and has changed no buffer, scratch excepted."""
    before = [a.array.tobytes() if isinstance(a, Guarded) else None for a in arguments]
    with pytest.raises((ValueError, TypeError)):
        call(name, arguments)
    for argument, data in zip(arguments, before, strict=True):
        if isinstance(argument, Guarded) and not isinstance(argument, Scratch):
            assert argument.array.tobytes() == data
            assert isinstance(argument, In) or argument.untouched()


class Other(In):
    """Replaces an argument; any array, unchanged."""

    def __init__(self, array):
        self.array = array
        self.before = array.copy()


def buffers():
    """(operation, position) of every buffer argument."""
    return [(name, i) for name, case in CASES.items() for i, a in enumerate(case) if not isinstance(a, int)]


def numbers():
    """(operation, position) of every number."""
    return [(name, i) for name, case in CASES.items() for i, a in enumerate(case) if isinstance(a, int)]


def shifted(array):
    """The same values one byte past a multiple of 16."""
    memory = np.zeros(array.nbytes + 32, U8)
    start = -memory.ctypes.data % 16 + 1
    values = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    values[...] = array
    return values


def test_every_operation_is_here():
    assert set(CASES) == set(ternary.OPERATIONS)
    for name, case in CASES.items():
        assert len(inspect.signature(getattr(ternary, name)).parameters) == len(case)


@pytest.mark.parametrize("name", CASES)
def test_valid_arguments_are_accepted(name):
    arguments = valid(name)
    if any(isinstance(a, Out | Updated) for a in arguments):
        run(name, *arguments)
    else:
        result = call(name, arguments)
        assert result is None if name == "prefetch" else result > 0


@pytest.mark.parametrize("name", CASES)
def test_wrong_counts(name):
    for arguments in (valid(name)[:-1], [*valid(name), 0], []):
        refused(name, arguments)


@pytest.mark.parametrize(("name", "position"), buffers())
def test_wrong_buffers(name, position):
    good = valid(name)[position].array
    wrong = [None, 3, "text", [1, 2], np.zeros(good.shape, np.float64), np.zeros(0, good.dtype)]
    wrong += [np.zeros(2 * good.size, good.dtype)[::2]]
    wrong += [good.astype(np.int64)]
    if good.itemsize == 1:
        wrong += [np.zeros(good.size, I16)]
    wrong += [memoryview(value) for value in wrong if isinstance(value, np.ndarray)]
    for value in wrong:
        arguments = valid(name)
        arguments[position] = Other(value) if isinstance(value, np.ndarray) else value
        refused(name, arguments)


@pytest.mark.parametrize(("name", "position"), buffers())
def test_wrong_lengths(name, position):
    argument = valid(name)[position]
    sizes = {argument.array.size - 1, argument.array.size + 1}
    if isinstance(argument, Scratch):
        sizes = {1}  # scratch may be longer; each operation's own tests check its minimum
    if name == "topk":
        sizes = {1} if position == 0 else {6}  # any number of logits and places, but no more places than logits
    if (name, position) in (("ridge_fit", 3), ("moments", 0)):
        sizes = {0}  # any number of ridges and numbers
    if (name, position) == ("span_distance", 0):
        sizes = {argument.array.size - 1, argument.array.size + 2}  # directions of 17 and of 18 features have 9 bytes
    if name == "prefetch":
        sizes = {0}  # any length but 0
    for size in sizes:
        arguments = valid(name)
        arguments[position] = Other(np.resize(argument.array, size))
        refused(name, arguments)


@pytest.mark.parametrize(("name", "position"), buffers())
def test_addresses(name, position):
    """Odd addresses: wide elements are refused, bytes give the same result."""
    arguments = valid(name)
    argument = arguments[position]
    moved = shifted(argument.array)
    if argument.array.itemsize > 1:
        arguments[position] = Other(moved)
        refused(name, arguments)
    elif isinstance(argument, In) and name != "prefetch":
        expected = run(name, *valid(name))
        arguments[position] = Other(moved)
        assert np.array_equal(run(name, *arguments), expected)


@pytest.mark.parametrize(("name", "position"), buffers())
def test_read_only_outputs(name, position):
    arguments = valid(name)
    if not isinstance(arguments[position], In):
        arguments[position].array.flags.writeable = False
        refused(name, arguments)


def overlaps():
    """(operation, written argument, other argument) of all pairs."""
    written = [(name, i) for name, i in buffers() if callable(CASES[name][i])]
    return [(name, i, j) for name, i in written for other, j in buffers() if other == name and i != j]


@pytest.mark.parametrize(("name", "written", "other"), overlaps())
def test_overlap(name, written, other):
    """Two arguments that share bytes, at the start and by one element."""
    shapes = valid(name)
    a, b = shapes[written].array, shapes[other].array
    for distance in (0, a.itemsize * b.itemsize):
        if distance >= a.nbytes or (distance == 0 and name in IN_PLACE and other == 0):
            continue
        memory = np.zeros(a.nbytes + b.nbytes + 64, U8)
        start = -memory.ctypes.data % 16
        arguments = valid(name)
        for position, array, offset in ((written, a, 0), (other, b, distance)):
            view = memory[start + offset : start + offset + array.nbytes].view(array.dtype).reshape(array.shape)
            arguments[position] = Other(view)
        arguments[other].array[...] = b
        refused(name, arguments)


@pytest.mark.parametrize(("name", "position"), numbers())
def test_wrong_numbers(name, position):
    for value in (None, 1.5, "1", b"1", [1], 2**31, -(2**31) - 1, 2**70):
        arguments = valid(name)
        arguments[position] = value
        refused(name, arguments)


@pytest.mark.parametrize(("name", "position"), numbers())
def test_numbers_of_every_size(name, position):
    """Accepted or refused, but nothing outside the outputs changes."""
    values = {v + e for v in (0, 2**8, 2**14, 2**15, 2**16, 2**31 - 2) for e in (-2, -1, 0, 1)}
    for value in sorted(values | {-v for v in values} | {-(2**31), *range(20)}):
        arguments = valid(name)
        arguments[position] = value
        try:
            call(name, arguments)
        except ValueError:
            refused(name, arguments)
            continue
        for argument in arguments:
            if isinstance(argument, Guarded) and not isinstance(argument, In):
                argument.check()

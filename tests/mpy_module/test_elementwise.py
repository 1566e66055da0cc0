# SPDX-License-Identifier: MIT
"""lookup, residual_start, residual_add, topk, mean_rows, arena (SPEC 5, 8, 9.4, 9.6)."""

import numpy as np
import pytest
import ternary

from tests import oracle
from tests.mpy_module.kernel import I8, I16, I32, U8, Out, Updated, equal, host_only, on_every_target, refused, run

pytestmark = on_every_target

ALL = np.arange(-128, 128).astype(I8)


def test_lookup():
    rng = np.random.default_rng(0)
    table = rng.integers(-128, 128, 256).astype(I8)
    equal(run("lookup", ALL, table, Out((256,), I8)), table)
    for size in (1, 15, 17, 1000):
        x = rng.integers(-128, 128, size).astype(I8)
        equal(run("lookup", x, table, Out((size,), I8)), oracle.lookup(x, table))


def test_lookup_in_place():
    table = np.roll(ALL, 7)
    x = Updated(ALL[::-1].copy())
    ternary.lookup(x.array, table, x.array)
    x.check()
    equal(x.array, oracle.lookup(ALL[::-1], table))


def test_lookup_refuses():
    table = ALL.copy()
    refused("lookup", ALL, table, Out((255,), I8))
    refused("lookup", ALL, table[:255], Out((256,), I8))
    refused("lookup", ALL, np.zeros(257, I8), Out((256,), I8))


@host_only("each numpy view is placed on its own there; test_operations.py has overlaps of slices of one buffer")
def test_lookup_refuses_overlaps():
    table = ALL.copy()
    memory = np.zeros(300, I8)
    for out in (memory[1:257], memory[40:296]):
        with pytest.raises(ValueError):
            ternary.lookup(memory[:256], table, out)
    assert not memory.any()


@pytest.mark.parametrize("shift", range(9))
def test_residual_add(shift):
    rng = np.random.default_rng(shift)
    for size in (1, 15, 16, 17, 1000):
        residual = rng.integers(-32768, 32768, size).astype(I16)
        y = rng.integers(-128, 128, size).astype(I8)
        equal(run("residual_add", Updated(residual), y, shift), oracle.residual_add(residual, y, shift))
    rails = np.repeat(np.array([-32768, -32767, -1, 0, 1, 32766, 32767], I16), 256)
    every = np.tile(ALL, 7)
    equal(run("residual_add", Updated(rails), every, shift), oracle.residual_add(rails, every, shift))


@pytest.mark.parametrize("shift", range(9))
def test_residual_start(shift):
    for y in (ALL, ALL[:1], ALL[5:22]):
        out = run("residual_start", Out(y.shape, I16), y.copy(), shift)
        equal(out, oracle.residual_start(y, shift))
        equal(out, oracle.residual_add(np.zeros(y.shape, I16), y, shift))


def test_residual_start_refuses():
    for shift in (-1, 9, 31, 32, 2**31 - 1):
        refused("residual_start", Out((256,), I16), ALL.copy(), shift)
    refused("residual_start", Out((255,), I16), ALL.copy(), 0)


def test_residual_add_refuses():
    residual, y = np.zeros(16, I16), np.ones(16, I8)
    for shift in (-1, 9, 31, 32, 2**31 - 1):
        refused("residual_add", Updated(residual), y, shift)
    refused("residual_add", Updated(residual), y[:15], 0)
    refused("residual_add", Updated(residual), np.ones(32, I8), 0)
    refused("residual_add", Updated(residual.astype(I32)), y, 0)


def test_mean():
    rng = np.random.default_rng(2)
    for rows, width in ((1, 1), (1, 17), (2, 1), (3, 16), (49, 33), (64, 192), (2048, 3)):
        x = rng.integers(-128, 128, (rows, width)).astype(I8)
        equal(run("mean_rows", x, Out((width,), I8)), oracle.mean(x))
    for value in (-128, 127):
        equal(run("mean_rows", np.full((2048, 2), value, I8), Out((2,), I8)), np.full(2, value, I8))


def test_mean_rounds_halves_up():
    # Sums of -5..5 over 2 and 4 rows.
    for rows in (2, 4):
        x = np.zeros((rows, 11), I8)
        x[0] = range(-5, 6)
        expected = [int(np.floor(total / rows + 0.5)) for total in range(-5, 6)]
        assert run("mean_rows", x, Out((11,), I8)).tolist() == expected


def test_mean_refuses():
    refused("mean_rows", np.zeros(15, I8), Out((16,), I8))
    refused("mean_rows", np.zeros(17, I8), Out((16,), I8))
    refused("mean_rows", np.zeros((2049, 2), I8), Out((2,), I8))


def test_topk():
    rng = np.random.default_rng(1)
    for size in (1, 2, 10, 100, 1000):
        for span in (1, 3, 2**31 - 1):
            logits = rng.integers(-span, span, size).astype(I32)
            for count in {1, 2, 5, size} & set(range(1, size + 1)):
                out = run("topk", logits, Out((count,), I32))
                assert out.tolist() == oracle.topk(logits, count)


def test_topk_ties_and_ends():
    low, high = -(2**31), 2**31 - 1
    logits = np.array([low, high, low, high, 0, low], I32)
    assert run("topk", logits, Out((6,), I32)).tolist() == [1, 3, 4, 0, 2, 5]


def test_topk_refuses():
    refused("topk", np.zeros(3, I32), Out((4,), I32))
    refused("topk", np.zeros(3, I16), Out((3,), I32))
    refused("topk", np.zeros(3, I32), Out((3,), I16))


@pytest.mark.parametrize("size", [1, 15, 16, 100000])
def test_arena(size):
    memory = np.asarray(ternary.arena(size)).view(U8)
    assert memory.size == size and memory.ctypes.data % 16 == 0 and not memory.any()


@pytest.mark.parametrize("arguments", [(), (0,), (-1,), (2**31,), (3, "h"), (6, "i"), (4, "f"), (4, 5), (4, "bb")])
def test_arena_refuses(arguments):
    with pytest.raises((ValueError, TypeError)):
        ternary.arena(*arguments)


def test_arena_typecode():
    memory = ternary.arena(64, "h")
    memory[31] = -32768
    assert memory[31] == -32768 and len(memory) == 32

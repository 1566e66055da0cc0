# SPDX-License-Identifier: MIT
"""The module's operations on the simulated core: results, checks and messages as on this machine, and their costs."""

import gc
import os
import subprocess
import sys

import numpy as np
import pytest
import ternary

from host_sim.lx7.machine import PAGE
from host_sim.setup.shell import ROOT

SCRIPT = """
import sys
sys.path[:0] = ["host_sim", "firmware"]
import ternary
from ftervit import VisionTransformer, read_image
logits = []
for target in ("host", "lx7"):
    runner = ternary.use(target)
    model = VisionTransformer.load("firmware/models/fashion_mnist.safetensors")
    logits.append(list(model(model.preprocess(read_image("firmware/images/8_bag.pgm")))))
print(logits[0] == logits[1], len(logits[0]))
print(runner.report())
"""


@pytest.fixture
def runner():
    """Operations run on the simulated core, afterwards on this machine again."""
    yield ternary.use("lx7")
    ternary.use("host")


def both(call):
    """Results of a call on this machine and on the core."""
    results = []
    for target in ("host", "lx7"):
        ternary.use(target)
        try:
            results.append(call())
        finally:
            ternary.use("host")
    return results


@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (15, 17), (17, 16), (33, 40)])
def test_linear_is_the_same(inputs, outputs, tokens):
    rng = np.random.default_rng(inputs * 100 + tokens)
    tiles, vectors = -(-outputs // 16), -(-inputs // 5)
    x = rng.integers(-128, 128, tokens * inputs, dtype=np.int8)
    weight = rng.integers(0, 243, tiles * vectors * 16, dtype=np.uint8)
    bias = rng.integers(-1000, 1000, outputs, dtype=np.int16)
    multiplier = rng.integers(0, 128, outputs, dtype=np.int8)
    shift = rng.integers(0, 8, tiles, dtype=np.uint8)

    def call():
        out = bytearray(tokens * outputs)
        scratch = ternary.arena(ternary.linear_scratch(inputs))
        ternary.linear(x, weight, bias, multiplier, shift, out, scratch)
        return bytes(out)

    host, core = both(call)
    assert host == core and any(host)


@pytest.mark.parametrize(
    "arguments",
    [
        (bytearray(16), bytearray(255), bytearray(16)),
        (bytearray(16), bytearray(256), bytearray(15)),
        (bytearray(0), bytearray(256), bytearray(16)),
        (bytearray(16), bytearray(256), bytes(16)),
        (bytearray(16), 7, bytearray(16)),
        (bytearray(16),),
    ],
)
def test_what_is_refused_is_refused_in_the_same_words(arguments):
    def call():
        with pytest.raises((TypeError, ValueError)) as caught:
            ternary.lookup(*arguments)
        return type(caught.value), str(caught.value)

    host, core = both(call)
    assert host == core


def test_overlaps_and_odd_addresses_are_seen():
    def call():
        memory = ternary.arena(64)
        with pytest.raises(ValueError) as overlap:
            ternary.lookup(memory[:16], bytes(256), memory[8:24])
        view = memoryview(bytearray(33))
        with pytest.raises(ValueError) as odd:
            ternary.residual_start(view[1:33], bytes(16), 0)
        return str(overlap.value), str(odd.value)

    host, core = both(call)
    assert host == core


def test_a_slice_off_alignment_keeps_its_neighbours(runner):
    buffer = bytearray(b"\x55" * 40)
    ternary.lookup(bytes(range(16)), bytes(range(255, -1, -1)), memoryview(buffer)[3:19])
    assert buffer[:3] == b"\x55" * 3 and buffer[19:] == b"\x55" * 21
    assert list(buffer[3:19]) == [127 - n for n in range(16)]


def test_buffers_lie_where_a_board_has_them(runner):
    table = bytes(range(256))
    ternary.lookup(ternary.arena(16), table, bytearray(16))
    moved = runner.machine.totals
    assert moved.bytes_loaded["flash"] and moved.bytes_stored["psram"] >= 16 and moved.lines_written["psram"] == 0
    cost = runner.costs["lookup"]
    assert cost.calls == 1 and cost.instructions > 16 and cost.cycles > cost.instructions and cost.external > 0
    assert "lookup" in runner.report() and "interpreter's own time is not included" in runner.report()


def test_the_arena_is_sram_and_ends(runner):
    gc.collect()
    (arena,) = runner.arenas
    room = arena.end - arena.start
    with pytest.raises(MemoryError, match=f"arena: no room for {room + 16} bytes"):
        ternary.arena(room + 16)
    for _ in range(5):
        block = ternary.arena(room - 32)
        assert not any(block[:64])
        block[0] = 1
        del block
        gc.collect()
    assert not arena.taken


def test_regions(runner):
    """Arenas lie in regions, of which one keeps a block; what is not for the arena lies in PSRAM."""
    regions = ternary.use("lx7", regions=(40_000, 20_000))
    try:
        assert ternary.internal() == [40_000, 20_000]
        first, second = ternary.arena(12_000, "b", 25_000), ternary.arena(12_000, "b", 25_000)
        assert ternary.internal() == [25_008, 8_000]
        with pytest.raises(MemoryError, match="arena: no room for 12000 bytes with 25000 left in one block"):
            ternary.arena(12_000, "b", 25_000)
        third = ternary.arena(12_000)
        assert ternary.internal() == [13_008, 8_000]
        assert not {regions.place(view)[1] for view in (first, second, third)} - {None}
        assert regions.place(ternary.heap(100, "B"))[0] % 16 == 0
        assert regions.place(ternary.heap(100, "B"))[1].copied is None
        del first, second, third
        gc.collect()
        assert ternary.internal() == [40_000, 20_000]
        with pytest.raises(MemoryError, match="regions: 600000 bytes"):
            ternary.use("lx7", regions=(600_000,))
    finally:
        ternary.use("host")
        ternary.runner = runner


@pytest.fixture
def narrow(runner):
    """A runner with four pages each of flash and PSRAM."""
    for space in runner.spaces.values():
        space.end = space.start + 4 * PAGE
    return runner


def flipped(x, out):
    """Calls lookup with a table that flips bits, and checks the result."""
    ternary.lookup(x, bytes(range(255, -1, -1)), out)
    assert bytes(out) == bytes(255 - (n ^ 128) for n in x)


def test_a_full_memory_gives_up_what_earlier_calls_left(narrow):
    """Small buffers spread over all of PSRAM leave no room for a buffer of two pages."""
    left = [bytearray(16) for _ in range(4)]
    for buffer in left:
        flipped(b"\x01" * 16, buffer)
    x = bytearray(b"\x07" * 2 * PAGE)
    flipped(x, bytearray(2 * PAGE))
    for buffer in left:
        flipped(b"\x02" * 16, buffer)


def test_a_call_that_cannot_fit_is_refused(narrow):
    """Also if the second buffer would fit without the first, which the call needs, too."""
    x, big = bytearray(b"\x07" * (2 * PAGE + 1)), bytearray(2 * PAGE + 1)
    for _ in range(2):
        with pytest.raises(MemoryError, match=f"a buffer of {2 * PAGE + 1} bytes does not fit the chip's psram"):
            ternary.lookup(x, bytes(256), big)
        flipped(bytes(x), big)


def test_two_buffers_that_begin_at_one_place(runner):
    x = np.random.default_rng(0).integers(-128, 128, 2 * PAGE, dtype=np.int8)
    table, out = x[:256], np.zeros(2 * PAGE, np.int8)
    ternary.lookup(x, table, out)
    assert np.array_equal(out, table[x.astype(int) + 128])


def test_a_buffer_that_was_read_only_before(runner):
    x = np.zeros(16, np.int8)
    x.flags.writeable = False
    ternary.lookup(x, bytes(256), bytearray(16))
    x.flags.writeable = True
    ternary.lookup(x, b"\x05" * 256, x)
    assert x.tolist() == [5] * 16


def test_an_unknown_target_is_refused():
    with pytest.raises(ValueError, match=r"use: name is not one of (\w+, )*reference, host, lx7"):
        ternary.use("moon")


def test_a_whole_model_gives_the_same_logits():
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.startswith("True 10\n")
    assert "linear_logits" in done.stdout

# SPDX-License-Identifier: MIT
"""Arenas outside MicroPython's heap, threads beside an operation, and a soft reset, as on an ESP32-S3.

MicroPython's unix port is built with heap areas and a global lock (arena/mpconfigvariant.h); a heap of 1 MB
(arena/heap) stands for the chip's internal memory. It overwrites what is given back.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from host_sim import unix_port
from host_sim.build import SOURCE
from host_sim.environment import lock, run

HERE = Path(__file__).resolve().parent / "arena"
# Old values of registers and of the stack may still hold a view: something else goes there.
START = """
import gc, heap, ternary

def collect(depth=30):
    if depth:
        return [depth, collect(depth - 1)] and None
    gc.collect()
"""


@pytest.fixture(scope="module")
def micropython():
    """The unix port of this file's docstring."""
    output = unix_port.output("unix-arena")
    with lock("micropython"):
        unix_port.discard_if_reconfigured(output, unix_port.tree_settings(unix_port.source()), [])
        modules = output / "modules"
        modules.mkdir(parents=True, exist_ok=True)
        for name, path in (("ternary", SOURCE), ("heap", HERE / "heap")):
            (modules / name).unlink(missing_ok=True)
            (modules / name).symlink_to(path)
        command = ["make", f"-j{len(os.sched_getaffinity(0))}", "-C", unix_port.source() / "ports" / "unix"]
        command += [f"VARIANT_DIR={HERE}", f"BUILD={output}", f"USER_C_MODULES={modules}", f"PYTHON={sys.executable}"]
        run([*command, "CFLAGS_EXTRA=-Wno-error"], "building MicroPython for arenas", "micropython-arena.log")
    return output / "micropython"


@pytest.fixture
def printed(micropython):
    """What a script prints, as lines."""

    def of(script):
        command = [micropython, "-X", "heapsize=1M", "-c", START + script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.split("\n")[:-1]

    return of


def test_an_arena_is_zeroed_aligned_and_not_in_pythons_heap(printed):
    script = """
import uctypes
before = gc.mem_alloc()
for size, typecode in ((4, "b"), (15, "B"), (17, "b"), (66, "h"), (800000, "i")):
    a = ternary.arena(size, typecode)
    print(uctypes.addressof(a) % 16, len(bytes(a)), any(a))
    a[0] = a[-1] = 100
    a = None
    collect()
print(gc.mem_alloc() - before < 4096)
"""
    assert printed(script) == [*(f"0 {size} False" for size in (4, 15, 17, 66, 800000)), "True"]


# What is kept of an arena whose element i is i, an expression for an element of it, and that element.
VIEWS = (
    ("a", "kept[9999]", 9999),
    ("a[:1]", "kept[0]", 0),
    ("a[-1:]", "kept[0]", 9999),
    ("a[100:200]", "kept[3]", 103),
    ("a[100:200][50:60]", "kept[3]", 153),
    ("memoryview(a)", "kept[9999]", 9999),
    ("memoryview(a[100:200])", "kept[3]", 103),
    ("memoryview(memoryview(a[7:])[7:])", "kept[3]", 17),
    ("[{1: a[5:]}]", "kept[0][1][3]", 8),
    ("(lambda: a)", "kept()[9]", 9),
    ("iter(a)", "list(kept)[9]", 9),
)


@pytest.mark.parametrize(("keep", "read", "value"), VIEWS)
def test_any_view_keeps_an_arena(printed, keep, read, value):
    script = f"""
def make():
    a = ternary.arena(40000, "i")
    for i in range(len(a)):
        a[i] = i
    return {keep}

def read():
    return {read}

kept = make()
for _ in range(20):
    collect()
    bytearray(5000)
# In a function: what the module's own frame held stays on its stack, where the collector finds it.
print(heap.count(), read())
kept = None
collect()
print(heap.count())
"""
    assert printed(script) == [f"1 {value}", "0"]


def test_what_an_arena_holds_is_not_searched_for_pointers(printed):
    """Beyond the first blocks, which are an object as the collector sees it."""
    script = """
import struct, uctypes

def make(offset):
    a = ternary.arena(1000)
    big = bytearray(100000)
    a[offset : offset + 8] = struct.pack("P", uctypes.addressof(big))
    return a

for offset in (0, 512):
    collect()
    before = gc.mem_alloc()
    a = make(offset)
    collect()
    print(gc.mem_alloc() - before > 100000)
"""
    assert printed(script) == ["True", "False"]


def test_exhaustion_collects_first_and_names_what_is_free(printed):
    script = """
views = [ternary.arena(100000) for _ in range(10)]
before = gc.mem_alloc()
try:
    ternary.arena(100000)
except MemoryError as error:
    print(error)
views.pop()
for _ in range(50):
    ternary.arena(100000)
print(heap.count())
try:
    ternary.arena(2**31 - 1)
except MemoryError as error:
    print(str(error).split(",")[0])
"""
    full, count, huge = printed(script)
    assert full.startswith("arena: no room for 100000 bytes, the largest free block has ")
    # Ten arenas and what goes before each of them are taken out of 1 MB.
    assert 47000 < int(full.split()[-1]) < 48576
    assert count == "10"
    assert huge == "arena: no room for 2147483647 bytes"


def test_operations_work_on_arenas(printed):
    script = """
x, out, table = ternary.arena(48), ternary.arena(48), ternary.arena(256)
for i in range(256):
    table[i] = 127 - i
for i in range(48):
    x[i] = i
ternary.lookup(x, table, out)
print(list(out[:3]), out[47])
"""
    assert printed(script) == ["[-1, -2, -3] -48"]


def test_soft_reset_returns_arenas_and_one_core(printed):
    script = """
views = [ternary.arena(1000)[5:] for _ in range(5)]
ternary.cores(2)
import ternary
print(heap.count(), ternary.cores())
heap.reset()
"""
    assert printed(script) == ["5 2", "after reset: 0 blocks, 1 cores"]


def test_other_threads_run_during_an_operation(printed):
    """Between bytecodes the other thread counts a little, in an operation for the whole of its time."""
    script = """
import _thread
count, running = 0, True

def counter():
    global count
    while running:
        count += 1

def counted(call):
    before = count
    call()
    return count - before

rows, width = 1000, 320
x, out = ternary.arena(rows * width), ternary.arena(rows * width)
weight, bias, multiplier, shift = bytes(width * width // 5), bytes(2 * width), bytes(width), bytes(width // 16)
work = ternary.arena(ternary.linear_scratch(width))
_thread.start_new_thread(counter, ())
while not count:
    pass
print(counted(lambda: ternary.linear(x, weight, bias, multiplier, shift, out, work)) > 100 * counted(lambda: 0) + 100)
running = False
"""
    assert printed(script) == ["True"]

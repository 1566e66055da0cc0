# SPDX-License-Identifier: MIT
"""Arenas outside MicroPython's heap, threads beside an operation, and a soft reset, as on an ESP32-S3.

MicroPython's unix port is built with heap areas and a global lock (arena/mpconfigvariant.h); a heap of 1 MB, or of the
regions that a chip has after its start (arena/heap), stands for the chip's internal memory. It overwrites what is given
back.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from host_sim import unix_port
from host_sim.build import SOURCE
from host_sim.environment import BUILD, ROOT, lock, run
from host_sim.lx7.operations import AFTER_BOOT
from tests.firmware.chip import WIFI
from tests.firmware.test_equality import host_logits
from trainer.data import load_fashion_mnist

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
    output = BUILD / "unix-arena"
    with lock("micropython"):
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

    def of(script, heap="1M"):
        command = [micropython, "-X", f"heapsize={heap}", "-c", START + script]
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

kept = make()
for _ in range(20):
    collect()
    bytearray(5000)
print(heap.count(), {read})
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


def test_an_arena_leaves_what_it_shall_in_one_block(printed):
    """Wherever the allocator would have put it, and says so if that is impossible."""
    script = """
heap.regions([[40000], [150000], [30000]])
print(ternary.internal())
views = [ternary.arena(size, "b", 64 * 1024) for size in (60000, 24000, 20000)]
print(heap.largest() >= 64 * 1024, heap.count())
try:
    ternary.arena(60000, "b", 64 * 1024)
except MemoryError as error:
    print(error)
print(heap.largest() >= 64 * 1024, heap.count())
views.append(ternary.arena(60000, "b", 0))
print(heap.largest() < 64 * 1024, heap.count())
"""
    regions, first, refused, second, third = printed(script)
    assert regions == "[40000, 150000, 30000]"
    assert (first, second, third) == ("True 3", "True 3", "True 4")
    words = r"arena: no room for 60000 bytes with 65536 left in one block, the largest free block has (\d+)"
    assert 64 * 1024 <= int(re.fullmatch(words, refused)[1]) + 256 < 90000


def test_regions_tell_their_largest_free_block(printed):
    script = """
heap.regions([[1000, 5000], [0], [2000, 300]])
print(ternary.internal())
heap.take(4000)
print(ternary.internal())
"""
    assert printed(script) == ["[5000, 0, 2000]", "[1000, 0, 2000]"]


def test_the_heap_is_pythons(printed):
    script = """
import uctypes
before = gc.mem_alloc()
for typecode in "bBhi":
    view = ternary.heap(40000, typecode)
    print(uctypes.addressof(view) % 16, len(bytes(view)), any(view), heap.count(), gc.mem_alloc() - before >= 40000)
try:
    ternary.heap(2000000)
except MemoryError as error:
    print(str(error).split(",")[0])
"""
    *lines, refused = printed(script)
    assert lines == ["0 40000 False 0 True"] * 4
    assert refused == "heap: no room for 2000000 bytes"


MODEL = """
import sys
sys.path.insert(0, "{firmware}")
from ftervit import Image, VisionTransformer
heap.regions({regions})
for size in {wifi}:
    heap.take(size)
others = heap.count()
with open("{pictures}", "rb") as file:
    pictures = [Image(file.read(784), 28, 28, 1) for _ in range(2)]

def state(model):
    for _ in range(3):
        found = [list(model(model.preprocess(picture))) for picture in pictures]
    collect()
    inside = sum(1 for size in model.plan.pieces if size)
    plan = model.plan
    print(found, plan.cores, heap.largest(), heap.count() - others == inside, plan.external_bytes())

for before, after in ((1, 2), (2, 1)):
    ternary.cores(before)
    model = VisionTransformer.load("{model}"{options})
    print(heap.largest())
    state(model)
    ternary.cores(after)
    state(model)
    ternary.cores(before)
    state(model)
    model = None
    from ftervit import layers
    layers.release()
    collect()
    print(heap.count() - others)
"""


@pytest.mark.parametrize(
    ("wifi", "options", "least"),
    [((), "", 65536), (WIFI, "", 65536), ((), ", reserve=100000", 100000), ((), ", reserve=0", 0)],
)
def test_the_shipped_model_in_a_chips_memory(printed, shipped, tmp_path, wifi, options, least):
    """Cores before and after load: the host's logits, and a block of 64 KB for others at any time, also when 60 KB are
    taken before."""
    images = load_fashion_mnist("t10k").images[:2].numpy()
    pictures = tmp_path / "pictures"
    pictures.write_bytes(images.tobytes())
    numbers = {"regions": AFTER_BOOT, "wifi": tuple(wifi), "pictures": pictures, "model": shipped, "options": options}
    lines = printed(MODEL.format(firmware=ROOT / "firmware", **numbers), heap="4M")
    expected = str(host_logits(shipped, images).tolist())
    for cores in ((1, 2, 1), (2, 1, 2)):
        assert int(lines.pop(0)) >= least
        for count in cores:
            logits, _, rest = lines.pop(0).partition("]] ")
            found, largest, pieces, external = rest.split()
            assert (logits + "]]", int(found), pieces) == (expected, count, "True")
            assert int(largest) >= least and (wifi or least > 65536 or int(external) == 0)
        assert lines.pop(0) == "0"
    assert lines == []

# SPDX-License-Identifier: MIT
"""The contract of mpy_module/pie/*.S (kernels.h): placement of code, form of loops, memory accesses, results on whole
vectors, and instructions of the inner loop."""

import re
import struct

import numpy as np
import pytest

from host_sim import build
from host_sim.lx7 import isa, toolchain
from host_sim.lx7.machine import CODE_SRAM, DATA_SRAM, EXTERNAL_DATA, PAGE, Machine, MachineError
from host_sim.lx7.program import Program
from host_sim.setup.shell import lock
from tests import oracle

PIE = build.SOURCE / "pie"
NAMES = sorted(set(re.findall(r"\b(pie_\w+)\(", (PIE / "kernels.h").read_text())))
LOOPS = {"loop", "loopnez", "loopgtz"}
SIZES = (1, 2, 3, 4, 7)


@pytest.fixture(scope="module")
def program():
    return Program.load(toolchain.build_kernels())


@pytest.fixture(scope="module")
def listings(program):
    """For each kernel its instructions: address -> isa.Decoded."""
    machine = Machine()
    machine.load(program)
    return {name: listing(machine, program.symbols[name]) for name in NAMES}


def listing(machine, symbol):
    """The instructions of a function, one after the other up to its end."""
    found, pc, end = {}, symbol.address, symbol.address + symbol.size
    while pc < end:
        decoded = isa.decode(machine.read(pc, min(4, end - pc)), pc)
        assert decoded, machine.place(pc)
        found[pc] = decoded
        pc += decoded.instruction.length
    assert pc == end and found
    return found


@pytest.mark.parametrize("name", NAMES)
def test_code_lies_in_iram_and_needs_nothing_else(name, program, listings):
    """Neither literals nor other functions, which may lie in flash."""
    symbol = program.symbols[name]
    assert CODE_SRAM[0] <= symbol.address and symbol.address + symbol.size <= CODE_SRAM[1]
    mnemonics = {decoded.instruction.mnemonic for decoded in listings[name].values()}
    assert "l32r" not in mnemonics
    assert not {m for m in mnemonics if m.startswith("call") or m in ("j", "jx")}
    assert symbol.address % 4 == 0 and mnemonics & {"retw", "retw.n"}


def test_every_kernel_is_in_the_section_that_esp_idf_puts_into_iram():
    """The simulator's linker script puts all code there; ESP-IDF only .iram1.*."""
    places = {}
    options = toolchain.Options(includes=(build.SOURCE,))
    with lock("lx7"):
        toolchain.write_macros()
        for source in PIE.glob("*.S"):
            places.update(toolchain.contents(toolchain.compiled(source, options))[0])
    assert set(NAMES) <= set(places)
    assert {places[name].section for name in NAMES} == {".iram1.text"}


@pytest.mark.parametrize("name", NAMES)
def test_hardware_loops_are_as_the_chip_wants_them(name, listings):
    """At most 256 bytes, first instruction within an aligned word, last instruction not a jump, not nested."""
    code = listings[name]
    addresses = sorted(code)
    for pc, decoded in code.items():
        if decoded.instruction.mnemonic not in LOOPS:
            continue
        first, end = pc + decoded.instruction.length, decoded.values[-1]
        body = [address for address in addresses if first <= address < end]
        assert end in code and 0 < end - first <= 256
        assert first % 4 + code[first].instruction.length <= 4
        assert code[body[-1]].instruction.unit not in ("branch", "jump", "loop")
        assert not any(code[address].instruction.mnemonic in LOOPS for address in body)


def test_there_are_loops_to_look_at(listings):
    counts = {n: sum(d.instruction.mnemonic in LOOPS for d in code.values()) for n, code in listings.items()}
    assert sum(counts.values()) >= len(NAMES) and counts["pie_linear"] == 2


class Core:
    """A core with every buffer in memory of exactly its size: an access outside ends the run."""

    def __init__(self, program):
        self.machine = Machine()
        self.machine.load(program)
        self.next = EXTERNAL_DATA[0] + PAGE

    def give(self, data) -> int:
        """Address of a read-only buffer with this content."""
        return self.map(bytearray(np.ascontiguousarray(data).tobytes()), False)

    def room(self, data) -> tuple[int, bytearray]:
        """Address and memory of a buffer that may be written; data: its content, or its size."""
        memory = bytearray(b"\x5a" * data if isinstance(data, int) else np.ascontiguousarray(data).tobytes())
        return self.map(memory, True), memory

    def map(self, memory, writable) -> int:
        address = self.next
        self.machine.map(address, memory, "psram", writable=writable)
        self.next += -(-len(memory) // PAGE) * PAGE + PAGE
        return address

    def call(self, name, *arguments) -> int:
        """A kernel's result as a signed number."""
        result = self.machine.call(name, *(int(a) & 0xFFFFFFFF for a in arguments))
        return result - (result >> 31 << 32)


def i8(rng, *shape):
    """Noise with both rails."""
    values = rng.integers(-128, 128, shape)
    return np.where(rng.random(shape) < 0.2, rng.choice([-128, 127], shape), values).astype(np.int8)


def i16(rng, *shape):
    """Noise with both rails."""
    values = rng.integers(-32768, 32768, shape)
    return np.where(rng.random(shape) < 0.2, rng.choice([-32768, 32767], shape), values).astype(np.int16)


def strided(values, stride):
    """Rows `stride` bytes apart, with nothing after the last one."""
    rows = np.full((len(values), stride), 99, np.int8)
    rows[:, : values.shape[1]] = values
    return rows.reshape(-1)[: (len(values) - 1) * stride + values.shape[1]]


def qacc(lanes):
    """16 lanes of 20 bits as pie_sums writes them."""
    halves = [sum((int(v) & 0xFFFFF) << 20 * i for i, v in enumerate(half)) for half in np.split(np.array(lanes), 2)]
    data = [half.to_bytes(20, "little") for half in halves]
    return data[0][:16] + data[1][:16] + data[0][16:] + data[1][16:]


def product(core, rng, name, groups, rows, x, panel, begin=None, shift=0, multiplier=None):
    """Calls a kernel of products.S with rows further apart than they are long; returns int8 [rows, 16]."""
    skip, step = 16 * int(rng.integers(0, 3)), 16 * int(rng.integers(1, 4))
    weights = core.give(panel)
    out, memory = core.room((rows - 1) * step + 16)
    factors = weights if multiplier is None else core.give(multiplier)
    numbers = (rows, groups, skip, step, 0 if begin is None else core.give(begin), shift, factors)
    core.call(name, core.give(struct.pack("<10I", core.give(strided(x, 16 * groups + skip)), weights, out, *numbers)))
    made = np.frombuffer(memory + b"\x5a" * (step - 16), np.int8).reshape(rows, step)
    assert (made[:, 16:] == 0x5A).all()
    return made[:, :16]


def check_linear(core, rng, size):
    for rows in (1, 2, 5):
        x, panel = i8(rng, rows, 16 * size), rng.integers(-1, 2, (16 * size, 16)).astype(np.int8)
        room = oracle.ACCUMULATOR_MAX - 128 * 16 * size
        bias, multiplier = rng.integers(-room, room + 1, 16), rng.integers(0, 128, 16).astype(np.int8)
        shift = int(rng.integers(0, 16))
        y = product(
            core, rng, "pie_linear", size, rows, x, panel, np.frombuffer(qacc(bias), np.uint8), shift, multiplier
        )
        sums = bias + x.astype(int) @ panel
        assert np.array_equal(y, oracle.sat8(sums >> shift) * multiplier.astype(int) >> 7)


def kept(sums):
    """Accumulators of rows as the slices keep them, 64 bytes apart, with nothing after the last one."""
    return (b"\x5a" * 24).join(map(qacc, sums))


def part_sums(rng, size, rows):
    """x, panel, sums before them and sums after them, within 20 bits."""
    x, panel = i8(rng, rows, 16 * size), rng.integers(-1, 2, (16 * size, 16)).astype(np.int8)
    room = oracle.ACCUMULATOR_MAX - 128 * 16 * size
    before = rng.integers(-room, room + 1, (rows, 16))
    return x, panel, before, before + x.astype(int) @ panel


def check_first_slice(core, rng, size):
    for rows in (1, 2, 5):
        x, panel, (bias, *_), _ = part_sums(rng, size, rows)
        out, memory = core.room(64 * rows - 24)
        skip, weights = 16 * int(rng.integers(0, 3)), core.give(panel)
        numbers = (weights, out, rows, size, skip, 0, core.give(np.frombuffer(qacc(bias), np.uint8)), 0, weights)
        core.call("pie_first_slice", core.give(struct.pack("<10I", core.give(strided(x, 16 * size + skip)), *numbers)))
        assert memory == kept(bias + x.astype(int) @ panel)


def check_slice(core, rng, size):
    for rows in (1, 2, 5):
        x, panel, before, after = part_sums(rng, size, rows)
        sums, memory = core.room(np.frombuffer(kept(before), np.uint8))
        skip, weights = 16 * int(rng.integers(0, 3)), core.give(panel)
        numbers = weights, sums, rows, size, skip, 0, sums, 0, weights
        core.call("pie_slice", core.give(struct.pack("<10I", core.give(strided(x, 16 * size + skip)), *numbers)))
        assert memory == kept(after)


def check_last_slice(core, rng, size):
    for rows in (1, 2, 5):
        x, panel, before, after = part_sums(rng, size, rows)
        shift, multiplier = int(rng.integers(0, 16)), rng.integers(0, 128, 16).astype(np.int8)
        begin = np.frombuffer(kept(before), np.uint8)
        y = product(core, rng, "pie_last_slice", size, rows, x, panel, begin, shift, multiplier)
        assert np.array_equal(y, oracle.sat8(after >> shift) * multiplier.astype(int) >> 7)


def check_scores(core, rng, size):
    for rows in (1, 4):
        x, panel = rng.integers(-30, 31, (rows, 16 * size)).astype(np.int8), i8(rng, 16 * size, 16)
        shift = int(rng.integers(0, 16))
        y = product(core, rng, "pie_scores", size, rows, x, panel, shift=shift)
        assert np.array_equal(y, oracle.sat8(x.astype(int) @ panel >> shift))


def check_values(core, rng, size):
    for rows in (1, 3):
        x, panel = rng.integers(0, 32, (rows, 16 * size)).astype(np.int8), i8(rng, 16 * size, 16)
        means = np.stack([rng.integers(0, 13, rows), rng.integers(64, 128, rows)], 1)
        y = product(core, rng, "pie_values", size, rows, x, panel, means.astype(np.uint8))
        sums = x.astype(int) @ panel
        assert np.array_equal(y, oracle.sat8(sums >> means[:, :1]) * means[:, 1:] >> 7)


def check_sums(core, rng, size):
    x, panel = i8(rng, 1, 16 * size), rng.integers(-1, 2, (16 * size, 16)).astype(np.int8)
    out, memory = core.room(40)
    weights = core.give(panel)
    core.call("pie_sums", core.give(struct.pack("<10I", core.give(x), weights, out, 1, size, 0, 0, 0, 0, weights)))
    assert bytes(memory) == qacc((x.astype(int) @ panel)[0])


def check_decode(core, rng, size):
    packed = rng.integers(0, 256, (size, 16)).astype(np.uint8)
    out, memory = core.room(80 * size)
    core.call("pie_decode", core.give(packed), size, out)
    assert bytes(memory) == oracle.unpack_tile(packed).astype(np.int8).tobytes()


def check_transpose(core, rng, size):
    keys, stride = i8(rng, 8, 16 * size), 16 * size + 32
    out, memory = core.room(256 * size - 8)
    core.call("pie_transpose", core.give(strided(keys, stride)), stride, size, out)
    panel = np.frombuffer(memory + bytes(8), np.int8).reshape(16 * size, 16)
    assert np.array_equal(panel[:, :8], keys.T) and (panel[:-1, 8:] == 0x5A).all()


def check_gather(core, rng, size):
    rows = i8(rng, size, 16)
    out, memory = core.room(16 * size)
    core.call("pie_gather", core.give(strided(rows, 48)), 48, size, out)
    assert bytes(memory) == rows.tobytes()


def check_magnitude(core, rng, size):
    x = i8(rng, 5, 16 * size)
    most = np.minimum(abs(x.astype(int)), 127).sum(axis=1).max()
    assert core.call("pie_magnitude", core.give(strided(x, 16 * size + 16)), 16 * size + 16, 5, size) == most


def check_softmax(core, rng, size):
    """Rows that end within the last vector, behind which there is noise; weights apart and in place."""
    table = np.concatenate([[127], rng.integers(0, 128, 255)]).astype(np.int8)
    words = core.give(table.view(np.uint8).astype("<u4"))
    for lanes in (1, 2, 15, 16):
        tokens = 16 * size - 16 + lanes
        for low, high in ((-128, 128), (-128, 0), (120, 128)):
            x = rng.integers(low, high, 16 * size).astype(np.int8)
            x[tokens:] = rng.choice([-128, 127], 16 - lanes)
            inside = np.arange(16) < lanes
            keep, least = np.where(inside, -1, 0).astype(np.int8), np.where(inside, 0, -128).astype(np.int8)
            row = core.give(struct.pack("<4I", words, size, 0, 0) + keep.tobytes() + least.tobytes())
            weights = np.zeros(16 * size, np.int8)
            weights[:tokens] = table[int(x[:tokens].max()) - x[:tokens].astype(int)]
            out, memory = core.room(16 * size)
            assert core.call("pie_softmax", core.give(x), out, row) == weights.sum(dtype=int)
            assert bytes(memory) == weights.tobytes()
            both, memory = core.room(x)
            assert core.call("pie_softmax", both, both, row) == weights.sum(dtype=int)
            assert bytes(memory) == weights.tobytes()


def check_pack(core, rng, size):
    rails = np.array([-32768, 32767, -1, 0, 1, 127, 128, 255, 256, -127, -128, -129, -256, -257, 32640, -32641])
    for sums in (rails, i16(rng, 16), i16(rng, 16)):
        out, memory = core.room(40)
        core.call("pie_pack", core.give(sums.astype(np.int16)), out)
        assert bytes(memory) == qacc(sums)


def check_region(core, rng, size):
    """Patches of `runs` runs of `size` vectors, in lines of a picture and of a panel that are longer."""
    for patches, runs in ((1, 1), (3, 1), (1, 2), (4, 3)):
        run, more, beyond = 16 * size, 16 * int(rng.integers(0, 3)), 16 * int(rng.integers(0, 3))
        line, step = run + 16 * (patches - 1) + more, 16 * int(rng.integers(1, 3))
        x = i8(rng, runs * (line + 16 * patches))
        panel = rng.integers(-1, 2, (runs * (run + beyond), 16)).astype(np.int8)
        patch = np.stack([[x[r * line + 16 * p :][:run] for r in range(runs)] for p in range(patches)])
        used = panel.reshape(runs, run + beyond, 16)[:, :run].reshape(-1, 16)
        room = oracle.ACCUMULATOR_MAX - 128 * run * runs
        bias, multiplier, shift = rng.integers(-room, room + 1, 16), rng.integers(0, 128, 16), int(rng.integers(0, 16))
        last = (runs - 1) * line + 16 * (patches - 1) + run
        out, memory = core.room((patches - 1) * step + 16)
        next_patch = 16 - ((runs - 1) * line + run)
        weights = core.give(panel[: (runs - 1) * (run + beyond) + run])
        numbers = patches, size, runs, line - run, next_patch & 0xFFFFFFFF, 16 * beyond, step
        begin, factors = core.give(np.frombuffer(qacc(bias), np.uint8)), core.give(multiplier.astype(np.int8))
        core.call(
            "pie_region",
            core.give(struct.pack("<13I", core.give(x[:last]), weights, out, *numbers, begin, shift, factors)),
        )
        made = np.frombuffer(memory + b"\x5a" * (step - 16), np.int8).reshape(patches, step)
        sums = bias + patch.reshape(patches, -1).astype(int) @ used
        assert np.array_equal(made[:, :16], oracle.sat8(sums >> shift) * multiplier >> 7)
        assert (made[:, 16:] == 0x5A).all()


def check_total(core, rng, size):
    x = rng.integers(0, 128, 16 * size).astype(np.int8)
    assert core.call("pie_total", core.give(x), size) == x.sum(dtype=int)


def check_halve(core, rng, size):
    for halvings in range(7):
        x = rng.integers(0, 128, 16 * size).astype(np.int8)
        address, memory = core.room(x)
        assert core.call("pie_halve", address, size, halvings) == (x >> halvings).sum(dtype=int)
        assert bytes(memory) == (x >> halvings).tobytes()


def check_widen(core, rng, size):
    table = i8(rng, 256)
    out, memory = core.room(1024)
    core.call("pie_widen", core.give(table), out)
    assert bytes(memory) == table.view(np.uint8).astype("<u4").tobytes()


def check_lookup(core, rng, size):
    """Also with only the part of the table that x uses."""
    table = i8(rng, 256)
    for flip, low, high in ((0, 0, 255), (128, 0, 255), (128, 28, 178), (0, 0, 0), (128, 255, 255), (255, 3, 90)):
        index = rng.integers(low, high + 1, 16 * size).astype(np.uint8)
        first, last = int(index.min()), int(index.max())
        words = table.view(np.uint8).astype("<u4")[first : last + 1]
        out, memory = core.room(16 * size)
        start = core.give(words) - 4 * first
        core.call("pie_lookup", core.give(index ^ np.uint8(flip)), size, start, flip, out)
        assert bytes(memory) == table[index].tobytes()


def check_least(core, rng, size):
    for place in range(16 * size):
        x = rng.integers(1, 128, 16 * size).astype(np.int8)
        x[place] = rng.choice([-128, -1, 0])
        assert core.call("pie_least", core.give(x), size) == x[place]
    assert core.call("pie_least", core.give(np.full(16 * size, 127, np.int8)), size) == 127


def check_residual_start(core, rng, size):
    for shift in range(9):
        y = i8(rng, 16 * size)
        out, memory = core.room(32 * size)
        core.call("pie_residual_start", out, core.give(y), size, shift)
        assert bytes(memory) == oracle.residual_start(y, shift).tobytes()


def check_residual_add(core, rng, size):
    for shift in range(9):
        residual, y = i16(rng, 16 * size), i8(rng, 16 * size)
        out, memory = core.room(residual)
        core.call("pie_residual_add", out, core.give(y), size, shift)
        assert bytes(memory) == oracle.residual_add(residual, y, shift).tobytes()


def check_sum(core, rng, size):
    for x in (i16(rng, 8 * size), np.full(8 * size, -32768, np.int16)):
        assert core.call("pie_sum", core.give(x), size) == x.sum(dtype=int)
    assert core.call("pie_sum", core.give(np.full(4096, -32768, np.int16)), 512) == -(2**27)


def check_squares(core, rng, size):
    noise, rails = i16(rng, 8 * size), np.full(8 * 63, -32768, np.int16)
    for x, mean in ((noise, -32768), (noise, 77), (rails, 0), (rails, 32767)):
        out, memory = core.room(8)
        core.call("pie_squares", core.give(x), len(x) // 8, mean, out)
        assert int.from_bytes(memory, "little") == (oracle.sat16(x.astype(int) - mean) ** 2).sum()


def check_norm(core, rng, size):
    for shift in (0, 3, 15, 30):
        x, gamma, beta = i16(rng, 16 * size), rng.integers(-1, 2, 16 * size).astype(np.int16), i16(rng, 16 * size)
        mean, factor = int(rng.integers(-32768, 32768)), int(rng.integers(2**13, 2**15))
        out, memory = core.room(16 * size)
        row = (*map(core.give, (x, gamma, beta)), out, size, mean, factor, shift)
        core.call("pie_norm", core.give(struct.pack("<5Iiii", *row)))
        u = oracle.sat16(oracle.sat16(x.astype(int) - mean) * gamma * factor >> shift)
        assert bytes(memory) == (oracle.sat16(u + beta) >> 8).astype(np.int8).tobytes()


def check_copy(core, rng, size):
    for rows, skip in ((1, 0), (1, 32), (2, 0), (5, 48)):
        data = i8(rng, rows, 16 * size)
        out, memory = core.room(16 * size * rows)
        core.call("pie_copy", out, core.give(strided(data, 16 * size + skip)), size, rows, skip)
        assert bytes(memory) == data.tobytes()


def check_clear(core, rng, size):
    out, memory = core.room(16 * size)
    core.call("pie_clear", out, size)
    assert not any(memory)


def test_every_kernel_has_a_check():
    assert {f"pie_{name[6:]}" for name in globals() if name.startswith("check_")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", SIZES)
def test_kernels_compute_on_whole_vectors_and_touch_nothing_else(name, size, program):
    """size: vectors, or groups of 16 inputs."""
    globals()[f"check_{name[4:]}"](Core(program), np.random.default_rng(size), size)


def test_an_access_beside_a_buffer_would_be_seen(program):
    core = Core(program)
    out, _ = core.room(32)
    for arguments in ((out, core.give(bytes(48)), 3), (out, core.give(bytes(16)), 2), (core.give(bytes(32)), out, 2)):
        with pytest.raises(MachineError, match=r"no memory for|read-only"):
            core.call("pie_copy", *arguments, 1, 0)


@pytest.mark.parametrize("name", ["pie_linear", "pie_scores", "pie_values"])
@pytest.mark.parametrize("groups", [4, 5])
def test_the_inner_loop_takes_17_cycles_for_256_products(name, groups, program):
    """The cost of two more groups, operands in SRAM; one instruction per cycle."""
    rows, depth = 8, 16 * (groups + 20)
    totals = []
    for count in (groups, groups + 20):
        machine = Machine()
        machine.load(program)
        start = -(-program.symbols["_lx7_free"].address // 16) * 16
        x = start + 256
        panel = x + rows * depth
        out = panel + 16 * depth
        begin = out + 16 * rows
        machine.write(start, struct.pack("<10I", x, panel, out, rows, count, 0, 16, begin, 7, begin))
        assert begin + 64 < DATA_SRAM[1]
        machine.call(name, start)
        totals.append(machine.totals)
    before, after = totals
    assert after.macs - before.macs == rows * 20 * 256
    assert after.instructions - before.instructions == rows * 20 * 17
    assert after.cycles - before.cycles == rows * 20 * 17

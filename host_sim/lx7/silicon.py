# SPDX-License-Identifier: MIT
"""The cycle model beside published measurements on chips: the same instruction sequences, modelled and measured.

`just lx7 silicon` prints the table and writes build/lx7/silicon.json; with --docs also docs/simulator.md.
The sources describe the sequences in words; they are built here from the instructions named.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from host_sim import tables
from host_sim.lx7.isa import encode
from host_sim.lx7.machine import (
    CODE_SRAM,
    DATA_SRAM,
    EXTERNAL_DATA,
    HALT,
    PRELOAD_ADDR,
    PRELOAD_CTRL,
    PRELOAD_DONE,
    PRELOAD_ENA,
    PRELOAD_SIZE,
    Machine,
)
from host_sim.lx7.timing import CLOCK_HZ, Cache, Timing
from host_sim.setup.artefact import write_whole
from host_sim.setup.shell import BUILD

Line = tuple  # (mnemonic, *values), operands as host_sim.lx7.isa.encode takes them
CODE = CODE_SRAM[0]
SWEEP = 100 * 1024  # bytes that X51's loops run over
REPEATS = 1000


@dataclass(frozen=True)
class Row:
    """A sequence. tolerance: largest relative error of the model; None: not checked, `note` says why."""

    name: str
    source: str
    unit: str
    measured: float
    modelled: float
    tolerance: float | None = 0.03
    note: str = ""

    @property
    def residual(self) -> float:
        """Modelled minus measured, in percent; in cycles where 0 was measured."""
        difference = self.modelled - self.measured
        return 100 * difference / self.measured if self.measured else difference


def code_of(lines: Sequence[Line]) -> bytes:
    """Machine code; operands "start" and "end" are the addresses of the sequence's first byte and after its last."""
    size = sum(len(encode(line[0], *(CODE if isinstance(v, str) else v for v in line[1:]), pc=CODE)) for line in lines)
    code = b""
    for mnemonic, *values in lines:
        places = {"start": CODE, "end": CODE + size}
        code += encode(mnemonic, *(places.get(value, value) for value in values), pc=CODE + len(code))
    return code


def machine_with(code: bytes, timing: Timing | None = None, **registers: int) -> Machine:
    """A core with PSRAM, at the start of `code`, which ends by a jump to HALT; registers: a2=..., a3=..."""
    machine = Machine(timing)
    machine.map(EXTERNAL_DATA[0], bytearray(1 << 20), "psram")
    machine.write(CODE, code)
    state = machine.registers
    state.pc, state.ps = CODE, 1 << 18
    for name, value in registers.items():
        state.set_a(int(name[1:]), value)
    machine.registers = state
    return machine


def branch_loop(body: Sequence[Line]) -> float:
    """Cycles per iteration of a loop that ends in addi and a taken bnez."""
    loop = [*body, ("addi", 15, 15, -1)]
    back = CODE + len(code_of(loop))
    code = code_of(loop) + encode("bnez", 15, CODE, pc=back) + encode("jx", 14)
    machine = machine_with(code, a15=REPEATS, a14=HALT, a2=DATA_SRAM[0], a3=DATA_SRAM[0] + 4096)
    machine.run()
    # The last branch is not taken, and jx leaves.
    return machine.totals.cycles / REPEATS


def hardware_loop(body: Sequence[Line], times: int, timing: Timing | None = None, **registers: int) -> Machine:
    """A core that has run a zero-overhead loop."""
    inner = code_of(body)
    # The loop instruction is placed so that its body's first instruction lies within one fetch word.
    code = encode("loop", 15, CODE + 3 + 1 + len(inner), pc=CODE + 1) + inner + encode("jx", 14)
    machine = machine_with(b"\0" + code, timing, a15=times, a14=HALT, **registers)
    state = machine.registers
    state.pc = CODE + 1
    machine.registers = state
    machine.run()
    return machine


FILLER: Line = ("ee.zero.q", 7)


def stalls(first: Line, second: Line, between: int) -> float:
    """Stall cycles between two instructions, `between` others apart."""
    apart = [FILLER] * between
    body = [first, *apart, second, *[FILLER] * 3]
    machine = hardware_loop(body, REPEATS, a2=DATA_SRAM[0], a3=DATA_SRAM[0] + 4096)
    totals = machine.totals
    return (totals.stalls["data"] + totals.stalls["unit"]) / REPEATS


# HWMCP's pairs: name, first, second, stalls when adjacent and when one instruction stands between.
MAC_QACC: Line = ("ee.vmulas.s8.qacc", 0, 1)
MAC_ACCX: Line = ("ee.vmulas.s8.accx", 0, 1)
LOAD_Q: Line = ("ld.qr", 2, 2, 0)
PAIRS = (
    ("ld.qr, then andq of it", LOAD_Q, ("ee.andq", 3, 2, 4), 1, 0),
    ("mv.qr, then andq of it", ("mv.qr", 2, 4), ("ee.andq", 3, 2, 4), 0, None),
    ("andq, then andq of it", ("ee.andq", 2, 4, 5), ("ee.andq", 3, 2, 4), 0, None),
    ("ld.qr, then st.qr of it", LOAD_Q, ("st.qr", 2, 3, 0), 0, None),
    ("add, then add of it", ("add", 4, 5, 6), ("add", 7, 4, 4), 0, None),
    ("ld.128.usar, then ld.qr at its address", ("ee.ld.128.usar.ip", 2, 2, 0), ("ld.qr", 3, 2, 0), 0, None),
    ("l32i, then add of it", ("l32i", 4, 2, 0), ("add", 5, 4, 4), 1, 0),
    ("ld.accx, then st.accx", ("ee.ld.accx.ip", 2, 0), ("ee.st.accx.ip", 3, 0), 1, None),
    ("vrelu, then mov.s16.qacc of it", ("ee.vrelu.s16", 2, 5, 6), ("ee.mov.s16.qacc", 2), 1, None),
    ("vmulas.qacc, then vmulas.qacc", MAC_QACC, MAC_QACC, 0, None),
    ("vmulas.qacc, then vmulas.accx", MAC_QACC, MAC_ACCX, 0, None),
    ("vmulas.qacc, then st.qacc_l", MAC_QACC, ("ee.st.qacc_l.l.128.ip", 2, 0), 1, 0),
    ("vmulas.qacc, then srcmb", MAC_QACC, ("ee.srcmb.s16.qacc", 2, 5, 0), 1, 0),
    ("vmulas.accx, then srcmb", MAC_ACCX, ("ee.srcmb.s16.qacc", 2, 5, 0), 1, 0),
    ("zero.qacc, then vmulas.qacc", ("ee.zero.qacc",), MAC_QACC, 0, None),
)


def loop_rows() -> list[Row]:
    """HWMCP's loops of 5 and 6 instructions, addi and a taken branch included."""
    rows = []
    for count, measured in ((5, 7.0), (6, 8.0)):
        modelled = branch_loop([FILLER] * (count - 2))
        rows.append(
            Row(f"loop of {count} instructions with a taken branch", "HWMCP", "cycles/iteration", measured, modelled)
        )
    return rows


def pair_rows() -> list[Row]:
    """HWMCP's stall pairs; a pair stalls or not, so these are exact."""
    rows = []
    for name, first, second, adjacent, apart in PAIRS:
        rows.append(Row(name, "HWMCP", "stalls", adjacent, stalls(first, second, 0), 0.0))
        if apart is not None:
            rows.append(Row(f"{name}, one between", "HWMCP", "stalls", apart, stalls(first, second, 1), 0.0))
    return rows


def block(body: Sequence[Line], timing: Timing | None = None) -> float:
    """CARD's method: cycles of each of 30 blocks, without the call, which the source includes."""
    machine = hardware_loop(body, 30, timing, a2=DATA_SRAM[0], a3=DATA_SRAM[0] + 4096)
    return machine.totals.cycles / 30


def block_rows() -> list[Row]:
    """CARD's blocks of 40 instructions and more."""
    plain = [("ee.andq", n % 6, 6, 7) for n in range(40)]
    fused = [("ee.vmulas.s8.qacc.ld.ip", n % 6, 2, 0, 6, 7) for n in range(32)] + plain[:9]
    store = [*plain[:39], ("ee.vst.128.ip", 6, 3, 0)]
    note = "what one store costs is unsettled: HWMCP and X51 have 1 cycle, CARD 1.6 (--slow-stores)"
    slow = Timing(store_extra=0.6)
    return [
        Row("40 independent PIE instructions", "CARD", "cycles/block", 40.9, block(plain)),
        Row("41, of them 32 fused loads", "CARD", "cycles/block", 42.05, block(fused)),
        Row("40, one of them a store, at 1 cycle", "CARD", "cycles/block", 41.5, block(store), None, note),
        Row("40, one of them a store, at 1.6 cycles", "CARD", "cycles/block", 41.5, block(store, slow), None, note),
    ]


def copy_rows() -> list[Row]:
    """X51's copy loop from SRAM to SRAM: two loads, then two stores of what they loaded (40 KB here)."""
    loads = [("ee.vld.128.ip", q, 2, 16) for q in (0, 1)]
    stores = [("ee.vst.128.ip", q, 3, 16) for q in (0, 1)]
    times = 40 * 1024 // 32
    machine = hardware_loop([*loads, *stores], times, a2=DATA_SRAM[0], a3=DATA_SRAM[0] + 64 * 1024)
    name = "SRAM copy loop of 4 instructions, 32 bytes"
    return [Row(name, "X51", "cycles/iteration", 4.11, machine.totals.cycles / times)]


def external_sweep(body: Sequence[Line], line: int, **registers: int) -> float:
    """Cycles of a loop over SWEEP bytes of external memory, with cache lines of `line` bytes."""
    timing = Timing(data_cache=Cache(64 * 1024, line))
    return hardware_loop(body, SWEEP // 16, timing, **registers).totals.cycles


def psram_rows() -> list[Row]:
    """X51's sweeps over PSRAM."""
    load, store = ("ee.vld.128.ip", 0, 2, 16), ("ee.vst.128.ip", 0, 3, 16)
    psram, sram = EXTERNAL_DATA[0], DATA_SRAM[0]
    rows = []
    for line, measured in ((16, 633664), (32, 403334), (64, 278493)):
        modelled = external_sweep([load], line, a2=psram)
        rows.append(Row(f"reading 100 KB of PSRAM, lines of {line} bytes", "X51", "cycles", measured, modelled))
    notes = (
        "the cost of writing a line back is fitted to this figure; the source gives neither instructions nor line size "
        "(64 bytes here)",
        "not fitted: reading and writing PSRAM in turns costs a chip more than the sum of both",
    )
    for name, source, rate, note in (("SRAM", sram, 58, notes[0]), ("PSRAM", psram + (1 << 19), 22, notes[1])):
        cycles = SWEEP / (rate * 2**20) * CLOCK_HZ
        modelled = external_sweep([load, store], 64, a2=source, a3=psram)
        rows.append(Row(f"copying 100 KB from {name} to PSRAM", "X51", "cycles", cycles, modelled, None, note))
    return rows


def preload_rows() -> list[Row]:
    """JX's wait for a preload of as much PSRAM as the cache holds, without work to hide it."""
    base, lines = PRELOAD_CTRL, 64 * 1024 // 64
    start = [("s32i", number, 13, register - base) for number, register in ((2, PRELOAD_ADDR), (3, PRELOAD_SIZE))]
    start.append(("s32i", 4, 13, 0))
    poll = CODE + len(code_of(start))
    code = code_of(start) + encode("l32i", 5, 13, 0, pc=poll)
    code += encode("bnone", 5, 6, poll, pc=poll + 3) + encode("jx", 14)
    registers = {"a2": EXTERNAL_DATA[0], "a3": lines, "a4": PRELOAD_ENA, "a6": PRELOAD_DONE, "a13": base, "a14": HALT}
    machine = machine_with(code, None, **registers)
    machine.run()
    note = (
        "the source rounds to 0.7 ms (156,000 to 180,000 cycles) the waits for 64 preloads, all but the first of which "
        "had long been done"
    )
    name = "preload of 64 KB of PSRAM, started and waited for"
    measured = 0.7e-3 * CLOCK_HZ
    return [Row(name, "JX", "cycles", measured, machine.totals.cycles, None, note)]


GROUPS: tuple[Callable[[], list[Row]], ...] = (loop_rows, pair_rows, block_rows, copy_rows, psram_rows, preload_rows)


def rows() -> list[Row]:
    """All comparisons, modelled now."""
    return [row for group in GROUPS for row in group()]


def markdown(table: Sequence[Row]) -> str:
    """The table for docs/simulator.md: a line for each row, notes below."""
    notes = list(dict.fromkeys(row.note for row in table if row.note))
    lines = []
    for row in table:
        mark = f" ({notes.index(row.note) + 1})" if row.note else ""
        digits = 0 if row.measured >= 1000 or row.unit == "stalls" else 2
        residual = f"{row.residual:+.1f} %" if row.measured else f"{row.residual:+.0f}"
        measured = f"{row.measured:,.{digits}f} {row.unit}"
        lines.append((f"{row.name}{mark}", row.source, measured, f"{row.modelled:,.{digits}f}", residual))
    head = ("sequence", "source", "measured", "modelled", "residual")
    return "\n".join([tables.markdown(head, lines), "", *(f"({n}) {note}.  " for n, note in enumerate(notes, 1))])


START, END = "<!-- lx7: written by `just lx7 silicon --docs` -->", "<!-- /lx7 -->"
RESULTS = BUILD / "lx7" / "silicon.json"


def record(table: Sequence[Row], path: Path = RESULTS) -> None:
    """Write the rows as JSON."""
    content = [asdict(row) | {"residual": row.residual} for row in table]
    write_whole(path, json.dumps(content, indent=1) + "\n")


def broken(table: Sequence[Row]) -> list[str]:
    """Rows where the model exceeds its tolerance."""
    return [
        f"{row.name}: {row.measured:g} measured, {row.modelled:g} modelled"
        for row in table
        if row.tolerance is not None and abs(row.modelled - row.measured) > row.tolerance * row.measured
    ]

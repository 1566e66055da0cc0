# SPDX-License-Identifier: MIT
"""A simulated ESP32-S3 core with memory: load a program, call its functions, read their cost."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

import cffi
import numpy as np

from host_sim import build
from host_sim.lx7 import isa
from host_sim.lx7.library import SOURCE, core
from host_sim.lx7.program import Program
from host_sim.lx7.timing import UNITS_PER_CYCLE, Timing

T = TypeVar("T")
Memory = bytes | bytearray | memoryview

ffi = cffi.FFI()
ffi.cdef(re.sub(r"^#.*$", "", (SOURCE / "core.h").read_text(), flags=re.MULTILINE))
library = ffi.dlopen(os.environ.get("LX7_LIBRARY") or str(build.library(core())))

# The chip's memory map (TRM 4.3), as far as it is used here; SRAM is split into code and data.
DATA_SRAM = 0x3FC88000, 0x3FD00000
CODE_SRAM = 0x40374000, 0x403E0000
EXTERNAL_DATA = 0x3C000000, 0x3E000000
FLASH_CODE = 0x42000000, 0x44000000
# Registers of the data cache's manual preload (core/state.h): set address and number of lines, then ENA; poll DONE.
PRELOAD_CTRL, PRELOAD_ADDR, PRELOAD_SIZE = 0x600C4040, 0x600C4044, 0x600C4048
PRELOAD_ENA, PRELOAD_DONE, PRELOAD_ORDER = 1, 2, 4
PAGE = library.LX7_PAGE_SIZE
STACK_TOP = DATA_SRAM[1] - 256
BOTTOM_FRAME = 64
# Return address of calls: unmapped, in the same quarter of the address space as code.
HALT = 0x40000000
MEMORIES = ("sram", "psram", "flash")
STALLS = ("data", "unit", "branch", "divide", "store", "cache", "fetch")
SIMCALL_EXIT, SIMCALL_WRITE = 1, 4


class MachineError(Exception):
    """A run that stopped early; the message has the reason, the place and the instruction."""


@dataclass(frozen=True)
class Cost:
    """Cost of an instruction: executions, stall cycles by cause, bytes by memory."""

    pc: int
    instruction: isa.Instruction
    count: int
    stalls: dict[str, float]
    bytes: dict[str, int]

    @property
    def cycles(self) -> float:
        """Executions and stalls."""
        return self.count + sum(self.stalls.values())

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.count * self.instruction.macs


@dataclass(frozen=True)
class Totals:
    """Sums over a run; all cycles are modelled. Dicts are by memory or by cause."""

    instructions: int
    cycles: float
    macs: int
    stalls: dict[str, float]
    loads: dict[str, int]
    stores: dict[str, int]
    bytes_loaded: dict[str, int]
    bytes_stored: dict[str, int]
    lines_read: dict[str, int]
    lines_written: dict[str, int]
    lines_preloaded: dict[str, int]  # of lines_read

    @property
    def external(self) -> float:
        """Cycles spent waiting for flash and PSRAM."""
        return self.stalls["cache"] + self.stalls["fetch"]


class Registers:
    """A copy of the core's registers; assign it back to Machine.registers.

    Arrays: ar uint32 [64], a uint32 [16] (the current window's), f uint32 [16] (bit patterns), q uint8 [8, 16],
    qacc int32 [16] (20-bit lanes), ua_state uint8 [16]; all others are ints.
    """

    ARRAYS: ClassVar = {"ar": np.uint32, "f": np.uint32, "q": np.uint8, "qacc": np.int32, "ua_state": np.uint8}

    def __init__(self, state: Any):
        object.__setattr__(self, "state", state)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.state, name)
        if name not in self.ARRAYS:
            return value
        array = np.frombuffer(ffi.buffer(value), self.ARRAYS[name])
        return array.reshape(8, 16) if name == "q" else array

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.ARRAYS:
            getattr(self, name)[:] = value
        else:
            setattr(self.state, name, value)

    @property
    def a(self) -> np.ndarray:
        """a0..a15, a copy."""
        return np.roll(self.ar, -4 * self.windowbase)[:16]

    def set_a(self, number: int, value: int) -> None:
        """Set a register of the current window."""
        self.ar[(4 * self.windowbase + number) % 64] = value & 0xFFFFFFFF


def by_name(names: tuple[str, ...], values: Iterable[T]) -> dict[str, T]:
    """Values of a C array, by the names of its elements."""
    return dict(zip(names, values, strict=True))


class Machine:
    """One core and its memory. Code runs as in memory; time is modelled by `timing`."""

    def __init__(self, timing: Timing | None = None):
        self.timing = timing or Timing()
        core = library.lx7_new(ffi.new("lx7_timing *", self.timing.units()))
        if core == ffi.NULL:
            raise MemoryError("no memory for a simulated core")
        self.core = ffi.gc(core, library.lx7_free)
        self.regions: dict[int, memoryview] = {}
        self.executable: set[int] = set()
        self.program: Program | None = None
        self.output = bytearray()
        self.exit_status: int | None = None
        for (start, end), executable in ((DATA_SRAM, False), (CODE_SRAM, True)):
            self.map(start, bytearray(end - start), "sram", executable=executable)

    def map(
        self,
        address: int,
        buffer: bytes | bytearray | memoryview,
        kind: str,
        *,
        writable: bool = True,
        executable: bool = False,
    ) -> None:
        """Map `buffer` to `address`, without a copy.

        address: a multiple of PAGE, not mapped yet; kind: sram, psram or flash; writable: needs a writable buffer.
        Raises ValueError otherwise.
        """
        view = memoryview(buffer).cast("B")
        if writable and view.readonly:
            raise ValueError("the buffer is read-only: pass writable=False")
        if kind not in MEMORIES:
            raise ValueError(f"kind is {kind!r}, not one of {', '.join(MEMORIES)}")
        if address % PAGE or not 0 <= address < 1 << 32 or not 0 < view.nbytes <= (1 << 32) - address:
            raise ValueError(
                f"{view.nbytes} bytes at {address:#x}: must start at a multiple of {PAGE}, end within 32 bits"
            )
        data = ffi.from_buffer("uint8_t[]", view)
        numbers = (view.nbytes, MEMORIES.index(kind), writable, executable)
        if library.lx7_map(self.core, address, data, *numbers):
            raise ValueError(f"{view.nbytes} bytes at {address:#x}: overlaps other memory, or too many regions")
        # The C core only keeps a pointer.
        self.regions[address] = view
        if executable:
            self.executable.add(address)

    def unmap(self, address: int) -> None:
        """Unmap the memory at `address`."""
        if library.lx7_unmap(self.core, address):
            raise ValueError(f"nothing is mapped at {address:#x}")
        del self.regions[address]
        self.executable.discard(address)

    def find(self, address: int, count: int) -> memoryview | None:
        """`count` bytes of memory at `address`, or None."""
        for start, view in self.regions.items():
            if start <= address and address + count <= start + view.nbytes:
                return view[address - start : address - start + count]
        return None

    def view(self, address: int, count: int) -> memoryview:
        """`count` bytes of memory at `address`; ValueError if not mapped."""
        view = self.find(address, count)
        if view is None:
            raise ValueError(f"{count} bytes at {address:#x}: no memory there")
        return view

    def read(self, address: int, count: int) -> bytes:
        """A copy of memory."""
        return bytes(self.view(address, count))

    def write(self, address: int, data: bytes) -> None:
        """Write memory; may be code."""
        self.view(address, len(data))[:] = data
        if any(start <= address < start + self.regions[start].nbytes for start in self.executable):
            library.lx7_forget_code(self.core)

    def load(self, program: Program) -> None:
        """Load a program and set pc to its entry point."""
        for segment in program.segments:
            self.make_room(segment.address, len(segment.data))
            self.write(segment.address, segment.data)
        self.program = program
        registers = self.registers
        registers.pc = program.entry
        registers.set_a(1, STACK_TOP)
        if vectors := program.symbols.get("_lx7_vectors"):
            registers.vecbase = vectors.address
        self.registers = registers

    def make_room(self, address: int, size: int) -> None:
        """Map memory for a segment in flash or PSRAM."""
        if self.find(address, size) is not None:
            return
        for (start, end), kind in ((EXTERNAL_DATA, "psram"), (FLASH_CODE, "flash")):
            if start <= address and address + size <= end:
                first = address - address % PAGE
                code = kind == "flash"
                self.map(first, bytearray(address + size - first), kind, writable=not code, executable=code)
                return
        raise MachineError(f"the program needs {size} bytes at {address:#x}, where the chip has no memory")

    @property
    def registers(self) -> Registers:
        """A copy of all registers; assign it back to set them."""
        state = ffi.new("lx7_state *")
        library.lx7_get(self.core, state)
        return Registers(state)

    @registers.setter
    def registers(self, registers: Registers) -> None:
        library.lx7_set(self.core, registers.state)

    def run(self, limit: int | None = None, until: int = HALT) -> bool:
        """Run from pc; returns whether the program exited, or reached `until`, within `limit` instructions.

        A call ends by returning to HALT. Raises MachineError if the program cannot continue.
        """
        before = self.totals.instructions
        while True:
            left = None if limit is None else max(0, limit - (self.totals.instructions - before))
            stop = self.advance(left, until)
            if stop.reason == library.LX7_SIMCALL:
                if self.serve_simcall():
                    return True
            elif stop.reason == library.LX7_RETURNED:
                return True
            elif stop.reason == library.LX7_LIMIT:
                return False
            else:
                raise MachineError(self.explain(stop))

    def advance(self, limit: int | None = None, until: int = HALT) -> Any:
        """Run until any stop reason; returns the core's lx7_stop, which `explain` turns into text."""
        stop = ffi.new("lx7_stop *")
        library.lx7_run(self.core, (1 << 64) - 1 if limit is None else limit, until, stop)
        return stop

    def serve_simcall(self) -> bool:
        """Serve a simcall as QEMU's sim machine does: write text, or exit. Returns whether the program exited."""
        registers = self.registers
        number, *arguments = (int(value) for value in registers.a[2:6])
        if number == SIMCALL_EXIT:
            self.exit_status = arguments[0]
            return True
        if number != SIMCALL_WRITE:
            raise MachineError(f"simcall {number}: only 1 (exit) and 4 (write) exist; {self.place(registers.pc - 3)}")
        _, address, count = arguments
        try:
            self.output += self.read(address, count)
        except ValueError as error:
            raise MachineError(f"simcall write: {error}; {self.place(registers.pc - 3)}") from None
        registers.set_a(2, count)
        self.registers = registers
        return False

    def call(self, function: str | int, *arguments: int, limit: int | None = None) -> int:
        """Call a function of the windowed ABI with up to 6 ints or pointers; returns its result as an unsigned int.

        Registers of PIE and FPU keep their contents.
        """
        if len(arguments) > 6:
            raise ValueError(f"{function}: {len(arguments)} arguments, at most 6 can be passed")
        registers = self.registers
        registers.windowbase, registers.windowstart = 0, 1
        registers.ps = 1 << 18 | 2 << 16  # WOE, CALLINC 2
        registers.pc = self.address_of(function)
        registers.lcount = 0
        registers.set_a(0, 0)
        registers.set_a(1, STACK_TOP)
        registers.set_a(8, 2 << 30 | HALT & 0x3FFFFFFF)
        for number, value in enumerate(arguments):
            registers.set_a(10 + number, value)
        self.registers = registers
        # The bottom frame has no caller; if its window is spilled, a4 and up go below this stack pointer.
        self.write(STACK_TOP - 12, (STACK_TOP + BOTTOM_FRAME).to_bytes(4, "little"))
        if not self.run(limit):
            raise MachineError(f"{function} did not return within {limit} instructions")
        return int(self.registers.a[10])

    def address_of(self, function: str | int) -> int:
        """Address of a function of the loaded program."""
        if isinstance(function, int):
            return function
        symbol = self.program and self.program.symbols.get(function)
        if not symbol:
            raise ValueError(f"{function}: the loaded program has no such function")
        return symbol.address

    def function_at(self, pc: int) -> tuple[str, int] | None:
        """Function that contains a pc, and the offset from its start."""
        return self.program.function_at(pc) if self.program else None

    def line_at(self, pc: int) -> tuple[str, int] | None:
        """Source file and line of a pc, if known."""
        return self.program.line_at(pc) if self.program else None

    def place(self, pc: int) -> str:
        """Address, function and source line of a pc, as far as known."""
        text = f"pc {pc:#010x}"
        if where := self.function_at(pc):
            text += f" in {where[0]}+{where[1]:#x}"
            if line := self.line_at(pc):
                text += f" ({line[0]}:{line[1]})"
        return text

    def instruction_at(self, pc: int) -> tuple[bytes, str]:
        """Bytes and assembly of the instruction at pc; the text says so if there is none."""
        for count in (4, 3, 2):
            if (view := self.find(pc, count)) is not None:
                code = bytes(view)
                decoded = isa.decode(code, pc)
                if decoded:
                    return code[: decoded.instruction.length], decoded.text
                return code, "(not an instruction of this core)"
        return b"", "(no memory)"

    def disassemble(self, pc: int) -> str:
        """Bytes and assembly of the instruction at pc, as text."""
        code, text = self.instruction_at(pc)
        return f"{code.hex(' ')}  {text}".strip()

    def explain(self, stop: Any) -> str:
        """A stop reason as one line of text."""
        detail = ffi.string(stop.detail).decode() if stop.detail else ""
        access = f"{stop.size} bytes at {stop.address:#010x}"
        reasons = {
            library.LX7_BREAK: "break instruction",
            library.LX7_UNKNOWN: "not an instruction of this core",
            library.LX7_NO_CODE: f"no code there{detail and ': ' + detail}",
            library.LX7_NO_MEMORY: f"no memory for {access}",
            library.LX7_READ_ONLY: f"a store of {access}, which is read-only",
            library.LX7_CODE_WRITE: f"a store of {access}, which is code",
            library.LX7_MISALIGNED: f"a misaligned access to {access}",
            library.LX7_ILLEGAL: f"illegal here: {detail}",
            library.LX7_NO_VECTORS: "a register window must be spilled or filled, but VECBASE is 0: link "
            "host_sim/lx7/runtime, or set VECBASE",
            library.LX7_DIVIDE_BY_ZERO: "division by zero",
            library.LX7_NO_SPECIAL: "the core has no such special register",
            library.LX7_COPROCESSOR: f"coprocessor disabled: {detail}",
            library.LX7_NOT_EXECUTED: f"{self.instruction_at(stop.pc)[1].partition(' ')[0]} is not simulated",
            library.LX7_UNMEASURED: f"not settled by a manual or a chip: {detail}",
        }
        return f"{reasons[stop.reason]}; {self.place(stop.pc)}: {self.disassemble(stop.pc)}"

    @property
    def totals(self) -> Totals:
        """Sums since the start, or since reset_counters."""
        totals = library.lx7_get_totals(self.core)
        values = {field.name: getattr(totals, field.name) for field in fields(Totals)}
        values["cycles"] /= UNITS_PER_CYCLE
        values["stalls"] = by_name(STALLS, (value / UNITS_PER_CYCLE for value in totals.stalls))
        moved = ("loads", "stores", "bytes_loaded", "bytes_stored", "lines_read", "lines_written", "lines_preloaded")
        for name in moved:
            values[name] = by_name(MEMORIES, values[name])
        return Totals(**values)

    def costs(self) -> list[Cost]:
        """Cost of each executed instruction, by region and address."""
        count = library.lx7_get_costs(self.core, ffi.NULL, 0)
        costs = ffi.new("lx7_cost[]", count)
        library.lx7_get_costs(self.core, costs, count)
        table = list(isa.instructions().values())
        return [
            Cost(
                c.pc,
                table[c.opcode],
                c.count,
                by_name(STALLS, (value / UNITS_PER_CYCLE for value in c.stalls)),
                by_name(MEMORIES, c.bytes),
            )
            for c in costs
        ]

    def assumed(self) -> dict[str, int]:
        """Executions of PIE instructions whose effect was not checked on a chip, by mnemonic."""
        counts: dict[str, int] = {}
        for cost in self.costs():
            if not cost.instruction.silicon:
                counts[cost.instruction.mnemonic] = counts.get(cost.instruction.mnemonic, 0) + cost.count
        return counts

    def reset_counters(self) -> None:
        """Clear costs, totals and caches."""
        library.lx7_reset_counters(self.core)

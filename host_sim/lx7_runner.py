# SPDX-License-Identifier: MIT
"""The operations of mpy_module on the simulated core (host_sim/lx7), for `ternary.use("lx7")`.

The kernels are compiled for the chip. Buffers are placed as on a board: memory from `ternary.arena` in SRAM, read-only
buffers (model files) in flash, all others in PSRAM. Cycles are counted per operation.
"""

import struct
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from host_sim.lx7 import toolchain
from host_sim.lx7.machine import DATA_SRAM, EXTERNAL_DATA, PAGE, STACK_TOP, Machine, Totals, ffi
from host_sim.lx7.program import Program
from host_sim.lx7.timing import CLOCK_HZ, Timing
from host_sim.tables import aligned

# Layout of mpy_module/ternary.h's structs in Xtensa's ABI: ternary_arg, ternary_error; size of ternary_operation (four
# pointers, two numbers).
ARGUMENT, ERROR, OPERATION_SIZE = struct.Struct("<IIi"), struct.Struct("<iiii QQ II"), 24
STACK = 32 * 1024
MAILBOX = 1024  # bytes at the start of free SRAM: arguments and an error
MOST_BUFFERS = 128  # mapped at the same time, besides SRAM
FLASH = EXTERNAL_DATA[0], EXTERNAL_DATA[0] + 0x1000000
PSRAM = FLASH[1], EXTERNAL_DATA[1]
# Internal memory after boot, region by region: bytes free, of these in the largest block, as a build of the vendor's
# sources reported them in an emulator.
AFTER_BOOT = (155_720, 147_456), (32_031, 32_024), (21_572, 21_568)


@dataclass
class OperationCost:
    """Total cost of all calls of an operation; cycles are modelled."""

    calls: int = 0
    instructions: int = 0
    macs: int = 0
    cycles: float = 0.0
    external: float = 0.0  # cycles of these that wait for flash and PSRAM


@dataclass
class Placement:
    """A host object in simulated memory at `address`; `copied`: None, or a copy with padding in front that keeps the
    object's alignment."""

    owner: memoryview
    address: int
    copied: bytearray | None = None

    @property
    def pad(self) -> int:
        """Bytes before the copy."""
        return 0 if self.copied is None else len(self.copied) - self.owner.nbytes


@dataclass
class Space:
    """Addresses from `start` to `end`, allocated first-fit."""

    start: int
    end: int
    taken: dict[int, int] = field(default_factory=dict)  # address: bytes

    def take(self, size: int) -> int | None:
        """The lowest free range of `size` bytes, or None."""
        address = self.start
        for taken in sorted(self.taken):
            if taken - address >= size:
                break
            address = taken + self.taken[taken]
        if address + size > self.end:
            return None
        self.taken[address] = size
        return address

    def largest(self) -> int:
        """Bytes of the largest free range."""
        starts = [*sorted(self.taken), self.end]
        ends = [self.start, *(address + self.taken[address] for address in starts[:-1])]
        return max(start - end for start, end in zip(starts, ends, strict=True))


def address_of(view: memoryview) -> int:
    """Address of a buffer on this machine."""
    return int(ffi.cast("uintptr_t", ffi.from_buffer(view)))


class Lx7Runner:
    """Runs operations on a simulated core. Figures do not include the interpreter's time.

    names: of the operations, in the order of their table; sram, piece: bytes that `ternary.arena` allocates in all and
    at once, limited by the chip's SRAM; or regions: bytes of each region that it allocates from.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        timing: Timing | None = None,
        sram: int = DATA_SRAM[1] - DATA_SRAM[0],
        piece: int | None = None,
        regions: tuple[int, ...] = (),
    ):
        self.names = names
        self.program = Program.load(toolchain.build_kernels())
        self.machine = Machine(timing)
        self.machine.load(self.program)
        self.operations = self.program.symbols["ternary_operations"].address
        start = -(-self.program.symbols["_lx7_free"].address // 16) * 16
        end, first = STACK_TOP - STACK, start + MAILBOX
        self.mailbox, self.piece, self.apart = start, piece, bool(regions)
        self.arenas = []
        for size in regions or (min(sram, end - first),):
            # A gap: what lies in two regions is never one block.
            self.arenas.append(Space(first, first + size // 16 * 16))
            first = self.arenas[-1].end + 16
        if first > end + 16:
            raise MemoryError(f"regions: {sum(regions)} bytes, the chip has {end - start - MAILBOX} beside the kernels")
        self.sram = self.machine.view(DATA_SRAM[0], DATA_SRAM[1] - DATA_SRAM[0])
        self.spaces = {"flash": Space(*FLASH), "psram": Space(*PSRAM)}
        # Key: first address, bytes, read-only; most recently used last.
        self.placements: OrderedDict[tuple[int, int, bool], Placement] = OrderedDict()
        self.costs: dict[str, OperationCost] = {}
        # Cores; cached, because asking the simulated core would add to its cycles.
        self.in_use = self.machine.call("ternary_cores")

    def take(self, size: int) -> tuple[Space, int] | None:
        """A range in the first region that has one, or None."""
        for space in self.arenas:
            address = space.take(-(-size // 16) * 16)
            if address is not None:
                return space, address
        return None

    def memory(self, size: int, leave: int) -> memoryview | None:
        """Zeroed SRAM aligned to 16 bytes, freed with its last reference; None if there is too little beside a block of
        `leave` bytes."""
        if self.piece is not None and size > self.piece:
            return None
        left = self.take(leave) if leave else None
        found = self.take(size) if left or not leave else None
        if left:
            left[0].taken.pop(left[1])
        if found is None:
            return None
        space, address = found
        block = self.sram[address - DATA_SRAM[0] :][:size]
        block[:] = bytes(size)
        taken = space.taken
        owner = ffi.gc(ffi.cast("char *", ffi.from_buffer(block)), lambda _: taken.pop(address))
        # The view keeps its owner alive; the memory lives as long as this runner.
        return memoryview(ffi.buffer(owner, size))

    def heap(self, size: int) -> memoryview:
        """Zeroed bytes aligned to 16, placed in PSRAM."""
        memory = ffi.new("char[]", size + 15)
        owner = ffi.gc(memory + -int(ffi.cast("uintptr_t", memory)) % 16, lambda _, memory=memory: None)
        return memoryview(ffi.buffer(owner, size))

    def internal(self) -> list[int] | None:
        """Largest free block of each region; None where it was given no regions."""
        return [space.largest() for space in self.arenas] if self.apart else None

    def cores(self, count: int | None = None) -> int:
        """Parts that operations are cut into, which run one after another here; with a count, sets it first.
        timing.TwoCores estimates the time on two cores."""
        if count is not None:
            self.in_use = self.machine.call("ternary_use_cores", count & 0xFFFFFFFF)
        return self.in_use

    def backends(self) -> list[str]:
        """Names of the backends, the default first."""
        names: list[str] = []
        while address := self.machine.call("ternary_backend_name", len(names)):
            text = b""
            while not text.endswith(b"\0"):
                text += self.machine.read(address + len(text), 1)
            names.append(text[:-1].decode())
        return names

    def use_backend(self, number: int) -> None:
        """Select a backend by its number."""
        self.machine.call("ternary_use_backend", number)

    def place(self, view: memoryview) -> tuple[int, Placement | None]:
        """Address of a buffer on the chip, and its placement unless it is in SRAM."""
        data, sram = address_of(view), address_of(self.sram)
        if sram <= data < sram + self.sram.nbytes:
            return DATA_SRAM[0] + data - sram, None
        owner = memoryview(view.obj)
        whole = owner if owner.c_contiguous and owner.nbytes else view
        key = address_of(whole), whole.nbytes, whole.readonly
        placement = self.placements.get(key) or self.map(whole, key)
        self.placements.move_to_end(key)
        return placement.address + placement.pad + data - key[0], placement

    def place_all(self, views: list[memoryview | None]) -> list[tuple[int, Placement | None]]:
        """`place` for all buffers of a call, (0, None) for None; MemoryError if they do not all fit."""

        def places() -> list[tuple[int, Placement | None]]:
            return [(0, None) if view is None else self.place(view) for view in views]

        try:
            return places()
        except MemoryError:
            # Drop the placements of earlier calls, which fragment memory, and try again.
            for key in list(self.placements):
                self.forget(key)
            return places()

    def map(self, whole: memoryview, key: tuple[int, int, bool]) -> Placement:
        """Place a host object in flash or PSRAM. An object that is not aligned to 16 bytes is copied for each call, so
        that its alignment is kept and its neighbours are not touched."""
        # Placements of the current call are the most recent and fewer than MOST_BUFFERS.
        while len(self.placements) >= MOST_BUFFERS:
            self.forget(next(iter(self.placements)))
        kind, pad = "flash" if whole.readonly else "psram", key[0] % 16
        address = self.spaces[kind].take(-(-(whole.nbytes + pad) // PAGE) * PAGE)
        if address is None:
            raise MemoryError(f"a buffer of {whole.nbytes} bytes does not fit the chip's {kind} beside the others")
        copied = bytearray(whole.nbytes + pad) if pad else None
        memory = whole if copied is None else copied
        self.machine.map(address, memory, kind, writable=not whole.readonly)
        placement = Placement(whole, address, copied)
        self.placements[key] = placement
        return placement

    def forget(self, key: tuple[int, int, bool]) -> None:
        """Remove an object from simulated memory."""
        placement = self.placements.pop(key)
        self.machine.unmap(placement.address)
        for space in self.spaces.values():
            space.taken.pop(placement.address, None)

    def copy(self, placements: list[Placement | None], *, back: bool) -> None:
        """Update the copies before a call; with `back`, the originals after it."""
        for placement in placements:
            if placement is not None and placement.copied is not None:
                whole = placement.owner.cast("B")
                if not back:
                    placement.copied[placement.pad :] = whole
                elif not whole.readonly:
                    whole[:] = placement.copied[placement.pad :]

    def call(self, index: int, operation: Any, arguments: Any, views: list[memoryview | None], error: Any) -> int:
        """Run operation `index` of the table on the binding's arguments; sets `error` as C does."""
        machine, before = self.machine, self.machine.totals
        placed = self.place_all(views)
        placements = [placement for _, placement in placed]
        self.copy(placements, back=False)
        packed = b"".join(
            ARGUMENT.pack(address, argument.size, argument.value)
            for (address, _), argument in zip(placed, arguments, strict=True)
        )
        machine.write(self.mailbox, packed)
        where = self.mailbox + MAILBOX - ERROR.size
        result = machine.call("ternary_call", self.operations + index * OPERATION_SIZE, self.mailbox, where)
        result -= result >> 31 << 32
        self.copy(placements, back=True)
        if result < 0:
            self.read_error(where, arguments, error)
        self.count(self.names[index], before)
        return result

    def read_error(self, where: int, arguments: Any, error: Any) -> None:
        """Copy the chip's ternary_error to this machine's."""
        *values, argument, other = ERROR.unpack(self.machine.read(where, ERROR.size))
        for name, value in zip(("code", "value", "low", "high", "needed", "index"), values, strict=True):
            setattr(error, name, value)
        for name, pointer in (("argument", argument), ("other", other)):
            number = (pointer - self.mailbox) // ARGUMENT.size
            if 0 <= number < len(arguments):
                setattr(error, name, arguments + number)

    def count(self, name: str, before: Totals) -> None:
        """Add the cost of the last call."""
        after, cost = self.machine.totals, self.costs.setdefault(name, OperationCost())
        cost.calls += 1
        cost.instructions += after.instructions - before.instructions
        cost.macs += after.macs - before.macs
        cost.cycles += after.cycles - before.cycles
        cost.external += after.external - before.external

    def report(self) -> str:
        """Costs by operation as text, most expensive first."""
        rows = [["operation", "calls", "instructions", "cycles", "external", "ms at 240 MHz"]]
        costs = sorted(self.costs.items(), key=lambda item: -item[1].cycles)
        total = OperationCost()
        for _, cost in costs:
            for name in vars(total):
                setattr(total, name, getattr(total, name) + getattr(cost, name))
        for name, c in [*costs, ("all", total)]:
            numbers = (c.calls, c.instructions, round(c.cycles), round(c.external))
            rows.append([name, *(f"{number:,}" for number in numbers), f"{1000 * c.cycles / CLOCK_HZ:,.2f}"])
        return f"{aligned(rows)}\ncycles are modelled; the interpreter's own time is not included"

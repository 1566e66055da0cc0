# SPDX-License-Identifier: MIT
"""The cycle model's constants, each with its source, and the model of two cores.

Tags of sources (shared by the tables of host_sim/lx7/isa): TRM: ESP32-S3 Technical Reference Manual v1.8; ISA: Xtensa
ISA reference manual; OVL: Espressif's assembler tables for the chip; HWMCP, CARD, X51, MMRT, JX: published measurements
on chips (JX: jx_dcp.h and its probe, of a speech codec for NuttX). "Assumed": none of them has it.
"""

from dataclasses import dataclass, field

CLOCK_HZ = 240_000_000
UNITS_PER_CYCLE = 16  # the core counts in sixteenths

# Cycles that a load waits for a line of octal PSRAM at 80 MHz DDR, by line size: X51's sweeps of 100 KB took 99, 126
# and 174 cycles a line, including one cycle for each 16-byte load.
PSRAM_READ = {16: 98, 32: 124, 64: 170}
# Write-back of a line, fitted: X51 copies 100 KB from SRAM to PSRAM at 58 MiB/s. With the default cache this evicts 576
# of 1,600 lines of 64 bytes, which leaves 207 cycles for each. Other line sizes in proportion.
PSRAM_WRITE_PER_BYTE = 207 / 64
# MMRT: streamed reads of flash reach about 32 MB/s; assumed for every line.
FLASH_BYTES_PER_SECOND = 32_000_000
# The data cache's manual preload has no constant of its own (core/preload.c): a line takes as long as a miss. JX waited
# 0.7 ms for 1,024 lines of PSRAM (152 to 176 cycles a line, given the rounding), and not at all after 320,000 cycles of
# other work. Assumed: the same holds for flash; a miss waits for the line in transfer and goes before the remaining
# ones; the registers cost no more than SRAM.
# MMRT: two cores are 1.17x as fast as one when both read one SRAM bank, 1.6x in separate regions.
SHARED_BANK_SPEEDUP, SEPARATE_SPEEDUP, SPEEDUP_BOUND = 1.17, 1.6, 2.0


@dataclass(frozen=True)
class Cache:
    """A cache with least-recently-used replacement (TRM: 8 ways, lines of 16, 32 or 64 bytes)."""

    size: int
    line: int
    ways: int = 8

    def __post_init__(self) -> None:
        sets = self.size / (self.ways * self.line) if self.ways > 0 and self.line > 0 else 0
        if (
            self.line not in PSRAM_READ
            or self.ways > 64
            or sets < 1
            or sets != int(sets)
            or int(sets) & (int(sets) - 1)
        ):
            raise ValueError(
                f"a cache of {self.size} bytes in {self.ways} ways of {self.line}-byte lines: lines have 16, 32 or 64 "
                "bytes, and size / ways / line is a power of two"
            )


@dataclass(frozen=True)
class Timing:
    """Constants of the cycle model, in cycles at 240 MHz.

    taken_branch: beyond 1, of taken branches (TRM p.74; HWMCP) and of jumps, calls and returns (assumed alike);
    crossing_target: beyond that, when the target crosses an aligned 4-byte fetch word (ISA); divide: beyond 1 (CARD: 16
    to 18 in all); store_extra: beyond 1, of each store: 0 (HWMCP, X51) or 0.6 (CARD); data_cache, instruction_cache:
    of flash and PSRAM (TRM: 32 or 64 KB and 16 or 32 KB); flash_bytes_per_second: see FLASH_BYTES_PER_SECOND, inf for
    flash at no cost; preload: whether preloads load anything.
    """

    taken_branch: int = 2
    crossing_target: int = 1
    divide: int = 16
    store_extra: float = 0.0
    flash_bytes_per_second: float = FLASH_BYTES_PER_SECOND
    preload: bool = True
    data_cache: Cache = field(default_factory=lambda: Cache(64 * 1024, 64))
    instruction_cache: Cache = field(default_factory=lambda: Cache(32 * 1024, 32))

    def costs(self) -> dict[str, float]:
        """Cycles of reading (data), writing back and fetching (instructions) a line of external memory."""
        data, code = self.data_cache.line, self.instruction_cache.line
        flash = CLOCK_HZ / self.flash_bytes_per_second
        return {
            "psram_read": PSRAM_READ[data],
            "psram_write": PSRAM_WRITE_PER_BYTE * data,
            "flash_read": data * flash,
            "psram_fetch": PSRAM_READ[code],
            "flash_fetch": code * flash,
        }

    def units(self) -> dict[str, int | dict[str, int]]:
        """As the core's lx7_timing."""
        numbers: dict[str, int | dict[str, int]]
        numbers = {name: int(getattr(self, name)) for name in ("taken_branch", "crossing_target", "divide", "preload")}
        for name, cycles in {"store_extra": self.store_extra, **self.costs()}.items():
            numbers[name] = round(cycles * UNITS_PER_CYCLE)
        for name in ("data_cache", "instruction_cache"):
            cache = getattr(self, name)
            numbers[name] = {"size": cache.size, "ways": cache.ways, "line": cache.line}
        return numbers


@dataclass(frozen=True)
class TwoCores:
    """One core's cycles, split evenly over two cores; all modelled.

    separate, shared: each core's data in its own SRAM region, or in one bank (MMRT's speed-ups for SRAM); bound:
    without conflicts. External memory is one bus: its cycles are not divided.
    """

    separate: float
    shared: float
    bound: float

    @classmethod
    def of(cls, cycles: float, external: float) -> "TwoCores":
        """cycles: of one core; external: part of them, waiting for flash or PSRAM."""
        inside = cycles - external
        return cls(*(inside / gain + external for gain in (SEPARATE_SPEEDUP, SHARED_BANK_SPEEDUP, SPEEDUP_BOUND)))

# SPDX-License-Identifier: MIT
"""The stand-in for an ESP32-S3's heap (arena/heap/chip_heap.h) in CPython: which requests fit, and in which region.

heap = ChipHeap()                                   # as a board has it after boot
wifi = [heap.malloc(1600) for _ in range(38)]       # somebody else's 60 KB
heap.aligned_alloc(16, size)                        # an address, or None as ESP-IDF returns NULL
heap.regions                                        # [Region(free=..., largest=...), ...]
"""

import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cffi

from host_sim import build
from host_sim.lx7_runner import AFTER_BOOT
from host_sim.setup.shell import lock

HERE = Path(__file__).resolve().parent
SOURCE = HERE / "arena" / "heap" / "chip_heap.c"
HEADERS = (SOURCE.with_suffix(".h"), HERE / "idf" / "components" / "heap" / "include" / "esp_heap_caps.h")
FLAGS = ("-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-shared", "-fPIC", f"-I{HEADERS[1].parent}")
INTERNAL = 1 << 11 | 1 << 2  # MALLOC_CAP_INTERNAL | MALLOC_CAP_8BIT
BOOT = AFTER_BOOT
WIFI = [1600] * 38  # bytes of its blocks, about 60 KB

ffi = cffi.FFI()
for header in reversed(HEADERS):
    ffi.cdef(re.sub(r"^#.*$|//.*$", "", header.read_text(), flags=re.MULTILINE))


def library() -> Path:
    """The compiled stand-in, built unless it is up to date; with sanitizers if the kernels have them."""
    sanitized = bool(os.environ.get("TERNARY_LIBRARY"))
    path = build.OUTPUT / f"libchip_heap{'-sanitized' if sanitized else ''}.so"
    with lock("chip-heap"):
        if not build.newer(path, (SOURCE, *HEADERS, Path(__file__))):
            build.OUTPUT.mkdir(parents=True, exist_ok=True)
            flags = (*FLAGS, *(build.SANITIZE if sanitized else ("-O2",)))
            environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
            subprocess.run([build.compiler(), *flags, SOURCE, "-o", path], env=environment, check=True)
    return path


class Region(NamedTuple):
    """Free bytes of a region, in total and in the largest block."""

    free: int
    largest: int


class ChipHeap:
    """The heap of a board after boot, or of regions (bytes free, of these in the largest block); there is one, which a
    new ChipHeap starts afresh."""

    _newest: "ChipHeap | None" = None

    def __init__(self, regions: Iterable[tuple[int, int]] = BOOT) -> None:
        self._library = ffi.dlopen(str(library()))
        self._library.chip_heap_reset()
        ChipHeap._newest = self
        if tuple(regions) != BOOT:
            self.clear()
            for total, largest in regions:
                self.add(total, largest)

    def malloc(self, size: int, caps: int = INTERNAL) -> int | None:
        """Allocate a block; returns its address, or None if it fits no region."""
        return self._address(self._library.heap_caps_malloc(size, caps))

    def aligned_alloc(self, alignment: int, size: int, caps: int = INTERNAL) -> int | None:
        """Allocate a block aligned to `alignment`, a power of two up to 64."""
        return self._address(self._library.heap_caps_aligned_alloc(alignment, size, caps))

    def give(self, address: int) -> None:
        """Free a block."""
        assert self.region_of(address) is not None, f"{address:#x} is no block of this heap"
        self._library.heap_caps_free(ffi.cast("void *", address))

    def region_of(self, address: int) -> int | None:
        """The number of a block's region."""
        number = self._library.chip_heap_region_of(ffi.cast("void *", address))
        return None if number < 0 else number

    def add(self, total: int, largest: int, caps: int = INTERNAL) -> None:
        """Add a region after the others."""
        assert self._library.chip_heap_add(total, largest, caps) == 0, f"no region of {largest} in {total} bytes"

    def clear(self) -> None:
        """Remove all blocks and regions."""
        self._library.chip_heap_clear()

    @property
    def regions(self) -> list[Region]:
        """Free bytes by region."""
        found = self._library
        return [
            Region(found.chip_heap_free(number), found.chip_heap_largest(number))
            for number in range(found.chip_heap_regions())
        ]

    @property
    def over(self) -> bool:
        """Whether a new ChipHeap has taken all blocks back."""
        return ChipHeap._newest is not self

    @property
    def blocks(self) -> int:
        """Number of allocated blocks."""
        return self._library.chip_heap_blocks()

    def free_size(self, caps: int = INTERNAL) -> int:
        """Free bytes of all regions with these capabilities, as ESP-IDF reports them."""
        return self._library.heap_caps_get_free_size(caps)

    def minimum_free_size(self, caps: int = INTERNAL) -> int:
        """The minimum of free bytes so far, as ESP-IDF reports it: the sum of the regions' minima."""
        return self._library.heap_caps_get_minimum_free_size(caps)

    def largest_free_block(self, caps: int = INTERNAL) -> int:
        """The largest free block of all regions as ESP-IDF reports it: rounded down to a size class."""
        return self._library.heap_caps_get_largest_free_block(caps)

    @staticmethod
    def _address(memory) -> int | None:
        return int(ffi.cast("uintptr_t", memory)) or None

# SPDX-License-Identifier: MIT
"""The chip's memory in place of this machine's: arenas from a ChipHeap, `ternary.heap` from so many bytes of PSRAM.

ternary.runner = ChipRunner(ChipHeap())
"""

import gc
import weakref

import ternary

from tests.firmware.chip_heap import ChipHeap

ARENA_HEADER = 80  # bytes before an arena (mpy_module/modternary.c), at most


def give(heap: ChipHeap, block: int) -> None:
    """Give an arena's block back, unless its heap is over."""
    if not heap.over:
        heap.give(block)


class ChipRunner(type(ternary.runner)):  # type: ignore[misc]
    """In place of ternary.runner: arenas are blocks of a ChipHeap, as mpy_module/modternary.c takes them; the bytes
    themselves are this machine's.

    psram: bytes of MicroPython's heap that are free.
    """

    def __init__(self, heap: ChipHeap, psram: int = 1 << 30) -> None:
        self.chip, self.psram = heap, psram
        self._before = heap.free_size()

    def take_beside(self, size: int, leave: int) -> int | None:
        """The address of a block for an arena, taken while one of `leave` bytes is held."""
        left = self.chip.malloc(leave) if leave else None
        block = None if leave and left is None else self.chip.aligned_alloc(16, ARENA_HEADER + max(size, 64))
        if left is not None:
            self.chip.give(left)
        return block

    def memory(self, size: int, leave: int) -> memoryview | None:
        """Zeroed bytes, for which a block of the chip's heap is taken; None without one."""
        block = self.take_beside(size, leave)
        if block is None:
            gc.collect()
            block = self.take_beside(size, leave)
        if block is None:
            return None
        view = super().heap(size)
        weakref.finalize(view.obj, give, self.chip, block)
        return view

    def heap(self, size: int) -> memoryview | None:
        """Zeroed bytes of MicroPython's heap; None if too few are free."""
        if size > self.psram:
            return None
        view = super().heap(size)
        self.psram -= size
        weakref.finalize(view.obj, self.give_back, size)
        return view

    def give_back(self, size: int) -> None:
        """Bytes of MicroPython's heap."""
        self.psram += size

    def internal(self) -> list[int]:
        """Largest free block of each region."""
        return [region.largest for region in self.chip.regions]

    def inside(self) -> int:
        """Bytes of internal memory that were taken since this began."""
        return self._before - self.chip.free_size()

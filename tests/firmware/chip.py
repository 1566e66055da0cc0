# SPDX-License-Identifier: MIT
"""A stand-in for the chip's internal memory under CPython: regions of free blocks that `ternary.arena` takes from, as
arena/heap has them for MicroPython."""

import gc
import tomllib
import weakref

import ternary

from tests.conftest import ROOT
from tests.tiny import small

HEADER = 16  # bytes that a block takes besides
WIFI = [4096] * 15


def step(size):
    """The chip's allocator tells sizes apart in sixteenths."""
    return 1 << max(0, size.bit_length() - 5)


class ChipHeap(type(ternary.runner)):
    """In place of ternary.runner. regions: bytes of the free blocks of each region; psram: bytes of MicroPython's heap.

    taken: [region, span, start, end] of each block of internal memory that is in use.
    """

    def __init__(self, regions, psram=1 << 30):
        self.regions, self.psram, self.taken = regions, psram, []

    def gaps(self):
        """(region, span, start, bytes) of all free ranges."""
        for region, spans in enumerate(self.regions):
            for span, size in enumerate(spans):
                inside = sorted((start, end) for *where, start, end in self.taken if where == [region, span])
                for start, end in zip([0, *(e for _, e in inside)], [*(s for s, _ in inside), size], strict=True):
                    if end > start:
                        yield region, span, start, end - start

    def take(self, size, aligned):
        """A block in the first region that has one for sure, or None."""
        asked = size + (16 + HEADER if aligned else 0)
        asked = -(-asked // step(asked)) * step(asked)
        for region, span, start, free in self.gaps():
            if free >= asked:
                self.taken.append([region, span, start, start + min(free, -(-(size + HEADER) // 16) * 16)])
                return self.taken[-1]
        return None

    def take_beside(self, size, leave):
        """A block for an arena, or None."""
        left = self.take(leave, False) if leave else None
        block = None if leave and left is None else self.take(size + 128, True)
        if left:
            self.taken.remove(left)
        return block

    def memory(self, size, leave):
        """As the binding does it: a block of `leave` bytes is held meanwhile."""
        block = self.take_beside(size, leave)
        if block is None:
            gc.collect()
            block = self.take_beside(size, leave)
        if block is None:
            return None
        view = super().heap(size)
        weakref.finalize(view.obj, self.taken.remove, block)
        return view

    def heap(self, size):
        """Of MicroPython's heap."""
        if size > self.psram:
            return None
        view = super().heap(size)
        self.psram -= size
        weakref.finalize(view.obj, self.give_back, size)
        return view

    def give_back(self, size):
        """Bytes of MicroPython's heap."""
        self.psram += size

    def internal(self):
        """Largest free block of each region."""
        gaps = list(self.gaps())
        return [max((g[3] for g in gaps if g[0] == region), default=0) for region in range(len(self.regions))]

    def largest(self):
        """The largest block that can be had."""
        most = max(self.internal())
        return most // step(most) * step(most)

    def inside(self):
        """Bytes of internal memory in use."""
        return sum(end - start for *_, start, end in self.taken)


def my_pictures():
    """The network of trainer/configs/my_pictures.toml, untrained, for three classes."""
    config = tomllib.loads((ROOT / "trainer" / "configs" / "my_pictures.toml").read_text())
    data, model = config["data"], config["model"]
    sizes = {"img_size": data["size"], "channels": data["channels"], "classes": 3}
    return small("my_pictures", model["name"], stem=model["stem"], patch=model["patch"], **sizes, **model["options"])

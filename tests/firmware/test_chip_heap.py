# SPDX-License-Identifier: MIT
"""The stand-in for the chip's heap: sizes after boot, and the same decisions as ESP-IDF's allocator."""

import random
import subprocess
import sys

import pytest

from tests.firmware.chip_heap import BOOT, INTERNAL, ChipHeap, ffi

SPIRAM = 1 << 10
HEADER = 4


@pytest.fixture
def heap():
    """As after boot."""
    return ChipHeap()


def contents(address, size):
    """The bytes of a block."""
    return bytes(ffi.buffer(ffi.cast("uint8_t *", address), size))


def test_sizes_after_boot(heap):
    assert [tuple(region) for region in heap.regions] == list(BOOT)
    assert heap.free_size() == heap.minimum_free_size() == sum(total for total, _ in BOOT)
    assert heap.largest_free_block() == 147_456
    assert heap.blocks == 0
    assert heap.free_size(SPIRAM) == heap.largest_free_block(SPIRAM) == 0
    assert heap.malloc(4, SPIRAM) is None


def test_regions_are_tried_in_order(heap):
    """A block that does not fit the first region goes to the next one with room."""
    assert heap.region_of(heap.malloc(147_456)) == 0
    assert heap.region_of(heap.malloc(28_000)) == 1
    assert heap.region_of(heap.malloc(20_480)) == 2
    assert heap.region_of(heap.malloc(3_000)) == 1
    assert heap.region_of(heap.malloc(900)) == 0  # among what is scattered
    assert heap.malloc(3_000) is None


# By hand from the classes: between 131,072 and 262,144 they are 8,192 bytes apart in a region of up to 256 KB.
FITS = (
    (4, 147_456, True),
    (4, 147_457, False),  # rounded up to 155,648
    (16, 147_424, True),  # 16 for the alignment, 16 for the smallest block before it
    (16, 147_425, False),
    (16, 139_264, True),
    (4, 0, False),
    (3, 16, False),
)


@pytest.mark.parametrize(("alignment", "size", "fits"), FITS)
def test_what_fits_the_largest_block(heap, alignment, size, fits):
    address = heap.aligned_alloc(alignment, size)
    assert (address is not None) == fits
    if fits:
        assert address % alignment == 0
        assert contents(address, size) == b"\xa5" * size
        # A rest that is too small for a block of its own stays with the one before it.
        assert 0 <= BOOT[0][0] - size - HEADER - heap.regions[0].free <= 12
        heap.give(address)
    assert [tuple(region) for region in heap.regions] == list(BOOT)


def test_requests_are_rounded_up_to_a_class(heap):
    """A block of 10,000 bytes lies in the class from 9,728 on, so 9,800 bytes, rounded to 10,240, do not fit it."""
    heap.clear()
    heap.add(20_000, 10_000)
    assert heap.largest_free_block() == 9_728
    assert heap.malloc(9_800) is None
    assert heap.malloc(9_728) is not None


def test_neighbours_become_one_block_again(heap):
    blocks = [heap.malloc(10_000) for _ in range(10)]
    for address in blocks[::2]:
        heap.give(address)
    assert heap.regions[0].largest < 60_000
    for address in blocks[1::2]:
        heap.give(address)
    assert tuple(heap.regions[0]) == BOOT[0]
    assert heap.minimum_free_size() == sum(total for total, _ in BOOT) - 10 * (10_000 + HEADER)


def test_more_regions(heap):
    heap.add(1 << 20, (1 << 20) - HEADER, SPIRAM)
    assert heap.largest_free_block(SPIRAM) >= 1_000_000
    assert heap.largest_free_block() == 147_456
    assert heap.region_of(heap.aligned_alloc(16, 900_000, SPIRAM)) == 3
    with pytest.raises(AssertionError, match="no region of 8 in 8 bytes"):
        heap.add(8, 8)


def test_blocks_lie_apart_whatever_happens(heap):
    """Random requests against a list of allocated blocks: no overlap, no overwriting, all memory is returned."""
    chance, taken = random.Random(12), {}
    for step in range(3000):
        if taken and chance.random() < 0.45:
            address = chance.choice(list(taken))
            size, mark = taken.pop(address)
            assert contents(address, size) == mark * size
            heap.give(address)
        else:
            alignment, size = chance.choice((4, 8, 16)), chance.choice((1, 12, 100, 1000, 9000, 40_000))
            size += chance.randrange(8)
            address = heap.aligned_alloc(alignment, size)
            if address is None:
                continue
            assert address % alignment == 0
            for other, (length, _) in taken.items():
                assert address + size + HEADER <= other or other + length + HEADER <= address
            mark = bytes([step % 251])
            ffi.memmove(ffi.cast("uint8_t *", address), mark * size, size)
            taken[address] = size, mark
        padded = sum(max((size + 3) // 4 * 4, 12) + HEADER for size, _ in taken.values())
        held = sum(total for total, _ in BOOT) - heap.free_size()
        # A rest that is too small for a block of its own stays with the one before it.
        assert padded <= held <= padded + 12 * len(taken)
        assert heap.blocks == len(taken)
    for address in taken:
        heap.give(address)
    assert [tuple(region) for region in heap.regions] == list(BOOT)


def test_what_is_no_block_is_refused():
    """Immediately, like ESP-IDF's assertion."""
    script = "from tests.firmware.chip_heap import ChipHeap, ffi\nChipHeap()._library.heap_caps_free(ffi.new('int *'))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode != 0
    assert "is no block of this heap" in done.stderr
    heap = ChipHeap()
    address = heap.malloc(100, INTERNAL)
    heap.give(address)
    with pytest.raises(AssertionError, match="is no block of this heap"):
        heap.give(address)

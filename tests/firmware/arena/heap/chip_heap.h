// SPDX-License-Identifier: MIT
// A stand-in for the heap of an ESP32-S3: ESP-IDF's heap_caps_* (esp_heap_caps.h) over regions of the sizes
// that a board's firmware left free after boot. It decides as ESP-IDF does what fits and where:
//   Regions are tried in order, and no block spans two.
//   In a region, a two-level segregated fit (TLSF): free blocks lie in classes of sizes, a request is rounded
//   up to the next class, and the first class that has a block gives it. A block has a header of 4 bytes and
//   multiples of 4 bytes; one that is aligned to more needs room for the alignment and 16 bytes beside its
//   own. What is reported as the largest free block is rounded down to a class.
// Sizes count as on the chip, also where pointers have 8 bytes. Memory is filled with 0xa5 when it is taken
// and with 0x5a when it is given back. Not for several threads at once.

#ifndef CHIP_HEAP_H
#define CHIP_HEAP_H

#include <stddef.h>
#include <stdint.h>

#include "esp_heap_caps.h"

typedef struct {
    size_t total;   // bytes that are free at first
    size_t largest; // of these, in one block; the rest is scattered in blocks of at most 1 KB
    uint32_t caps;  // MALLOC_CAP_*
} chip_heap_region;

// Forgets all blocks, whoever has them, and has the regions of a board after boot again.
void chip_heap_reset(void);

// Forgets all blocks and all regions.
void chip_heap_clear(void);

// Adds a region behind the others; returns 0, or -1 if there is no room for it.
int chip_heap_add(size_t total, size_t largest, uint32_t caps);

size_t chip_heap_regions(void);

// Bytes of a region that are free, in all and in the largest block, which is not rounded.
size_t chip_heap_free(size_t region);
size_t chip_heap_largest(size_t region);

// The region that a block lies in, or -1.
int chip_heap_region_of(const void *block);

// Blocks that are taken.
size_t chip_heap_blocks(void);

#endif

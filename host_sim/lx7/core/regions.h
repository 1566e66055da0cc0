// SPDX-License-Identifier: MIT
#ifndef LX7_REGIONS_H
#define LX7_REGIONS_H

#include "state.h"

// Mapped memory.

// Blocks of LX7_BLOCK bytes in a region.
static inline uint32_t lx7_blocks(uint32_t size) {
    return size / LX7_BLOCK + (size % LX7_BLOCK != 0);
}

static inline lx7_region *lx7_region_of_page(lx7_core *core, uint32_t address) {
    uint8_t number = core->pages[address >> LX7_PAGE_BITS];
    return number ? &core->regions[number - 1] : NULL;
}

// The region that holds all of [address, address + size), or NULL.
static inline lx7_region *lx7_region_at(lx7_core *core, uint32_t address, uint32_t size) {
    lx7_region *region = lx7_region_of_page(core, address);
    // region->base <= address, since a page belongs to one region.
    if (!region || address - region->base > region->size || size > region->size - (address - region->base)) {
        return NULL;
    }
    return region;
}

#endif

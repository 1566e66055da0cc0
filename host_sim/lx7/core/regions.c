// SPDX-License-Identifier: MIT
#include <stdlib.h>

#include "regions.h"

static uint32_t pages_of(uint32_t size) {
    return (uint32_t)(((uint64_t)size + LX7_PAGE_SIZE - 1) >> LX7_PAGE_BITS);
}

int32_t lx7_map(lx7_core *core, uint32_t address, uint8_t *data, uint32_t size, int32_t memory,
                int32_t writable, int32_t executable) {
    uint32_t first = address >> LX7_PAGE_BITS, count = pages_of(size);
    if (address & (LX7_PAGE_SIZE - 1) || size == 0 || count > LX7_PAGES - first || memory < 0 ||
        memory >= LX7_MEMORIES) {
        return -1;
    }
    for (uint32_t page = 0; page < count; page++) {
        if (core->pages[first + page]) {
            return -1;
        }
    }
    for (int n = 0; n < LX7_MAX_REGIONS; n++) {
        lx7_region *region = &core->regions[n];
        if (region->used) {
            continue;
        }
        lx7_insn **decoded = executable ? calloc(lx7_blocks(size), sizeof(*decoded)) : NULL;
        if (executable && !decoded) {
            return -1;
        }
        *region = (lx7_region){
            .data = data,
            .base = address,
            .size = size,
            .memory = (uint8_t)memory,
            .used = true,
            .writable = writable,
            .executable = executable,
            .decoded = decoded,
        };
        memset(core->pages + first, n + 1, count);
        return 0;
    }
    return -1;
}

static void forget_region(lx7_region *region) {
    for (uint32_t block = 0; region->decoded && block < lx7_blocks(region->size); block++) {
        free(region->decoded[block]);
        region->decoded[block] = NULL;
    }
}

int32_t lx7_unmap(lx7_core *core, uint32_t address) {
    lx7_region *region = lx7_region_of_page(core, address);
    if (!region || region->base != address) {
        return -1;
    }
    memset(core->pages + (address >> LX7_PAGE_BITS), 0, pages_of(region->size));
    forget_region(region);
    free(region->decoded);
    memset(region, 0, sizeof(*region));
    return 0;
}

void lx7_forget_code(lx7_core *core) {
    for (int n = 0; n < LX7_MAX_REGIONS; n++) {
        forget_region(&core->regions[n]);
    }
}

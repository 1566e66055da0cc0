// SPDX-License-Identifier: MIT
#include <stdlib.h>

#include "state.h"

static lx7_region *region_of_page(lx7_core *core, uint32_t address) {
    uint8_t number = core->pages[address >> LX7_PAGE_BITS];
    return number ? &core->regions[number - 1] : NULL;
}

lx7_region *lx7_region_at(lx7_core *core, uint32_t address, uint32_t size) {
    lx7_region *region = region_of_page(core, address);
    // region->base <= address, since pages belong to one region alone.
    if (!region || address - region->base > region->size || size > region->size - (address - region->base)) {
        return NULL;
    }
    return region;
}

static uint32_t pages_of(uint32_t size) {
    return (uint32_t)(((uint64_t)size + (1 << LX7_PAGE_BITS) - 1) >> LX7_PAGE_BITS);
}

int32_t lx7_map(lx7_core *core, uint32_t address, uint8_t *data, uint32_t size, int32_t memory,
                int32_t writable, int32_t executable) {
    uint32_t first = address >> LX7_PAGE_BITS, count = pages_of(size);
    if (address & ((1 << LX7_PAGE_BITS) - 1) || size == 0 || count > LX7_PAGES - first || memory < 0 ||
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
    lx7_region *region = region_of_page(core, address);
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

bool lx7_cache_make(lx7_cache *cache, lx7_cache_shape shape) {
    uint32_t line_bits = 0;
    while (line_bits < 31 && 1u << line_bits < shape.line) {
        line_bits++;
    }
    if (shape.line < 4 || 1u << line_bits != shape.line || shape.ways == 0 || shape.ways > 64 ||
        shape.size > 1u << 24 || shape.size < shape.line || shape.size % (shape.ways * shape.line)) {
        return false;
    }
    uint32_t sets = shape.size / (shape.ways * shape.line);
    if (sets & (sets - 1)) {
        return false;
    }
    lx7_line *lines = calloc((size_t)sets * shape.ways, sizeof(*lines));
    *cache = (lx7_cache){.ways = shape.ways, .sets = sets, .line_bits = line_bits, .lines = lines};
    return lines != NULL;
}

void lx7_cache_clear(lx7_cache *cache) {
    memset(cache->lines, 0, (size_t)cache->sets * cache->ways * sizeof(*cache->lines));
}

// lx7_touch for the calls here, which are many.
static uint64_t touch(lx7_core *core, lx7_cache *cache, uint32_t address, uint8_t memory, bool write,
                      uint64_t cost) {
    uint32_t number = address >> cache->line_bits;
    lx7_line *set = &cache->lines[(size_t)(number & (cache->sets - 1)) * cache->ways];
    lx7_line *victim = set;
    cache->clock++;
    for (uint32_t way = 0; way < cache->ways; way++) {
        if (set[way].tag == number + 1) {
            set[way].used = cache->clock;
            set[way].dirty |= write;
            return 0;
        }
        if (set[way].used < victim->used) {
            victim = &set[way];
        }
    }
    if (victim->tag && victim->dirty) {
        cost += core->timing.psram_write;
        core->totals.lines_written[victim->memory]++;
    }
    core->totals.lines_read[memory]++;
    *victim = (lx7_line){.tag = number + 1, .dirty = write, .memory = memory, .used = cache->clock};
    return cost;
}

uint64_t lx7_touch(lx7_core *core, lx7_cache *cache, uint32_t address, uint8_t memory, bool write,
                   uint64_t cost) {
    return touch(core, cache, address, memory, write, cost);
}

// touch() by the core at `now`, and the wait for a preload that uses the bus.
static uint64_t touch_at(lx7_core *core, lx7_cache *cache, uint32_t address, uint8_t memory, bool write,
                         uint64_t cost, uint64_t now) {
    return core->preload.busy ? lx7_touch_beside_preload(core, cache, address, memory, write, cost, now)
                              : touch(core, cache, address, memory, write, cost);
}

static void charge(lx7_core *core, const lx7_region *region, uint32_t address, uint32_t size, bool write) {
    uint8_t memory = region->memory;
    core->current->bytes[memory] += size;
    if (write) {
        core->totals.stores[memory]++;
        core->totals.bytes_stored[memory] += size;
        core->waiting += core->timing.store_extra;
        lx7_book(core, LX7_STALL_STORE, core->timing.store_extra);
    } else {
        core->totals.loads[memory]++;
        core->totals.bytes_loaded[memory] += size;
    }
    if (memory != LX7_SRAM) {
        uint64_t read = memory == LX7_FLASH ? core->timing.flash_read : core->timing.psram_read;
        uint64_t now = core->now + core->waiting;
        uint64_t cost = touch_at(core, &core->data_cache, address, memory, write, read, now);
        core->waiting += cost;
        lx7_book(core, LX7_STALL_CACHE, cost);
    }
}

void lx7_fetch_lines(lx7_core *core, const lx7_region *region, const lx7_insn *insn) {
    uint32_t last = core->pc + insn->length - 1, bits = core->instruction_cache.line_bits;
    uint8_t memory = region->memory;
    uint64_t read = memory == LX7_FLASH ? core->timing.flash_fetch : core->timing.psram_fetch, cost = 0;
    for (uint32_t address = core->pc;; address = last) {
        if (address >> bits != core->fetched_line) {
            core->fetched_line = address >> bits;
            cost += touch_at(core, &core->instruction_cache, address, memory, false, read, core->now + cost);
        }
        if (address == last) {
            break;
        }
    }
    core->now += cost;
    lx7_book(core, LX7_STALL_FETCH, cost);
}

void lx7_fault(lx7_core *core, lx7_reason reason, uint32_t address, uint32_t size) {
    core->fault_address = address;
    core->fault_size = size;
    lx7_stop_run(core, reason, NULL);
}

// The bytes of an access, a store's if there is something `stored`; NULL if nothing is to be done with them:
// the run stopped, or a register took what was stored. Aligned accesses never cross a page or a cache line.
static uint8_t *access_at(lx7_core *core, uint32_t address, uint32_t size, const void *stored) {
    if (address & (size - 1)) {
        lx7_fault(core, LX7_MISALIGNED, address, size);
        return NULL;
    }
    lx7_region *region = lx7_region_at(core, address, size);
    if (!region) {
        return lx7_register_at(core, address, size, stored);
    }
    if (stored && (region->executable || !region->writable)) {
        lx7_fault(core, region->executable ? LX7_CODE_WRITE : LX7_READ_ONLY, address, size);
        return NULL;
    }
    charge(core, region, address, size, stored);
    return region->data + (address - region->base);
}

// `narrow` casts a value to what is stored.
#define ACCESS(bits, type, value_type, narrow)                                                               \
    value_type lx7_load_##bits(lx7_core *core, uint32_t address) {                                           \
        type value;                                                                                          \
        memset(&value, 0, sizeof(value));                                                                    \
        const uint8_t *data = access_at(core, address, sizeof(value), NULL);                                 \
        if (data) {                                                                                          \
            memcpy(&value, data, sizeof(value));                                                             \
        }                                                                                                    \
        return value;                                                                                        \
    }                                                                                                        \
    void lx7_store_##bits(lx7_core *core, uint32_t address, value_type value) {                              \
        type stored = narrow value;                                                                          \
        uint8_t *data = access_at(core, address, sizeof(stored), &stored);                                   \
        if (data) {                                                                                          \
            memcpy(data, &stored, sizeof(stored));                                                           \
        }                                                                                                    \
    }

ACCESS(8, uint8_t, uint32_t, (uint8_t))
ACCESS(16, uint16_t, uint32_t, (uint16_t))
ACCESS(32, uint32_t, uint32_t, )
ACCESS(64, uint64_t, uint64_t, )
ACCESS(128, lx7_q, lx7_q, )

// SPDX-License-Identifier: MIT
#include <stdlib.h>

#include "internal.h"

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
        *region = (lx7_region){data, address, size, (uint8_t)memory, true, writable, executable, decoded};
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
    *cache = (lx7_cache){shape.ways, sets, line_bits, 0, lines};
    return lines != NULL;
}

void lx7_cache_clear(lx7_cache *cache) {
    memset(cache->lines, 0, (size_t)cache->sets * cache->ways * sizeof(*cache->lines));
}

// Have the line of `address` in the cache, which costs `cost` to read; returns what that took in 1/16 cycle.
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
    *victim = (lx7_line){number + 1, write, memory, cache->clock};
    return cost;
}

// Begin all lines of the preload whose turn has come before `now`: each when the one before has arrived, and
// a miss of the core that comes at the same time goes first. What a line costs, and who gets the bus, is
// assumed (timing.py). A line that is there takes no time.
void lx7_advance_preload(lx7_core *core, uint64_t now) {
    lx7_preload *preload = &core->preload;
    uint64_t read = preload->memory == LX7_FLASH ? core->timing.flash_read : core->timing.psram_read;
    while (preload->left && preload->bus_free < now) {
        uint32_t address = preload->next << core->data_cache.line_bits;
        uint64_t cost = touch(core, &core->data_cache, address, preload->memory, false, read);
        if (cost) {
            preload->coming = preload->next + 1;
            preload->bus_free += cost;
            core->totals.lines_preloaded[preload->memory]++;
        }
        preload->next += preload->step;
        preload->left--;
    }
    preload->busy = preload->left || preload->bus_free > now;
}

// What the core waits for an access at `now` that takes `cost` when the bus is free, 0 if the cache has the
// line: a line on its way is waited for by who wants it, and by a miss, which has only then its turn.
static uint64_t wait_for_bus(lx7_core *core, uint32_t line, uint64_t cost, uint64_t now) {
    lx7_preload *preload = &core->preload;
    uint64_t wait = preload->bus_free > now ? preload->bus_free - now : 0;
    if (!cost) {
        return preload->coming == line + 1 ? wait : 0;
    }
    preload->coming = 0;
    preload->bus_free = now + wait + cost;
    return wait + cost;
}

// As touch() of the data cache for the core itself, which a preload may be in the way of.
static uint64_t touch_data(lx7_core *core, uint32_t address, uint8_t memory, bool write) {
    uint64_t now = core->now + core->waiting;
    if (core->preload.busy) {
        lx7_advance_preload(core, now);
    }
    uint64_t read = memory == LX7_FLASH ? core->timing.flash_read : core->timing.psram_read;
    uint64_t cost = touch(core, &core->data_cache, address, memory, write, read);
    if (core->preload.busy) {
        return wait_for_bus(core, address >> core->data_cache.line_bits, cost, now);
    }
    return cost;
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
        uint64_t cost = touch_data(core, address, memory, write);
        core->waiting += cost;
        lx7_book(core, LX7_STALL_CACHE, cost);
    }
}

// As touch() of the instruction cache at `now`; both caches share the bus.
static uint64_t touch_code(lx7_core *core, uint32_t address, uint8_t memory, uint64_t now) {
    uint64_t read = memory == LX7_FLASH ? core->timing.flash_fetch : core->timing.psram_fetch;
    uint64_t cost = touch(core, &core->instruction_cache, address, memory, false, read);
    if (cost && core->preload.busy) {
        lx7_advance_preload(core, now);
        return wait_for_bus(core, 0, cost, now);
    }
    return cost;
}

void lx7_fetch_lines(lx7_core *core, const lx7_region *region, const lx7_insn *insn) {
    uint32_t last = core->pc + insn->length - 1, bits = core->instruction_cache.line_bits;
    uint64_t cost = 0;
    for (uint32_t address = core->pc;; address = last) {
        if (address >> bits != core->fetched_line) {
            core->fetched_line = address >> bits;
            cost += touch_code(core, address, region->memory, core->now + cost);
        }
        if (address == last) {
            break;
        }
    }
    core->now += cost;
    lx7_book(core, LX7_STALL_FETCH, cost);
}

static void fault(lx7_core *core, lx7_reason reason, uint32_t address, uint32_t size) {
    core->fault_address = address;
    core->fault_size = size;
    lx7_stop_run(core, reason, NULL);
}

// ENA was set at `now`: SIZE lines from the one that holds ADDR on, or down from it (that they begin there is
// assumed). A chip that cannot read them raises DCACHE_PRELOAD_OP_FAULT or MMU_ENTRY_FAULT, on which IDF
// panics (cache_err_int.c); beyond the size of the cache the ROM's header forbids them (rom/cache.h).
static void start_preload(lx7_core *core, uint64_t now) {
    lx7_preload *preload = &core->preload;
    const lx7_cache *cache = &core->data_cache;
    uint32_t line = preload->address >> cache->line_bits, count = preload->size;
    if (count == 0 || count > cache->sets * cache->ways) {
        lx7_stop_run(core, LX7_UNMEASURED,
                     count ? "a preload larger than the data cache" : "a preload of 0 lines");
        return;
    }
    bool down = preload->ctrl & LX7_PRELOAD_ORDER;
    uint32_t first = (down ? line - (count - 1) : line) << cache->line_bits;
    const lx7_region *region = lx7_region_at(core, first, ((count - 1) << cache->line_bits) + 1);
    if (!region || region->memory == LX7_SRAM || region->executable) {
        lx7_stop_run(core, LX7_ILLEGAL, "a preload of lines that are not all data in flash or PSRAM");
        return;
    }
    preload->memory = region->memory;
    preload->next = line;
    preload->step = down ? UINT32_MAX : 1;
    preload->left = count;
    preload->coming = 0;
    preload->bus_free = now;
    preload->busy = true;
}

// An access outside memory: to a register of the preload, or a fault. Returns what a load reads; NULL when a
// store is done or the run stopped. What an access costs beyond its instruction is unknown, and not charged.
static uint8_t *register_at(lx7_core *core, uint32_t address, uint32_t size, const void *stored) {
    lx7_preload *preload = &core->preload;
    uint32_t *registers[] = {&preload->ctrl, &preload->address, &preload->size};
    uint32_t offset = address - LX7_PRELOAD_REGISTERS;
    if (size != sizeof(uint32_t) || offset >= sizeof(uint32_t) * 3) {
        fault(core, LX7_NO_MEMORY, address, size);
        return NULL;
    }
    uint64_t now = core->now + core->waiting;
    if (preload->busy) {
        lx7_advance_preload(core, now);
    }
    if (!stored) {
        preload->ctrl &= LX7_PRELOAD_ORDER;
        preload->ctrl |= preload->busy ? LX7_PRELOAD_ENA : LX7_PRELOAD_DONE;
        return (uint8_t *)registers[offset / sizeof(uint32_t)];
    }
    if (preload->busy) {
        lx7_stop_run(core, LX7_UNMEASURED, "a store to a register of a preload that is not done");
        return NULL;
    }
    memcpy(registers[offset / sizeof(uint32_t)], stored, sizeof(uint32_t));
    preload->size &= LX7_PRELOAD_LINES;
    if (offset == 0 && preload->ctrl & LX7_PRELOAD_ENA) {
        start_preload(core, now);
    }
    return NULL;
}

// The bytes of an access, a store's if there is something `stored`; NULL if nothing is to be done with them:
// the run stopped, or a register took what was stored. Aligned accesses never cross a page or a cache line.
static uint8_t *access_at(lx7_core *core, uint32_t address, uint32_t size, const void *stored) {
    if (address & (size - 1)) {
        fault(core, LX7_MISALIGNED, address, size);
        return NULL;
    }
    lx7_region *region = lx7_region_at(core, address, size);
    if (!region) {
        return register_at(core, address, size, stored);
    }
    if (stored && (region->executable || !region->writable)) {
        fault(core, region->executable ? LX7_CODE_WRITE : LX7_READ_ONLY, address, size);
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

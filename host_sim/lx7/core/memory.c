// SPDX-License-Identifier: MIT
#include "memory.h"
#include "cache.h"
#include "preload.h"
#include "regions.h"

// lx7_touch by the core at `now`, with the wait for a preload that uses the bus.
static uint64_t touch_at(lx7_core *core, lx7_cache *cache, uint32_t address, uint8_t memory, bool write,
                         uint64_t cost, uint64_t now) {
    return core->preload.busy ? lx7_touch_beside_preload(core, cache, address, memory, write, cost, now)
                              : lx7_touch(core, cache, address, memory, write, cost);
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

// The bytes to access; a store if `stored` is not NULL. Returns NULL if the run stopped, or if a register
// took the stored value. Aligned accesses cross neither a page nor a cache line.
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

// `narrow` casts a value to the stored type.
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

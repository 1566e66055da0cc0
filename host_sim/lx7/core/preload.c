// SPDX-License-Identifier: MIT
// The data cache's manual preload: it loads lines from flash or PSRAM while the core computes.
// host_sim/lx7/timing.py says what is known of its timing and what is assumed. IDF: ESP-IDF's
// soc/esp32s3/extmem_reg.h and esp_rom's esp32s3/rom/cache.h; JX: registers observed on a chip (timing.py).
#include "preload.h"
#include "cache.h"
#include "regions.h"

// Begins every line that is due before `now`: when the previous line has arrived and no miss of the core
// holds the bus (assumed). A line already in the cache takes no time.
void lx7_advance_preload(lx7_core *core, uint64_t now) {
    lx7_preload *preload = &core->preload;
    uint64_t read = preload->memory == LX7_FLASH ? core->timing.flash_read : core->timing.psram_read;
    while (preload->left && preload->bus_free < now) {
        uint32_t address = preload->next << core->data_cache.line_bits;
        uint64_t cost = lx7_touch(core, &core->data_cache, address, preload->memory, false, read);
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

// An access to the line in transfer waits for it; so does a miss, which is served next (assumed).
uint64_t lx7_touch_beside_preload(lx7_core *core, lx7_cache *cache, uint32_t address, uint8_t memory,
                                  bool write, uint64_t cost, uint64_t now) {
    lx7_preload *preload = &core->preload;
    lx7_advance_preload(core, now);
    uint64_t taken = lx7_touch(core, cache, address, memory, write, cost);
    uint64_t wait = preload->bus_free > now ? preload->bus_free - now : 0;
    if (taken) {
        preload->bus_free = now + wait + taken;
        return wait + taken;
    }
    bool wanted = cache == &core->data_cache && preload->coming == (address >> cache->line_bits) + 1;
    return wanted ? wait : 0;
}

// ENA was set at `now`. SIZE counts lines (IDF; JX; the ROM's functions take bytes), at most as many as the
// cache has (IDF). The first line is the one that holds ADDR (assumed if ADDR is not its start). On lines
// that it cannot read, a chip raises DCACHE_PRELOAD_OP_FAULT or MMU_ENTRY_FAULT, and ESP-IDF panics
// (cache_err_int.c).
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
    if (!core->timing.preload) {
        return;
    }
    preload->memory = region->memory;
    preload->next = line;
    preload->step = down ? UINT32_MAX : 1;
    preload->left = count;
    preload->bus_free = now;
    preload->busy = true;
}

// CTRL reads ENA during a preload, then DONE (IDF; JX). The cost of a register access beyond its instruction
// is unknown and not charged.
uint8_t *lx7_register_at(lx7_core *core, uint32_t address, uint32_t size, const void *stored) {
    lx7_preload *preload = &core->preload;
    uint32_t *registers[] = {&preload->ctrl, &preload->address, &preload->size};
    uint32_t offset = address - LX7_PRELOAD_REGISTERS;
    if (size != sizeof(uint32_t) || offset >= sizeof(uint32_t) * 3) {
        lx7_fault(core, LX7_NO_MEMORY, address, size);
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

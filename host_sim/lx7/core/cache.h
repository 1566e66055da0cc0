// SPDX-License-Identifier: MIT
#ifndef LX7_CACHE_H
#define LX7_CACHE_H

#include "state.h"

// Caches with least-recently-used replacement.

// False if the shape is invalid or memory runs out.
bool lx7_cache_make(lx7_cache *cache, lx7_cache_shape shape);
void lx7_cache_clear(lx7_cache *cache);

// Looks up the line of `address` and loads it on a miss. Returns the time in 1/16 cycle: 0 on a hit, else
// `cost` and, for a dirty victim, the write-back.
static inline uint64_t lx7_touch(lx7_core *core, lx7_cache *cache, uint32_t address, uint8_t memory,
                                 bool write, uint64_t cost) {
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

#endif

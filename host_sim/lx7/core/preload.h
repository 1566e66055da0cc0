// SPDX-License-Identifier: MIT
#ifndef LX7_PRELOAD_H
#define LX7_PRELOAD_H

#include "state.h"

// preload.c, while a preload is busy: bring it to `now`, before anything else uses the data cache or the bus;
// and lx7_touch by the core at `now`, with the wait for the bus that both caches share.
void lx7_advance_preload(lx7_core *core, uint64_t now);
uint64_t lx7_touch_beside_preload(lx7_core *core, lx7_cache *cache, uint32_t address, uint8_t memory,
                                  bool write, uint64_t cost, uint64_t now);

// preload.c: an access outside memory, a store's if there is something `stored`. Returns the register that a
// load reads; NULL when a store is done or the run stopped.
uint8_t *lx7_register_at(lx7_core *core, uint32_t address, uint32_t size, const void *stored);

#endif

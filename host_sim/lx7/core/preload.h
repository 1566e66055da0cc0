// SPDX-License-Identifier: MIT
#ifndef LX7_PRELOAD_H
#define LX7_PRELOAD_H

#include "state.h"

// The data cache's manual preload.

// Brings a busy preload up to `now`. Call before anything else uses the data cache or the bus.
void lx7_advance_preload(lx7_core *core, uint64_t now);

// lx7_touch by the core at `now` while a preload is busy; the result includes the wait for the shared bus.
uint64_t lx7_touch_beside_preload(lx7_core *core, lx7_cache *cache, uint32_t address, uint8_t memory,
                                  bool write, uint64_t cost, uint64_t now);

// An access outside mapped memory; a store if `stored` is not NULL. Returns the register that a load reads;
// NULL after a store, or if the run stopped.
uint8_t *lx7_register_at(lx7_core *core, uint32_t address, uint32_t size, const void *stored);

#endif

// SPDX-License-Identifier: MIT
#ifndef LX7_WINDOWS_H
#define LX7_WINDOWS_H

#include "state.h"

// Register windows (ISA 4.7.1).

// Enters the handler at VECBASE + `vector` with WindowBase `base`.
void lx7_window_exception(lx7_core *core, uint32_t base, uint32_t vector);

static inline bool lx7_windows_on(const lx7_core *core) {
    return (core->ps & (LX7_PS_WOE | LX7_PS_EXCM)) == LX7_PS_WOE;
}

// lx7_window_overflow while windows are on.
bool lx7_spill_window(lx7_core *core, unsigned panes);

// Before an instruction that names registers of `panes` windows beyond the current one: if another frame owns
// one of them, enters the handler that spills it and returns true (ISA 4.7.1).
static inline bool lx7_window_overflow(lx7_core *core, unsigned panes) {
    return panes && lx7_windows_on(core) && lx7_spill_window(core, panes);
}

#endif

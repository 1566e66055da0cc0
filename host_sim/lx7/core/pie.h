// SPDX-License-Identifier: MIT
// What the files of PIE's semantics share. Each writes registers only when its memory access has succeeded;
// sources are read before any destination is written (TRM 1.8: fused loads see old registers).

#ifndef LX7_PIE_H
#define LX7_PIE_H

#include "state.h"

// Two destinations in one register: no manual says which one stays.
static inline bool lx7_apart(lx7_core *core, uint8_t a, uint8_t b) {
    if (a == b) {
        lx7_stop_run(core, LX7_UNMEASURED, "two destinations in one register");
        return false;
    }
    return true;
}

static inline lx7_q lx7_broadcast_8(uint32_t value) {
    lx7_q q;
    memset(&q, (int)value, sizeof(q));
    return q;
}

static inline lx7_q lx7_broadcast_16(uint32_t value) {
    lx7_q q;
    for (int n = 0; n < 8; n++) {
        q.uh[n] = (uint16_t)value;
    }
    return q;
}

// The 16 bytes of {high, low} from byte SAR_BYTE on.
lx7_q lx7_window(const lx7_core *core, uint8_t low, uint8_t high);

static inline int64_t lx7_clamp(int64_t value, int64_t low, int64_t high) {
    return value < low ? low : value > high ? high : value;
}

// Arithmetic shift without C's doubts about negative numbers; count < 64.
static inline int64_t lx7_shift_right(int64_t value, uint32_t count) {
    return value < 0 ? ~(~value >> count) : value >> count;
}

#endif

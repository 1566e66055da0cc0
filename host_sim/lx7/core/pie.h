// SPDX-License-Identifier: MIT
// What the files of PIE's semantics share. Each writes registers only when its memory access has succeeded;
// sources are read before any destination is written (TRM 1.8: fused loads see old registers).

#ifndef LX7_PIE_H
#define LX7_PIE_H

#include "semantics.h"

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

// pie_accumulators.c: QACC for lx7_get and lx7_set.
void lx7_get_qacc(const lx7_core *core, int32_t lanes[16]);
void lx7_set_qacc(lx7_core *core, const int32_t lanes[16]);

// Bytes of two registers as one row of 32, the low one first.

typedef struct {
    uint8_t bytes[64]; // 16 of zeros on either side
} lx7_bytes;

static inline lx7_bytes lx7_bytes_of(const lx7_core *core, uint8_t low, uint8_t high) {
    lx7_bytes r = {{0}};
    memcpy(r.bytes + 16, &core->q[low], 16);
    memcpy(r.bytes + 32, &core->q[high], 16);
    return r;
}

static inline lx7_q lx7_bytes_from(const lx7_bytes *r, int first) {
    lx7_q value;
    memcpy(&value, r->bytes + 16 + first, 16);
    return value;
}

// The 16 bytes of {high, low} from byte SAR_BYTE on.
static inline lx7_q lx7_window(const lx7_core *core, uint8_t low, uint8_t high) {
    lx7_bytes r = lx7_bytes_of(core, low, high);
    return lx7_bytes_from(&r, (int)core->sar_byte);
}

static inline int64_t lx7_clamp(int64_t value, int64_t low, int64_t high) {
    return value < low ? low : value > high ? high : value;
}

// Arithmetic shift without C's doubts about negative numbers; count < 64.
static inline int64_t lx7_shift_right(int64_t value, uint32_t count) {
    return value < 0 ? ~(~value >> count) : value >> count;
}

#endif

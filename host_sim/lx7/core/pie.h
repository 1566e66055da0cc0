// SPDX-License-Identifier: MIT
// Shared by the semantics of PIE. An instruction writes registers only after its memory access has succeeded,
// and reads all sources before it writes a destination (TRM 1.8: a fused load sees the old registers).

#ifndef LX7_PIE_H
#define LX7_PIE_H

#include "semantics.h"

// Stops the run if two destinations are the same register: no manual says which value is kept.
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

// QACC as 16 lanes of 20 bits.
void lx7_get_qacc(const lx7_core *core, int32_t lanes[16]);
void lx7_set_qacc(lx7_core *core, const int32_t lanes[16]);

// 32 bytes of two registers, the low register first.
typedef struct {
    uint8_t bytes[64]; // with 16 zeros before and after
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

// 16 bytes of {high, low}, starting at byte SAR_BYTE.
static inline lx7_q lx7_window(const lx7_core *core, uint8_t low, uint8_t high) {
    lx7_bytes r = lx7_bytes_of(core, low, high);
    return lx7_bytes_from(&r, (int)core->sar_byte);
}

static inline int64_t lx7_clamp(int64_t value, int64_t low, int64_t high) {
    return value < low ? low : value > high ? high : value;
}

// Arithmetic right shift (C leaves >> of negative numbers to the compiler); count < 64.
static inline int64_t lx7_shift_right(int64_t value, uint32_t count) {
    return value < 0 ? ~(~value >> count) : value >> count;
}

#endif

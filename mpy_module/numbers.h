// SPDX-License-Identifier: MIT
// The scalar rules of SPEC 1.

#ifndef TERNARY_NUMBERS_H
#define TERNARY_NUMBERS_H

#include "ternary.h"

static inline uint64_t ternary_ceil_div(uint64_t a, uint64_t b) {
    return (a + b - 1) / b;
}

// C leaves >> of negative numbers to the compiler; all compilers that MicroPython supports round down, as 1.1
// requires.
static inline int32_t ternary_shift_right(int32_t x, int32_t count) {
    return x >> count;
}

static inline int32_t ternary_max(int32_t a, int32_t b) {
    return a > b ? a : b;
}

static inline int32_t ternary_min(int32_t a, int32_t b) {
    return a < b ? a : b;
}

static inline size_t ternary_smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

static inline int8_t ternary_sat8(int32_t x) {
    return (int8_t)ternary_max(-128, ternary_min(127, x));
}

static inline int16_t ternary_sat16(int32_t x) {
    return (int16_t)ternary_max(-32768, ternary_min(32767, x));
}

static inline int32_t ternary_bits(uint32_t x) {
#ifdef __GNUC__
    return x ? 32 - __builtin_clz(x) : 0; // one instruction on the chip
#else
    int32_t count = 0;
    for (; x; x >>= 1) {
        count++;
    }
    return count;
#endif
}

// 7.3: h, from the sum of weights.
static inline int32_t ternary_halvings(int32_t sum) {
    return ternary_max(ternary_bits((uint32_t)sum) - 12, 0);
}

// Backends are faster on memory aligned to 16 bytes; scratch has this much room for aligning it.
enum { TERNARY_SLACK = TERNARY_LANES - 1 };

static inline void *ternary_aligned(const ternary_arg *scratch) {
    uintptr_t address = (uintptr_t)scratch->data;
    return (int8_t *)scratch->data + (-address & TERNARY_SLACK);
}

static inline size_t ternary_round_up(size_t count) {
    return (count + TERNARY_LANES - 1) / TERNARY_LANES * TERNARY_LANES;
}

#endif

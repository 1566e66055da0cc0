// SPDX-License-Identifier: MIT
// What SIMD backends share, and the choice of those that this machine can run.

#ifndef TERNARY_SIMD_H
#define TERNARY_SIMD_H

#include <string.h>

#include "backends.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

ALWAYS_INLINE int32_t word_of(const int8_t *x) {
    int32_t word;
    memcpy(&word, x, sizeof(word));
    return word;
}

// The last bytes of a row, 1 to 3, then zeros.
ALWAYS_INLINE int32_t tail_of(const int8_t *x, size_t count) {
    uint32_t word = (uint8_t)x[0];
    word |= count > 1 ? (uint32_t)(uint8_t)x[1] << 8 : 0;
    word |= count > 2 ? (uint32_t)(uint8_t)x[2] << 16 : 0;
    return (int32_t)word;
}

#endif

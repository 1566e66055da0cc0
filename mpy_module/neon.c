// SPDX-License-Identifier: MIT
// The backend for AArch64 without dot products: bytes to 16 bits, 16 bits to 32.

#include "backends.h"

#ifdef TERNARY_NEON

#include <arm_neon.h>
#include <string.h>

#include "numbers.h"

#pragma GCC optimize("O3")

#include "neon.h"

#define ROWS 2
enum { ROWS_1 = 2 };

static bool usable(void) {
    return true; // every AArch64 has it
}

// Trits times x: 16 bits hold 255 of them.
enum { GROUPS_OF_16_BITS = 255 };

ALWAYS_INLINE void add_pairs(sums16 *sums, int16x8_t words[8]) {
    UNROLL
    for (size_t i = 0; i < 4; i++) {
        int32x4_t low = vpaddlq_s16(words[2 * i]), high = vpaddlq_s16(words[2 * i + 1]);
        sums->quarter[i] = vaddq_s32(sums->quarter[i], vpaddq_s32(low, high));
    }
}

// Four k of 16 lanes: words[i] has lanes 2 i and 2 i + 1, four words each.
ALWAYS_INLINE void linear_group(int16x8_t words[ROWS][8], const int8_t *x, size_t x_stride,
                                const int8_t *panel, size_t tail, size_t rows) {
    UNROLL
    for (size_t i = 0; i < rows; i++) {
        int8x8_t four = vget_low_s8(four_of(x + i * x_stride, tail));
        UNROLL
        for (size_t j = 0; j < 8; j++) {
            words[i][j] = vmlal_s8(words[i][j], vld1_s8(panel + 8 * j), four);
        }
    }
}

ALWAYS_INLINE void any_group(sums16 sums[ROWS][TILES], const int8_t *x, size_t x_stride, const int8_t *panel,
                             size_t tail, size_t rows) {
    UNROLL
    for (size_t i = 0; i < rows; i++) {
        int8x8_t four = vget_low_s8(four_of(x + i * x_stride, tail));
        int16x8_t words[8];
        UNROLL
        for (size_t j = 0; j < 8; j++) {
            words[j] = vmull_s8(vld1_s8(panel + 8 * j), four);
        }
        add_pairs(&sums[i][0], words);
    }
}

ALWAYS_INLINE void dot_block(sums16 sums[ROWS][TILES], const int8_t *x, size_t x_stride, const int8_t *panels,
                             size_t panel_stride, size_t depth, size_t rows, size_t tiles, purpose to) {
    (void)panel_stride;
    (void)tiles;
    for (size_t k = 0; k < depth && to != LINEAR; k += 4) {
        any_group(sums, x + k, x_stride, panels + k * TERNARY_LANES, k + 4 > depth ? depth - k : 0, rows);
    }
    for (size_t k = 0; k < depth && to == LINEAR;) {
        int16x8_t words[ROWS][8];
        UNROLL
        for (size_t i = 0; i < rows; i++) {
            UNROLL
            for (size_t j = 0; j < 8; j++) {
                words[i][j] = vdupq_n_s16(0);
            }
        }
        size_t end = ternary_smaller(k + 4 * GROUPS_OF_16_BITS, depth);
        for (; k + 4 <= end; k += 4) {
            linear_group(words, x + k, x_stride, panels + k * TERNARY_LANES, 0, rows);
        }
        if (k < end) {
            linear_group(words, x + k, x_stride, panels + k * TERNARY_LANES, end - k, rows);
            k = end;
        }
        UNROLL
        for (size_t i = 0; i < rows; i++) {
            add_pairs(&sums[i][0], words[i]);
        }
    }
}

#include "dot.h"

DOT_BACKEND(ternary_neon, "neon");

#endif

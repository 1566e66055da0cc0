// SPDX-License-Identifier: MIT
// The backend for AArch64 with dot products (Armv8.2; Raspberry Pi 5, Apple silicon).

#include "backends.h"

#ifdef TERNARY_NEON

#include <arm_neon.h>
#include <string.h>
#ifdef __linux__
#include <sys/auxv.h>
#endif

#include "numbers.h"

static bool usable(void) {
#ifdef __linux__
    enum { DOT_PRODUCTS = 1 << 20 }; // HWCAP_ASIMDDP
    return getauxval(AT_HWCAP) & DOT_PRODUCTS;
#elif defined(__APPLE__)
    return true;
#else
    return false;
#endif
}

#pragma GCC optimize("O3")
#pragma GCC target("arch=armv8.2-a+dotprod")

#include "neon.h"

#define ROWS 6
enum { ROWS_1 = 6 };

ALWAYS_INLINE void dot_group(sums16 sums[ROWS][TILES], const int8_t *x, size_t x_stride, const int8_t *panel,
                             size_t tail, size_t rows) {
    int8x16_t part[4] = {load_bytes(panel), load_bytes(panel + 16), load_bytes(panel + 32),
                         load_bytes(panel + 48)};
    UNROLL
    for (size_t i = 0; i < rows; i++) {
        int8x16_t four = four_of(x + i * x_stride, tail);
        UNROLL
        for (size_t j = 0; j < 4; j++) {
            sums[i][0].quarter[j] = vdotq_s32(sums[i][0].quarter[j], part[j], four);
        }
    }
}

ALWAYS_INLINE void dot_block(sums16 sums[ROWS][TILES], const int8_t *x, size_t x_stride, const int8_t *panels,
                             size_t panel_stride, size_t depth, size_t rows, size_t tiles, purpose to) {
    (void)panel_stride;
    (void)tiles;
    (void)to;
    const size_t whole = depth - depth % 4;
    for (size_t k = 0; k < whole; k += 4) {
        dot_group(sums, x + k, x_stride, panels + k * TERNARY_LANES, 0, rows);
    }
    if (whole < depth) {
        dot_group(sums, x + whole, x_stride, panels + whole * TERNARY_LANES, depth - whole, rows);
    }
}

#include "dot.h"

DOT_BACKEND(ternary_neon_dot, "neon_dot");

#endif

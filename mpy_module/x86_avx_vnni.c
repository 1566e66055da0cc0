// SPDX-License-Identifier: MIT
// The backend for x86-64 with AVX-VNNI, the instructions of VNNI without AVX-512.

#include "backends.h"

#ifdef TERNARY_X86

#include <immintrin.h>
#include <string.h>

#include "numbers.h"

static bool usable(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("avxvnni");
}

#pragma GCC optimize("O3")
#pragma GCC target("avx2,avxvnni")

#include "x86_256.h"

enum { KEY_OFFSET = 128 };

// sums += bytes of `plus`, unsigned, times bytes of `minus`, signed.
ALWAYS_INLINE void dot(__m256i *sums, __m256i plus, __m256i minus) {
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(*sums) : "x"(plus), "x"(minus));
}

ALWAYS_INLINE void dot_group(sums16 sums[ROWS][TILES], const int8_t *x, size_t x_stride, const int8_t *panel,
                             size_t tail, size_t rows, purpose to) {
    __m256i part[2] = {load32(panel), load32(panel + 32)};
    UNROLL
    for (size_t i = 0; i < rows; i++) {
        __m256i four = four_of(x + i * x_stride, tail);
        UNROLL
        for (size_t half = 0; half < 2; half++) {
            if (to == VALUES) {
                dot(&sums[i][0].half[half], four, part[half]);
            } else {
                dot(&sums[i][0].half[half], part[half], four);
            }
        }
    }
}

ALWAYS_INLINE void dot_block(sums16 sums[ROWS][TILES], const int8_t *x, size_t x_stride, const int8_t *panels,
                             size_t panel_stride, size_t depth, size_t rows, size_t tiles, purpose to) {
    (void)panel_stride;
    (void)tiles;
    const size_t whole = depth - depth % 4;
    for (size_t k = 0; k < whole; k += 4) {
        dot_group(sums, x + k, x_stride, panels + k * TERNARY_LANES, 0, rows, to);
    }
    if (whole < depth) {
        dot_group(sums, x + whole, x_stride, panels + whole * TERNARY_LANES, depth - whole, rows, to);
    }
}

#include "dot.h"

#define SOFTMAX softmax
#define LOOKUP lookup
DOT_BACKEND(ternary_avx_vnni, "avx_vnni");

#endif

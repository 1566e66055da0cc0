// SPDX-License-Identifier: MIT
// The backend for x86-64 with AVX2.

#include "backends.h"

#ifdef TERNARY_X86

#include <immintrin.h>
#include <string.h>

#include "numbers.h"

static bool usable(void) {
    return __builtin_cpu_supports("avx2");
}

#pragma GCC optimize("O3")
#pragma GCC target("avx2")

#include "x86_256.h"

enum { KEY_OFFSET = 0 };

// Digits 0..2 times x, in pairs, are at most 512: 16 bits hold 63 of them.
enum { GROUPS_OF_16_BITS = 63 };

ALWAYS_INLINE void linear_group(__m256i words[ROWS][2], const int8_t *x, size_t x_stride, const int8_t *panel,
                                size_t tail, size_t rows) {
    __m256i low = load32(panel), high = load32(panel + 32);
    UNROLL
    for (size_t i = 0; i < rows; i++) {
        __m256i four = four_of(x + i * x_stride, tail);
        words[i][0] = _mm256_add_epi16(words[i][0], _mm256_maddubs_epi16(low, four));
        words[i][1] = _mm256_add_epi16(words[i][1], _mm256_maddubs_epi16(high, four));
    }
}

ALWAYS_INLINE void linear_block(sums16 sums[ROWS][TILES], const int8_t *x, size_t x_stride,
                                const int8_t *panel, size_t depth, size_t rows) {
    const __m256i pairs = _mm256_set1_epi16(1);
    for (size_t k = 0; k < depth;) {
        __m256i words[ROWS][2];
        UNROLL
        for (size_t i = 0; i < rows; i++) {
            words[i][0] = words[i][1] = _mm256_setzero_si256();
        }
        size_t end = ternary_smaller(k + 4 * GROUPS_OF_16_BITS, depth);
        for (; k + 4 <= end; k += 4) {
            linear_group(words, x + k, x_stride, panel + k * TERNARY_LANES, 0, rows);
        }
        if (k < end) {
            linear_group(words, x + k, x_stride, panel + k * TERNARY_LANES, end - k, rows);
            k = end;
        }
        UNROLL
        for (size_t i = 0; i < rows; i++) {
            UNROLL
            for (size_t half = 0; half < 2; half++) {
                __m256i more = _mm256_madd_epi16(words[i][half], pairs);
                sums[i][0].half[half] = _mm256_add_epi32(sums[i][0].half[half], more);
            }
        }
    }
}

// Weights of 7.3 are no less than 0: pairs of products fit 16 bits.
ALWAYS_INLINE void values_group(sums16 sums[ROWS][TILES], const int8_t *x, size_t x_stride,
                                const int8_t *panel, size_t tail, size_t rows) {
    const __m256i pairs = _mm256_set1_epi16(1);
    __m256i part[2] = {load32(panel), load32(panel + 32)};
    UNROLL
    for (size_t i = 0; i < rows; i++) {
        __m256i four = four_of(x + i * x_stride, tail);
        UNROLL
        for (size_t half = 0; half < 2; half++) {
            __m256i more = _mm256_madd_epi16(_mm256_maddubs_epi16(four, part[half]), pairs);
            sums[i][0].half[half] = _mm256_add_epi32(sums[i][0].half[half], more);
        }
    }
}

// Any bytes times any bytes: 16 bits each, four lanes at a time, whose pairs are added at the end.
ALWAYS_INLINE void scores_group(__m256i sums[ROWS], const int8_t *x, size_t x_stride, const int8_t *panel,
                                size_t tail, size_t rows) {
    __m256i keys = _mm256_cvtepi8_epi16(load_bytes(panel));
    UNROLL
    for (size_t i = 0; i < rows; i++) {
        const int8_t *at = x + i * x_stride;
        __m128i four = _mm_set1_epi32(tail ? tail_of(at, tail) : word_of(at));
        sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(keys, _mm256_cvtepi8_epi16(four)));
    }
}

ALWAYS_INLINE void scores_block(sums16 sums[ROWS][TILES], const int8_t *x, size_t x_stride,
                                const int8_t *panel, size_t depth, size_t rows) {
    const size_t whole = depth - depth % 4;
    int32_t all[ROWS][TERNARY_LANES];
    UNROLL
    for (size_t quarter = 0; quarter < 4; quarter++) {
        __m256i pairs[ROWS];
        UNROLL
        for (size_t i = 0; i < rows; i++) {
            pairs[i] = _mm256_setzero_si256();
        }
        const int8_t *keys = panel + quarter * 16;
        for (size_t k = 0; k < whole; k += 4) {
            scores_group(pairs, x + k, x_stride, keys + k * TERNARY_LANES, 0, rows);
        }
        if (whole < depth) {
            scores_group(pairs, x + whole, x_stride, keys + whole * TERNARY_LANES, depth - whole, rows);
        }
        UNROLL
        for (size_t i = 0; i < rows; i++) {
            __m128i low = _mm256_castsi256_si128(pairs[i]), high = _mm256_extracti128_si256(pairs[i], 1);
            _mm_storeu_si128((__m128i *)(all[i] + 4 * quarter), _mm_hadd_epi32(low, high));
        }
    }
    UNROLL
    for (size_t i = 0; i < rows; i++) {
        sums[i][0] = sums_of(all[i], 0);
    }
}

ALWAYS_INLINE void dot_block(sums16 sums[ROWS][TILES], const int8_t *x, size_t x_stride, const int8_t *panels,
                             size_t panel_stride, size_t depth, size_t rows, size_t tiles, purpose to) {
    (void)panel_stride;
    (void)tiles;
    if (to == LINEAR) {
        linear_block(sums, x, x_stride, panels, depth, rows);
        return;
    }
    if (to == SCORES) {
        scores_block(sums, x, x_stride, panels, depth, rows);
        return;
    }
    const size_t whole = depth - depth % 4;
    for (size_t k = 0; k < whole; k += 4) {
        values_group(sums, x + k, x_stride, panels + k * TERNARY_LANES, 0, rows);
    }
    if (whole < depth) {
        values_group(sums, x + whole, x_stride, panels + whole * TERNARY_LANES, depth - whole, rows);
    }
}

#include "dot.h"

#define SOFTMAX softmax
#define LOOKUP lookup
DOT_BACKEND(ternary_avx2, "avx2");

#endif

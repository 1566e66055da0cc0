// SPDX-License-Identifier: MIT
// What the backends of x86-64 with registers of 256 bits share.

#ifndef TERNARY_X86_256_H
#define TERNARY_X86_256_H

#include "x86.h"

#define TILES 1
#define ROWS 6
enum { ROWS_1 = 6 };

typedef struct {
    __m256i half[2]; // lanes 0-7, 8-15
} sums16;

ALWAYS_INLINE sums16 same_sums(int32_t value) {
    return (sums16){{_mm256_set1_epi32(value), _mm256_set1_epi32(value)}};
}

ALWAYS_INLINE __m256i load32(const void *from) {
    return _mm256_loadu_si256((const __m256i *)from);
}

ALWAYS_INLINE sums16 sums_of(const int32_t *start, int32_t more) {
    __m256i all = _mm256_set1_epi32(more);
    return (sums16){{_mm256_add_epi32(load32(start), all), _mm256_add_epi32(load32(start + 8), all)}};
}

ALWAYS_INLINE bytes16 shifted(sums16 sums, int32_t shift) {
    __m128i count = _mm_cvtsi32_si128(shift);
    __m256i low = _mm256_sra_epi32(sums.half[0], count), high = _mm256_sra_epi32(sums.half[1], count);
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
    return _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

static int32_t sum_of_lanes(__m256i v) {
    __m128i total = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    total = _mm_add_epi32(total, _mm_srli_si128(total, 8));
    return _mm_cvtsi128_si32(_mm_add_epi32(total, _mm_srli_si128(total, 4)));
}

static int32_t row_sum(const int8_t *x, size_t depth) {
    const __m256i ones = _mm256_set1_epi8(1), pairs = _mm256_set1_epi16(1);
    __m256i total = _mm256_setzero_si256();
    size_t k = 0;
    for (; k + 32 <= depth; k += 32) {
        __m256i words = _mm256_maddubs_epi16(ones, load32(x + k));
        total = _mm256_add_epi32(total, _mm256_madd_epi16(words, pairs));
    }
    int32_t sum = sum_of_lanes(total);
    for (; k < depth; k++) {
        sum += x[k];
    }
    return sum;
}

// Four bytes of x in all lanes; `tail`: how many, if less than 4.
ALWAYS_INLINE __m256i four_of(const int8_t *x, size_t tail) {
    return _mm256_set1_epi32(tail ? tail_of(x, tail) : word_of(x));
}

#endif

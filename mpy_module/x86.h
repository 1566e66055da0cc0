// SPDX-License-Identifier: MIT
// What the backends of x86-64 share: 16 bytes in an SSE register. Include after the choice of instructions.

#ifndef TERNARY_X86_H
#define TERNARY_X86_H

#include "loops.h"
#include "simd.h"

typedef __m128i bytes16;
typedef enum { LINEAR, SCORES, VALUES } purpose; // what becomes of the sums

enum { WEIGHT_OFFSET = 1 }; // digits, not trits: one operand of the instructions is unsigned

ALWAYS_INLINE bytes16 load_bytes(const int8_t *from) {
    return _mm_loadu_si128((const __m128i *)from);
}

ALWAYS_INLINE void store_bytes(int8_t *to, bytes16 v) {
    _mm_storeu_si128((__m128i *)to, v);
}

ALWAYS_INLINE bytes16 same_bytes(int8_t value) {
    return _mm_set1_epi8(value);
}

// 2.3: digit i is 1 from 86 on (86 * 3 = 258), 2 from 171 on.
ALWAYS_INLINE void digits(bytes16 packed, bytes16 rows[5]) {
    UNROLL
    for (size_t i = 0; i < 5; i++) {
        bytes16 one = _mm_cmpeq_epi8(_mm_max_epu8(packed, _mm_set1_epi8(86)), packed);
        bytes16 two = _mm_cmpeq_epi8(_mm_max_epu8(packed, _mm_set1_epi8((char)171)), packed);
        rows[i] = _mm_sub_epi8(_mm_setzero_si128(), _mm_add_epi8(one, two));
        packed = _mm_add_epi8(packed, _mm_add_epi8(packed, packed));
    }
}

ALWAYS_INLINE bytes16 minus_offset(bytes16 digit) {
    return _mm_sub_epi8(digit, _mm_set1_epi8(1));
}

ALWAYS_INLINE void interleave(bytes16 a, bytes16 b, bytes16 c, bytes16 d, int8_t *panel) {
    bytes16 ab = _mm_unpacklo_epi8(a, b), cd = _mm_unpacklo_epi8(c, d);
    store_bytes(panel, _mm_unpacklo_epi16(ab, cd));
    store_bytes(panel + 16, _mm_unpackhi_epi16(ab, cd));
    ab = _mm_unpackhi_epi8(a, b), cd = _mm_unpackhi_epi8(c, d);
    store_bytes(panel + 32, _mm_unpacklo_epi16(ab, cd));
    store_bytes(panel + 48, _mm_unpackhi_epi16(ab, cd));
}

ALWAYS_INLINE bytes16 scaled(bytes16 v, bytes16 multiplier) {
    __m256i product = _mm256_mullo_epi16(_mm256_cvtepi8_epi16(v), _mm256_cvtepi8_epi16(multiplier));
    product = _mm256_srai_epi16(product, 7);
    return _mm_packs_epi16(_mm256_castsi256_si128(product), _mm256_extracti128_si256(product, 1));
}

// 6.5, 6.6. Sums of pairs of products with zeros between are products of 32 bits; x - mean and u + beta
// saturate.
static void norm_x86(const ternary_norm *row, const int16_t *x, int8_t *y) {
    const __m256i mean = _mm256_set1_epi16((int16_t)row->mean), none = _mm256_setzero_si256();
    const __m256i factor = _mm256_set1_epi16((int16_t)row->factor);
    const __m128i shift = _mm_cvtsi32_si128(row->shift);
    size_t i = 0;
    for (; i + 16 <= row->width; i += 16) {
        __m256i e = _mm256_subs_epi16(_mm256_loadu_si256((const __m256i *)(x + i)), mean);
        __m256i gamma = _mm256_loadu_si256((const __m256i *)(row->gamma + i));
        __m256i gain = _mm256_mullo_epi16(gamma, factor); // below 2^15
        __m256i low = _mm256_madd_epi16(_mm256_unpacklo_epi16(e, none), _mm256_unpacklo_epi16(gain, none));
        __m256i high = _mm256_madd_epi16(_mm256_unpackhi_epi16(e, none), _mm256_unpackhi_epi16(gain, none));
        __m256i u = _mm256_packs_epi32(_mm256_sra_epi32(low, shift), _mm256_sra_epi32(high, shift));
        u = _mm256_adds_epi16(u, _mm256_loadu_si256((const __m256i *)(row->beta + i)));
        u = _mm256_srai_epi16(u, 8);
        store_bytes(y + i, _mm_packs_epi16(_mm256_castsi256_si128(u), _mm256_extracti128_si256(u, 1)));
    }
    norm_rest(row, x, y, i);
}

#define NORM norm_x86

#endif

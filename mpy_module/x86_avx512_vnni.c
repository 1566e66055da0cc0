// SPDX-License-Identifier: MIT
// The backend for x86-64 with AVX-512 VNNI and VBMI (Ice Lake, Zen 4 and later).

#include "backends.h"

#ifdef TERNARY_X86

#include <immintrin.h>
#include <string.h>

#include "numbers.h"

static bool usable(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi") &&
           __builtin_cpu_supports("bmi2");
}

#pragma GCC optimize("O3")
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,bmi2,prefer-vector-width=512")

#include "x86.h"

#define TILES 4
#define ROWS 12
enum { ROWS_4 = 6, ROWS_2 = 12, ROWS_1 = 12, KEY_OFFSET = 128 };

typedef __m512i sums16;

ALWAYS_INLINE sums16 same_sums(int32_t value) {
    return _mm512_set1_epi32(value);
}

ALWAYS_INLINE sums16 sums_of(const int32_t *start, int32_t more) {
    return _mm512_add_epi32(_mm512_loadu_si512(start), same_sums(more));
}

ALWAYS_INLINE bytes16 shifted(sums16 sums, int32_t shift) {
    return _mm512_cvtsepi32_epi8(_mm512_sra_epi32(sums, _mm_cvtsi32_si128(shift)));
}

// sums += bytes of `plus`, unsigned, times bytes of `minus`, signed. Not by its intrinsic, for which
// compilers copy the sums.
ALWAYS_INLINE void dot(sums16 *sums, __m512i plus, __m512i minus) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sums) : "v"(plus), "v"(minus));
}

ALWAYS_INLINE void dot_group(sums16 sums[ROWS][TILES], const int8_t *x, size_t x_stride, const int8_t *panels,
                             size_t panel_stride, size_t tail, size_t rows, size_t tiles, purpose to) {
    __m512i panel[TILES];
    UNROLL
    for (size_t t = 0; t < tiles; t++) {
        panel[t] = _mm512_loadu_si512(panels + t * panel_stride);
    }
    UNROLL
    for (size_t i = 0; i < rows; i++) {
        const int8_t *at = x + i * x_stride;
        __m512i four = _mm512_set1_epi32(tail ? tail_of(at, tail) : word_of(at));
        UNROLL
        for (size_t t = 0; t < tiles; t++) {
            if (to == VALUES) {
                dot(&sums[i][t], four, panel[t]);
            } else {
                dot(&sums[i][t], panel[t], four);
            }
        }
    }
}

ALWAYS_INLINE void dot_block(sums16 sums[ROWS][TILES], const int8_t *x, size_t x_stride, const int8_t *panels,
                             size_t panel_stride, size_t depth, size_t rows, size_t tiles, purpose to) {
    for (size_t group = 0; group < depth / 4; group++) {
        dot_group(sums, x + group * 4, x_stride, panels + group * 64, panel_stride, 0, rows, tiles, to);
    }
    if (depth % 4) {
        size_t whole = depth / 4;
        dot_group(sums, x + whole * 4, x_stride, panels + whole * 64, panel_stride, depth % 4, rows, tiles,
                  to);
    }
}

static int32_t row_sum(const int8_t *x, size_t depth) {
    __m512i total = _mm512_setzero_si512();
    size_t k = 0;
    for (; k + 64 <= depth; k += 64) {
        total = _mm512_dpbusd_epi32(total, _mm512_set1_epi8(1), _mm512_loadu_si512(x + k));
    }
    __mmask64 rest = _bzhi_u64(~0ull, (unsigned)(depth - k));
    total = _mm512_dpbusd_epi32(total, _mm512_set1_epi8(1), _mm512_maskz_loadu_epi8(rest, x + k));
    return _mm512_reduce_add_epi32(total);
}

// Digit i of vector v, lane l, to row 5 v + i: 64 bytes at a time, of which come five groups of four rows. Of
// the four digits of a group, two and two are picked from two registers.
static void unpack_avx512(const uint8_t *packed, size_t depth, int8_t *panel) {
    static const uint32_t vectors_of[5] = {0x00000000, 0x10101000, 0x20201010, 0x30202020, 0x30303030};
    const size_t bytes = (depth + 4) / 5 * TERNARY_LANES;
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i each = _mm512_mullo_epi32(lane, _mm512_set1_epi32(0x01010101));
    const __m512i base = _mm512_or_si512(each, _mm512_set1_epi32(0x40004000));
    __m512i index[5];
    UNROLL
    for (size_t i = 0; i < 5; i++) {
        index[i] = _mm512_add_epi32(base, _mm512_set1_epi32((int32_t)vectors_of[i]));
    }
    for (size_t at = 0, k = 0; k < depth; at += 64) {
        __mmask64 here = bytes - at < 64 ? _bzhi_u64(~0ull, (unsigned)(bytes - at)) : ~0ull;
        __m512i power = _mm512_maskz_loadu_epi8(here, packed + at), digit[5];
        UNROLL
        for (size_t i = 0; i < 5; i++) {
            __mmask64 one = _mm512_cmpge_epu8_mask(power, _mm512_set1_epi8(86));
            __mmask64 two = _mm512_cmpge_epu8_mask(power, _mm512_set1_epi8((char)171));
            digit[i] = _mm512_maskz_set1_epi8(one, 1);
            digit[i] = _mm512_mask_mov_epi8(digit[i], two, _mm512_set1_epi8(2));
            power = _mm512_add_epi8(power, _mm512_add_epi8(power, power));
        }
        UNROLL
        for (size_t group = 0; group < 5; group++, k += 4) {
            if (k < depth) {
                const size_t i = 4 * group;
                __m512i a = _mm512_permutex2var_epi8(digit[i % 5], index[group], digit[(i + 1) % 5]);
                __m512i b = _mm512_permutex2var_epi8(digit[(i + 2) % 5], index[group], digit[(i + 3) % 5]);
                _mm512_storeu_si512(panel + k * TERNARY_LANES,
                                    _mm512_mask_blend_epi8(0xccccccccccccccccull, a, b));
            }
        }
    }
}

#define UNPACK unpack_avx512
#include "dot.h"

// A table of 256 bytes in four registers.
typedef struct {
    __m512i part[4];
} table256;

ALWAYS_INLINE table256 table_of(const int8_t *table) {
    table256 t;
    UNROLL
    for (size_t i = 0; i < 4; i++) {
        t.part[i] = _mm512_loadu_si512(table + i * 64);
    }
    return t;
}

ALWAYS_INLINE __m512i look(table256 t, __m512i index) {
    __m512i low = _mm512_permutex2var_epi8(t.part[0], index, t.part[1]);
    __m512i high = _mm512_permutex2var_epi8(t.part[2], index, t.part[3]);
    return _mm512_mask_blend_epi8(_mm512_movepi8_mask(index), low, high);
}

static void lookup_avx512(const int8_t *x, size_t count, const int8_t *table, int8_t *out) {
    const table256 t = table_of(table);
    const __m512i sign = _mm512_set1_epi8(-128);
    size_t i = 0;
    for (; i + 64 <= count; i += 64) {
        _mm512_storeu_si512(out + i, look(t, _mm512_xor_si512(_mm512_loadu_si512(x + i), sign)));
    }
    if (i < count) {
        __mmask64 rest = _bzhi_u64(~0ull, (unsigned)(count - i));
        __m512i v = look(t, _mm512_xor_si512(_mm512_maskz_loadu_epi8(rest, x + i), sign));
        _mm512_mask_storeu_epi8(out + i, rest, v);
    }
}

// 7.2, 7.3 for a row.
ALWAYS_INLINE int32_t softmax_512(const int8_t *row, size_t tokens, table256 t, int8_t *weights) {
    const __m512i ones = _mm512_set1_epi8(1), least = _mm512_set1_epi8(-128);
    const __mmask64 rest = _bzhi_u64(~0ull, (unsigned)(tokens % 64));
    const size_t whole = tokens - tokens % 64;
    __m512i top = _mm512_mask_loadu_epi8(least, rest, row + whole);
    for (size_t j = 0; j < whole; j += 64) {
        top = _mm512_max_epi8(top, _mm512_loadu_si512(row + j));
    }
    __m256i top32 = _mm256_max_epi8(_mm512_castsi512_si256(top), _mm512_extracti64x4_epi64(top, 1));
    __m128i top16 = _mm_max_epi8(_mm256_castsi256_si128(top32), _mm256_extracti128_si256(top32, 1));
    top16 = _mm_max_epi8(top16, _mm_srli_si128(top16, 8));
    top16 = _mm_max_epi8(top16, _mm_srli_si128(top16, 4));
    top16 = _mm_max_epi8(top16, _mm_srli_si128(top16, 2));
    top16 = _mm_max_epi8(top16, _mm_srli_si128(top16, 1));
    top = _mm512_broadcastb_epi8(top16);
    __m512i total = _mm512_setzero_si512();
    for (size_t j = 0; j < whole; j += 64) {
        __m512i w = look(t, _mm512_sub_epi8(top, _mm512_loadu_si512(row + j)));
        total = _mm512_dpbusd_epi32(total, w, ones);
        _mm512_storeu_si512(weights + j, w);
    }
    if (rest) {
        __m512i w = look(t, _mm512_sub_epi8(top, _mm512_maskz_loadu_epi8(rest, row + whole)));
        w = _mm512_maskz_mov_epi8(rest, w);
        total = _mm512_dpbusd_epi32(total, w, ones);
        _mm512_mask_storeu_epi8(weights + whole, rest, w);
    }
    int32_t sum = _mm512_reduce_add_epi32(total), halvings = ternary_halvings(sum);
    if (halvings == 0) {
        return sum;
    }
    // Bytes 0..127 shifted within 16 bits; what comes from the byte above is masked.
    const __m512i kept = _mm512_set1_epi8((char)(127 >> halvings));
    const __m128i count = _mm_cvtsi32_si128(halvings);
    total = _mm512_setzero_si512();
    for (size_t j = 0; j < tokens; j += 64) {
        __mmask64 part = j < whole ? ~0ull : rest;
        __m512i w = _mm512_srl_epi16(_mm512_maskz_loadu_epi8(part, weights + j), count);
        w = _mm512_and_si512(w, kept);
        total = _mm512_dpbusd_epi32(total, w, ones);
        _mm512_mask_storeu_epi8(weights + j, part, w);
    }
    return _mm512_reduce_add_epi32(total);
}

static void softmax_avx512(const int8_t *scores, size_t rows, size_t tokens, size_t stride,
                           const int8_t *table, int8_t *weights, int32_t *sums) {
    const table256 t = table_of(table);
    for (size_t i = 0; i < rows; i++) {
        sums[i] = softmax_512(scores + i * stride, tokens, t, weights + i * stride);
    }
}

#define SOFTMAX softmax_avx512
#define LOOKUP lookup_avx512
DOT_BACKEND(ternary_avx512_vnni, "avx512_vnni");

#endif

// SPDX-License-Identifier: MIT
// The backend for WebAssembly with SIMD128. Its dot product takes pairs of 16 bits. A trit needs few of them,
// so that a word holds the trits of two lanes, and one instruction sums products of 4 lanes and 4 k:
//
//     word = trit of lane j + 2^14 * trit of lane j + 8
//
// Sums of up to 62 products of the lower trit are within 14 bits, signed; then both are taken apart.

#include "backends.h"

#ifdef TERNARY_WASM

#include <string.h>
#include <wasm_simd128.h>

#include "loops.h"
#include "numbers.h"
#include "simd.h"

static bool usable(void) {
    return true; // or the module would have been refused
}

#define TILES 1
#define ROWS 3
enum { ROWS_1 = 3, WEIGHT_OFFSET = 0, KEY_OFFSET = 0 };

typedef v128_t bytes16;
typedef struct {
    v128_t quarter[4]; // lanes 0-3, 4-7, 8-11, 12-15
} sums16;
typedef enum { LINEAR, SCORES, VALUES } purpose; // what becomes of the sums

ALWAYS_INLINE bytes16 load_bytes(const int8_t *from) {
    return wasm_v128_load(from);
}

ALWAYS_INLINE void store_bytes(int8_t *to, bytes16 v) {
    wasm_v128_store(to, v);
}

ALWAYS_INLINE bytes16 same_bytes(int8_t value) {
    return wasm_i8x16_splat(value);
}

ALWAYS_INLINE sums16 same_sums(int32_t value) {
    v128_t all = wasm_i32x4_splat(value);
    return (sums16){{all, all, all, all}};
}

ALWAYS_INLINE sums16 sums_of(const int32_t *start, int32_t more) {
    (void)more; // bytes are signed: nothing is taken off
    return (sums16){{wasm_v128_load(start), wasm_v128_load(start + 4), wasm_v128_load(start + 8),
                     wasm_v128_load(start + 12)}};
}

ALWAYS_INLINE bytes16 shifted(sums16 sums, int32_t shift) {
    v128_t part[4];
    UNROLL
    for (size_t i = 0; i < 4; i++) {
        part[i] = wasm_i32x4_shr(sums.quarter[i], (uint32_t)shift);
    }
    return wasm_i8x16_narrow_i16x8(wasm_i16x8_narrow_i32x4(part[0], part[1]),
                                   wasm_i16x8_narrow_i32x4(part[2], part[3]));
}

ALWAYS_INLINE bytes16 scaled(bytes16 v, bytes16 multiplier) {
    v128_t low = wasm_i16x8_shr(wasm_i16x8_extmul_low_i8x16(v, multiplier), 7);
    v128_t high = wasm_i16x8_shr(wasm_i16x8_extmul_high_i8x16(v, multiplier), 7);
    return wasm_i8x16_narrow_i16x8(low, high);
}

// 2.3: digit i is 1 from 86 on (86 * 3 = 258), 2 from 171 on; trits are one less.
ALWAYS_INLINE void digits(bytes16 packed, bytes16 rows[5]) {
    UNROLL
    for (size_t i = 0; i < 5; i++) {
        v128_t one = wasm_u8x16_ge(packed, wasm_u8x16_splat(86)); // 0 or -1
        v128_t two = wasm_u8x16_ge(packed, wasm_u8x16_splat(171));
        rows[i] = wasm_i8x16_sub(wasm_i8x16_splat(-1), wasm_i8x16_add(one, two));
        packed = wasm_i8x16_add(packed, wasm_i8x16_add(packed, packed));
    }
}

ALWAYS_INLINE bytes16 minus_offset(bytes16 trit) {
    return trit;
}

// Four rows of 16 bytes, with the four bytes of a lane together.
ALWAYS_INLINE void four_rows(bytes16 a, bytes16 b, bytes16 c, bytes16 d, bytes16 group[4]) {
    v128_t ab = wasm_i8x16_shuffle(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    v128_t cd = wasm_i8x16_shuffle(c, d, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    group[0] = wasm_i16x8_shuffle(ab, cd, 0, 8, 1, 9, 2, 10, 3, 11);
    group[1] = wasm_i16x8_shuffle(ab, cd, 4, 12, 5, 13, 6, 14, 7, 15);
    ab = wasm_i8x16_shuffle(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    cd = wasm_i8x16_shuffle(c, d, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    group[2] = wasm_i16x8_shuffle(ab, cd, 0, 8, 1, 9, 2, 10, 3, 11);
    group[3] = wasm_i16x8_shuffle(ab, cd, 4, 12, 5, 13, 6, 14, 7, 15);
}

ALWAYS_INLINE void interleave(bytes16 a, bytes16 b, bytes16 c, bytes16 d, int8_t *panel) {
    bytes16 group[4];
    four_rows(a, b, c, d, group);
    UNROLL
    for (size_t i = 0; i < 4; i++) {
        store_bytes(panel + i * 16, group[i]);
    }
}

static inline int32_t row_sum(const int8_t *x, size_t depth) {
    return total(x, depth); // not called: offsets are 0
}

// Four bytes of a row, twice, as words.
ALWAYS_INLINE v128_t four_of(const int8_t *x, size_t tail) {
    v128_t four = tail ? wasm_i32x4_splat(tail_of(x, tail)) : wasm_v128_load32_splat(x);
    return wasm_i16x8_extend_low_i8x16(four);
}

// Neighbours of 8 sums.
ALWAYS_INLINE v128_t add_pairs(v128_t a, v128_t b) {
    return wasm_i32x4_add(wasm_i32x4_shuffle(a, b, 0, 2, 4, 6), wasm_i32x4_shuffle(a, b, 1, 3, 5, 7));
}

enum { UPPER_TRIT = 14, GROUPS_OF_14_BITS = 31 };

ALWAYS_INLINE void no_products(v128_t pairs[ROWS][4], size_t rows) {
    UNROLL
    for (size_t i = 0; i < rows; i++) {
        UNROLL
        for (size_t j = 0; j < 4; j++) {
            pairs[i][j] = wasm_i32x4_splat(0);
        }
    }
}

// Products of four vectors of words with four bytes of each row.
ALWAYS_INLINE void add_products(v128_t pairs[ROWS][4], const v128_t words[4], const int8_t *x,
                                size_t x_stride, size_t tail, size_t rows) {
    UNROLL
    for (size_t i = 0; i < rows; i++) {
        v128_t four = four_of(x + i * x_stride, tail);
        UNROLL
        for (size_t j = 0; j < 4; j++) {
            pairs[i][j] = wasm_i32x4_add(pairs[i][j], wasm_i32x4_dot_i16x8(words[j], four));
        }
    }
}

// Four k of 16 lanes in 64 bytes: pairs[i][j] sums lanes 2 j and 2 j + 1, two words each.
ALWAYS_INLINE void linear_group(v128_t pairs[ROWS][4], const int8_t *x, size_t x_stride, const int8_t *panel,
                                size_t tail, size_t rows) {
    v128_t words[4];
    UNROLL
    for (size_t j = 0; j < 4; j++) {
        words[j] = load_bytes(panel + 16 * j);
    }
    add_products(pairs, words, x, x_stride, tail, rows);
}

// Adds the sums of lower trits and those of upper trits to their lanes'.
ALWAYS_INLINE void add_apart(sums16 *sums, const v128_t pairs[4]) {
    v128_t lower[4], upper[4];
    UNROLL
    for (size_t j = 0; j < 4; j++) {
        v128_t half = wasm_i32x4_splat(1 << (UPPER_TRIT - 1));
        upper[j] = wasm_i32x4_shr(wasm_i32x4_add(pairs[j], half), UPPER_TRIT);
        lower[j] = wasm_i32x4_sub(pairs[j], wasm_i32x4_shl(upper[j], UPPER_TRIT));
    }
    UNROLL
    for (size_t j = 0; j < 2; j++) {
        v128_t more = add_pairs(lower[2 * j], lower[2 * j + 1]);
        sums->quarter[j] = wasm_i32x4_add(sums->quarter[j], more);
        more = add_pairs(upper[2 * j], upper[2 * j + 1]);
        sums->quarter[2 + j] = wasm_i32x4_add(sums->quarter[2 + j], more);
    }
}

ALWAYS_INLINE void linear_block(sums16 sums[ROWS][TILES], const int8_t *x, size_t x_stride,
                                const int8_t *panel, size_t depth, size_t rows) {
    for (size_t k = 0; k < depth;) {
        v128_t pairs[ROWS][4];
        no_products(pairs, rows);
        size_t end = ternary_smaller(k + 4 * GROUPS_OF_14_BITS, depth);
        for (; k + 4 <= end; k += 4) {
            linear_group(pairs, x + k, x_stride, panel + k * TERNARY_LANES, 0, rows);
        }
        if (k < end) {
            linear_group(pairs, x + k, x_stride, panel + k * TERNARY_LANES, end - k, rows);
            k = end;
        }
        UNROLL
        for (size_t i = 0; i < rows; i++) {
            add_apart(&sums[i][0], pairs[i]);
        }
    }
}

// Any bytes, 8 lanes at a time.
ALWAYS_INLINE void any_group(v128_t pairs[ROWS][4], const int8_t *x, size_t x_stride, const int8_t *panel,
                             size_t tail, size_t rows) {
    v128_t words[4];
    UNROLL
    for (size_t j = 0; j < 4; j++) {
        words[j] = wasm_i16x8_load8x8(panel + 8 * j);
    }
    add_products(pairs, words, x, x_stride, tail, rows);
}

ALWAYS_INLINE void any_block(sums16 sums[ROWS][TILES], const int8_t *x, size_t x_stride, const int8_t *panel,
                             size_t depth, size_t rows) {
    const size_t whole = depth - depth % 4;
    UNROLL
    for (size_t half = 0; half < 2; half++) {
        v128_t pairs[ROWS][4];
        no_products(pairs, rows);
        const int8_t *lanes = panel + half * 32;
        for (size_t k = 0; k < whole; k += 4) {
            any_group(pairs, x + k, x_stride, lanes + k * TERNARY_LANES, 0, rows);
        }
        if (whole < depth) {
            any_group(pairs, x + whole, x_stride, lanes + whole * TERNARY_LANES, depth - whole, rows);
        }
        UNROLL
        for (size_t i = 0; i < rows; i++) {
            v128_t *quarter = sums[i][0].quarter + 2 * half;
            quarter[0] = wasm_i32x4_add(quarter[0], add_pairs(pairs[i][0], pairs[i][1]));
            quarter[1] = wasm_i32x4_add(quarter[1], add_pairs(pairs[i][2], pairs[i][3]));
        }
    }
}

ALWAYS_INLINE void dot_block(sums16 sums[ROWS][TILES], const int8_t *x, size_t x_stride, const int8_t *panels,
                             size_t panel_stride, size_t depth, size_t rows, size_t tiles, purpose to) {
    (void)panel_stride;
    (void)tiles;
    if (to == LINEAR) {
        linear_block(sums, x, x_stride, panels, depth, rows);
    } else {
        any_block(sums, x, x_stride, panels, depth, rows);
    }
}

// A layer's panel: four k of 16 lanes as 32 words.
ALWAYS_INLINE void interleave_trits(bytes16 a, bytes16 b, bytes16 c, bytes16 d, int8_t *panel) {
    bytes16 group[4];
    four_rows(a, b, c, d, group);
    UNROLL
    for (size_t i = 0; i < 2; i++) {
        v128_t upper = wasm_i16x8_shl(wasm_i16x8_extend_low_i8x16(group[2 + i]), UPPER_TRIT);
        store_bytes(panel + 32 * i, wasm_i16x8_add(wasm_i16x8_extend_low_i8x16(group[i]), upper));
        upper = wasm_i16x8_shl(wasm_i16x8_extend_high_i8x16(group[2 + i]), UPPER_TRIT);
        store_bytes(panel + 32 * i + 16, wasm_i16x8_add(wasm_i16x8_extend_high_i8x16(group[i]), upper));
    }
}

#define INTERLEAVE_TRITS interleave_trits
#define RESIDUAL_ADD residual_add_wasm
#define SUM sum_wasm
#define SQUARES squares_wasm
#define COPY copy_wasm
#include "dot.h"

// 6.5, 6.6 for 8 lanes: y before it is narrowed.
ALWAYS_INLINE v128_t norm_words(const ternary_norm *row, const int16_t *x, size_t i) {
    v128_t e = wasm_i16x8_sub_sat(wasm_v128_load(x + i), wasm_i16x8_splat((int16_t)row->mean));
    v128_t gain = wasm_i16x8_mul(wasm_v128_load(row->gamma + i), wasm_i16x8_splat((int16_t)row->factor));
    v128_t low = wasm_i32x4_shr(wasm_i32x4_extmul_low_i16x8(e, gain), (uint32_t)row->shift);
    v128_t high = wasm_i32x4_shr(wasm_i32x4_extmul_high_i16x8(e, gain), (uint32_t)row->shift);
    v128_t u = wasm_i16x8_narrow_i32x4(low, high);
    return wasm_i16x8_shr(wasm_i16x8_add_sat(u, wasm_v128_load(row->beta + i)), 8);
}

static void norm_wasm(const ternary_norm *row, const int16_t *x, int8_t *y) {
    size_t i = 0;
    for (; i + 16 <= row->width; i += 16) {
        store_bytes(y + i, wasm_i8x16_narrow_i16x8(norm_words(row, x, i), norm_words(row, x, i + 8)));
    }
    norm_rest(row, x, y, i);
}

// 5.2. Compilers do not find the saturating sum.
static void residual_add_wasm(int16_t *restrict residual, const int8_t *restrict y, size_t count,
                              int32_t shift) {
    size_t i = 0;
    for (; i + 16 <= count; i += 16) {
        v128_t v = load_bytes(y + i); // -128 * 2^8 fits
        v128_t low = wasm_i16x8_shl(wasm_i16x8_extend_low_i8x16(v), (uint32_t)shift);
        v128_t high = wasm_i16x8_shl(wasm_i16x8_extend_high_i8x16(v), (uint32_t)shift);
        wasm_v128_store(residual + i, wasm_i16x8_add_sat(wasm_v128_load(residual + i), low));
        wasm_v128_store(residual + i + 8, wasm_i16x8_add_sat(wasm_v128_load(residual + i + 8), high));
    }
    residual_add(residual + i, y + i, count - i, shift);
}

ALWAYS_INLINE int32_t across(v128_t v) {
    v = wasm_i32x4_add(v, wasm_i32x4_shuffle(v, v, 2, 3, 0, 1));
    return wasm_i32x4_extract_lane(v, 0) + wasm_i32x4_extract_lane(v, 1);
}

static int32_t sum_wasm(const int16_t *x, size_t count) {
    v128_t total = wasm_i32x4_splat(0);
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        total = wasm_i32x4_add(total, wasm_i32x4_extadd_pairwise_i16x8(wasm_v128_load(x + i)));
    }
    return across(total) + sum(x + i, count - i);
}

static uint64_t squares_wasm(const int16_t *x, size_t count, int32_t mean) {
    v128_t total = wasm_i64x2_splat(0);
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        v128_t e = wasm_i16x8_sub_sat(wasm_v128_load(x + i), wasm_i16x8_splat((int16_t)mean));
        v128_t pairs = wasm_i32x4_dot_i16x8(e, e); // up to 2^31: unsigned
        total = wasm_i64x2_add(total, wasm_u64x2_extend_low_u32x4(pairs));
        total = wasm_i64x2_add(total, wasm_u64x2_extend_high_u32x4(pairs));
    }
    uint64_t both = (uint64_t)wasm_i64x2_extract_lane(total, 0) + (uint64_t)wasm_i64x2_extract_lane(total, 1);
    return both + squares(x + i, count - i, mean);
}

// Rows of patches are short: a call for each would take longer.
static void copy_wasm(int8_t *to, const int8_t *from, size_t count, size_t rows, size_t stride) {
    for (size_t row = 0; row < rows; row++, to += count, from += stride) {
        size_t i = 0;
        for (; i + 16 <= count; i += 16) {
            store_bytes(to + i, load_bytes(from + i));
        }
        if (i < count && count >= 16) {
            store_bytes(to + count - 16, load_bytes(from + count - 16)); // some bytes again
        } else {
            for (; i < count; i++) {
                to[i] = from[i];
            }
        }
    }
}

#define SOFTMAX softmax
#define LOOKUP lookup
#define NORM norm_wasm
DOT_BACKEND(ternary_simd128, "simd128");

#endif

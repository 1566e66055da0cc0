// SPDX-License-Identifier: MIT
// What the backends of AArch64 share.

#ifndef TERNARY_NEON_H
#define TERNARY_NEON_H

#include "loops.h"
#include "simd.h"

#define TILES 1
enum { WEIGHT_OFFSET = 0, KEY_OFFSET = 0 };

typedef int8x16_t bytes16;
typedef struct {
    int32x4_t quarter[4]; // lanes 0-3, 4-7, 8-11, 12-15
} sums16;
typedef enum { LINEAR, SCORES, VALUES } purpose; // what becomes of the sums

ALWAYS_INLINE bytes16 load_bytes(const int8_t *from) {
    return vld1q_s8(from);
}

ALWAYS_INLINE void store_bytes(int8_t *to, bytes16 v) {
    vst1q_s8(to, v);
}

ALWAYS_INLINE bytes16 same_bytes(int8_t value) {
    return vdupq_n_s8(value);
}

ALWAYS_INLINE sums16 same_sums(int32_t value) {
    int32x4_t all = vdupq_n_s32(value);
    return (sums16){{all, all, all, all}};
}

ALWAYS_INLINE sums16 sums_of(const int32_t *start, int32_t more) {
    (void)more; // bytes are signed: nothing is taken off
    return (sums16){{vld1q_s32(start), vld1q_s32(start + 4), vld1q_s32(start + 8), vld1q_s32(start + 12)}};
}

ALWAYS_INLINE bytes16 shifted(sums16 sums, int32_t shift) {
    const int32x4_t count = vdupq_n_s32(-shift);
    int16x4_t part[4];
    UNROLL
    for (size_t i = 0; i < 4; i++) {
        part[i] = vqmovn_s32(vshlq_s32(sums.quarter[i], count));
    }
    return vcombine_s8(vqmovn_s16(vcombine_s16(part[0], part[1])),
                       vqmovn_s16(vcombine_s16(part[2], part[3])));
}

ALWAYS_INLINE bytes16 scaled(bytes16 v, bytes16 multiplier) {
    int16x8_t low = vmull_s8(vget_low_s8(v), vget_low_s8(multiplier));
    int16x8_t high = vmull_s8(vget_high_s8(v), vget_high_s8(multiplier));
    return vcombine_s8(vshrn_n_s16(low, 7), vshrn_n_s16(high, 7));
}

// 2.3: digit i is 1 from 86 on (86 * 3 = 258), 2 from 171 on; trits are one less.
ALWAYS_INLINE void digits(bytes16 packed, bytes16 rows[5]) {
    uint8x16_t power = vreinterpretq_u8_s8(packed);
    UNROLL
    for (size_t i = 0; i < 5; i++) {
        uint8x16_t one = vcgeq_u8(power, vdupq_n_u8(86)), two = vcgeq_u8(power, vdupq_n_u8(171)); // 0 or -1
        rows[i] = vreinterpretq_s8_u8(vsubq_u8(vdupq_n_u8(255), vaddq_u8(one, two)));
        power = vaddq_u8(power, vaddq_u8(power, power));
    }
}

ALWAYS_INLINE bytes16 minus_offset(bytes16 trit) {
    return trit;
}

// Four rows of 16 bytes, stored with the four bytes of a lane together.
ALWAYS_INLINE void interleave(bytes16 a, bytes16 b, bytes16 c, bytes16 d, int8_t *panel) {
    vst4q_s8(panel, (int8x16x4_t){{a, b, c, d}});
}

ALWAYS_INLINE int8x16_t four_of(const int8_t *x, size_t tail) {
    return vreinterpretq_s8_s32(vdupq_n_s32(tail ? tail_of(x, tail) : word_of(x)));
}

static inline int32_t row_sum(const int8_t *x, size_t depth) {
    return total(x, depth); // not called: offsets are 0
}

// 8.1, and E of 7.2: 64 bytes of the table at a time; an index beyond them leaves what is there.
ALWAYS_INLINE uint8x16_t look(const uint8x16x4_t table[4], uint8x16_t index) {
    uint8x16_t found = vqtbl4q_u8(table[0], index);
    UNROLL
    for (size_t i = 1; i < 4; i++) {
        found = vqtbx4q_u8(found, table[i], vsubq_u8(index, vdupq_n_u8((uint8_t)(64 * i))));
    }
    return found;
}

static void lookup_neon(const int8_t *x, size_t count, const int8_t *table, int8_t *out) {
    uint8x16x4_t parts[4];
    for (size_t i = 0; i < 4; i++) {
        parts[i] = vld1q_u8_x4((const uint8_t *)table + 64 * i);
    }
    size_t i = 0;
    for (; i + 16 <= count; i += 16) {
        uint8x16_t index = veorq_u8(vreinterpretq_u8_s8(load_bytes(x + i)), vdupq_n_u8(128));
        store_bytes(out + i, vreinterpretq_s8_u8(look(parts, index)));
    }
    lookup(x + i, count - i, table, out + i);
}

#define SOFTMAX softmax
#define LOOKUP lookup_neon
#define NORM norm

#endif

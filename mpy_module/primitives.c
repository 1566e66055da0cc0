// SPDX-License-Identifier: MIT
#include "primitives.h"
#include "numbers.h"

void ternary_decode_vectors(const uint8_t *restrict packed, size_t vectors, int8_t *restrict trits) {
    for (size_t vector = 0; vector < vectors; vector++) {
        uint8_t power[TERNARY_LANES]; // byte * 3^i mod 256
        for (int lane = 0; lane < TERNARY_LANES; lane++) {
            power[lane] = packed[vector * TERNARY_LANES + (size_t)lane];
        }
        for (int i = 0; i < TERNARY_TRITS_PER_BYTE; i++) {
            for (int lane = 0; lane < TERNARY_LANES; lane++) {
                int32_t product = power[lane] * 3;
                trits[lane] = (int8_t)((product >> 8) - 1);
                power[lane] = (uint8_t)product;
            }
            trits += TERNARY_LANES;
        }
    }
}

void ternary_accumulate_trits(int32_t *restrict sums, const int8_t *restrict x, const int8_t *restrict tile,
                              size_t rows) {
    for (size_t k = 0; k < rows; k++) {
        for (int lane = 0; lane < TERNARY_LANES; lane++) {
            sums[lane] += tile[lane] * x[k];
        }
        tile += TERNARY_LANES;
    }
}

void ternary_drain(const int32_t *restrict sums, int32_t shift, const int8_t *restrict multiplier,
                   int8_t *restrict y) {
    for (int lane = 0; lane < TERNARY_LANES; lane++) {
        int32_t v = ternary_sat8(ternary_shift_right(sums[lane], shift));
        y[lane] = (int8_t)ternary_shift_right(v * multiplier[lane], 7);
    }
}

int32_t ternary_dot(const int8_t *restrict a, const int8_t *restrict b, size_t count) {
    int32_t sum = 0;
    for (size_t k = 0; k < count; k++) {
        sum += a[k] * b[k];
    }
    return sum;
}

static void accumulate_16_values(int32_t *restrict sums, const int8_t *restrict weights,
                                 const int8_t *restrict values, size_t stride, size_t rows) {
    for (size_t j = 0; j < rows; j++) {
        for (size_t lane = 0; lane < TERNARY_LANES; lane++) {
            sums[lane] += weights[j] * values[j * stride + lane];
        }
    }
}

void ternary_accumulate_values(int32_t *restrict sums, const int8_t *restrict weights,
                               const int8_t *restrict values, size_t stride, size_t rows, size_t lanes) {
    if (lanes == TERNARY_LANES) {
        accumulate_16_values(sums, weights, values, stride, rows);
        return;
    }
    for (size_t j = 0; j < rows; j++) {
        for (size_t lane = 0; lane < lanes; lane++) {
            sums[lane] += weights[j] * values[j * stride + lane];
        }
    }
}

// SPDX-License-Identifier: MIT
// The inner loops, 16 lanes wide. Everything else in this directory is written once; these are what a
// target's SIMD unit replaces.

#ifndef TERNARY_PRIMITIVES_H
#define TERNARY_PRIMITIVES_H

#include "ternary.h"

enum { TERNARY_VECTOR_TRITS = TERNARY_LANES * TERNARY_TRITS_PER_BYTE };

// 2.2-2.4: `vectors` * 16 bytes to `vectors` * 80 trits, row by row.
void ternary_decode_vectors(const uint8_t *restrict packed, size_t vectors, int8_t *restrict trits);

// 4.2: sums[lane] += tile[k][lane] * x[k] for k < rows; tile holds trits.
void ternary_accumulate_trits(int32_t *restrict sums, const int8_t *restrict x, const int8_t *restrict tile,
                              size_t rows);

// 4.4, 4.5: y[lane] = (sat8(sums[lane] >> shift) * multiplier[lane]) >> 7.
void ternary_drain(const int32_t *restrict sums, int32_t shift, const int8_t *restrict multiplier,
                   int8_t *restrict y);

// 7.1: sum of a[k] * b[k] for k < count <= 1024.
int32_t ternary_dot(const int8_t *restrict a, const int8_t *restrict b, size_t count);

// 7.4: sums[lane] += weights[j] * values[j * stride + lane] for j < rows, lane < lanes <= 16.
void ternary_accumulate_values(int32_t *restrict sums, const int8_t *restrict weights,
                               const int8_t *restrict values, size_t stride, size_t rows, size_t lanes);

#endif

// SPDX-License-Identifier: MIT
// 12.4: the factor L of a kernel matrix in fixed point, and what is solved with it. Sums are of 32 bits and
// wrap, divisions are multiplications with rounded reciprocals: no input makes the behaviour undefined.

#ifndef TERNARY_CHOLESKY_H
#define TERNARY_CHOLESKY_H

#include "ternary.h"

// Rows and columns are pictures i * all / n of `all`; gram is packed row by row.
typedef struct {
    const int16_t *gram;
    size_t all, n;
    int32_t *factor;     // L, packed row by row, 29 fractional bits
    int32_t *reciprocal; // 1 / L_ii, 26 fractional bits
} ternary_cholesky;

static inline size_t ternary_triangle(size_t rows) {
    return rows * (rows + 1) / 2;
}

// The picture of row i.
static inline size_t ternary_chosen(const ternary_cholesky *c, size_t i) {
    return c->n == c->all ? i : i * c->all / c->n;
}

// The product of pictures a and b, 14 fractional bits.
static inline int32_t ternary_gram_of(const ternary_cholesky *c, size_t a, size_t b) {
    return a >= b ? c->gram[ternary_triangle(a) + b] : c->gram[ternary_triangle(b) + a];
}

// The upper 32 of the product's 64 bits.
static inline int32_t ternary_high(int32_t a, int32_t b) {
    return (int32_t)(((int64_t)a * b) >> 32);
}

static inline int32_t ternary_sat32(int64_t x) {
    return x < INT32_MIN ? INT32_MIN : x > INT32_MAX ? INT32_MAX : (int32_t)x;
}

// Largest integer whose square is at most x.
uint32_t ternary_isqrt64(uint64_t x);

// Fills factor and reciprocal for the matrix with `added` (14 fractional bits) in every element and ridge[i]
// more in element i of the diagonal.
void ternary_factorize(const ternary_cholesky *c, int32_t added, const int32_t *ridge);

// z = L^-1 y, y with 23 fractional bits, z with 26; may be in place.
void ternary_forward(const ternary_cholesky *c, const int32_t *y, int32_t *z);

// z with 26 fractional bits becomes L^-T z with 24.
void ternary_backward(const ternary_cholesky *c, int32_t *z);

// Element i of the diagonal of the inverse, at least 1, 20 fractional bits; work: n numbers.
int32_t ternary_inverse_diagonal(const ternary_cholesky *c, size_t i, int32_t *work);

#endif

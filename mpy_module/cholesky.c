// SPDX-License-Identifier: MIT
#include "cholesky.h"
#include "numbers.h"

enum { LEAST_PIVOT = 1 << 18, MOST_PIVOT = (1 << 30) - 1, MOST_RECIPROCAL = 1 << 30 };

uint32_t ternary_isqrt64(uint64_t x) {
    uint64_t root = 0;
    for (uint64_t bit = 1ull << 62; bit; bit >>= 2) {
        if (x >= root + bit) {
            x -= root + bit;
            root = root / 2 + bit;
        } else {
            root /= 2;
        }
    }
    return (uint32_t)root;
}

// start - sum_k high(a_k * b_k), modulo 2^32.
static int32_t minus_product(int32_t start, const int32_t *a, const int32_t *b, size_t count) {
    uint32_t left = (uint32_t)start;
    const int32_t *end = a + (count & ~(size_t)3);
    // By four, loads first: loads and products of the chip take longer than an instruction, and so does a
    // branch.
    for (; a < end; a += 4, b += 4) {
        int32_t a0 = a[0], b0 = b[0], a1 = a[1], b1 = b[1], a2 = a[2], b2 = b[2], a3 = a[3], b3 = b[3];
        uint32_t p0 = (uint32_t)ternary_high(a0, b0), p1 = (uint32_t)ternary_high(a1, b1);
        uint32_t p2 = (uint32_t)ternary_high(a2, b2), p3 = (uint32_t)ternary_high(a3, b3);
        left -= (p0 + p1) + (p2 + p3);
    }
    for (end += count & 3; a < end; a++, b++) {
        left -= (uint32_t)ternary_high(*a, *b);
    }
    return (int32_t)left;
}

// x -= high(row * *with), modulo 2^32. Read anew each time: a 64-bit factor that compilers keep over the loop
// makes them multiply 64 bits by 64.
static void minus_multiple(int32_t *x, const int32_t *row, const int32_t *with, size_t count) {
    size_t i = 0;
    for (; i + 4 <= count; i += 4, x += 4, row += 4) {
        int32_t factor = *with;
        uint32_t a = (uint32_t)ternary_high(row[0], factor), b = (uint32_t)ternary_high(row[1], factor);
        uint32_t c = (uint32_t)ternary_high(row[2], factor), d = (uint32_t)ternary_high(row[3], factor);
        x[0] = (int32_t)((uint32_t)x[0] - a);
        x[1] = (int32_t)((uint32_t)x[1] - b);
        x[2] = (int32_t)((uint32_t)x[2] - c);
        x[3] = (int32_t)((uint32_t)x[3] - d);
    }
    for (; i < count; i++, x++, row++) {
        *x = (int32_t)((uint32_t)*x - (uint32_t)ternary_high(*row, *with));
    }
}

static int32_t times(int32_t x, int32_t reciprocal) {
    return ternary_sat32(((int64_t)x * reciprocal) >> 23);
}

void ternary_factorize(const ternary_cholesky *c, int32_t added, const int32_t *ridge) {
    for (size_t i = 0; i < c->n; i++) {
        int32_t *row = c->factor + ternary_triangle(i);
        const int16_t *products = c->gram + ternary_triangle(ternary_chosen(c, i));
        for (size_t j = 0; j <= i; j++) {
            const int32_t *other = c->factor + ternary_triangle(j);
            int32_t element = products[ternary_chosen(c, j)] + added + (i == j ? ridge[i] : 0);
            int32_t left = minus_product((int32_t)((uint32_t)element << 12), row, other, j);
            if (j < i) {
                row[j] = times(left, c->reciprocal[j]);
            } else {
                uint32_t pivot = (uint32_t)ternary_max(LEAST_PIVOT, ternary_min(MOST_PIVOT, left));
                uint32_t root = ternary_isqrt64((uint64_t)pivot << 32);
                row[i] = (int32_t)root;
                c->reciprocal[i] = (int32_t)ternary_smaller((size_t)((1ull << 55) / root), MOST_RECIPROCAL);
            }
        }
    }
}

void ternary_forward(const ternary_cholesky *c, const int32_t *y, int32_t *z) {
    for (size_t i = 0; i < c->n; i++) {
        z[i] = times(minus_product(y[i], c->factor + ternary_triangle(i), z, i), c->reciprocal[i]);
    }
}

void ternary_backward(const ternary_cholesky *c, int32_t *z) {
    for (size_t i = 0; i < c->n; i++) {
        z[i] = ternary_shift_right(z[i], 5);
    }
    for (size_t k = c->n; k-- > 0;) {
        const int32_t *row = c->factor + ternary_triangle(k);
        z[k] = times(z[k], c->reciprocal[k]);
        minus_multiple(z, row, z + k, k);
    }
}

int32_t ternary_inverse_diagonal(const ternary_cholesky *c, size_t i, int32_t *work) {
    uint64_t sum = 0;
    for (size_t k = i; k < c->n; k++) {
        int32_t start = k == i ? 1 << 23 : 0;
        work[k] = times(minus_product(start, c->factor + ternary_triangle(k) + i, work + i, k - i),
                        c->reciprocal[k]);
        sum += (uint64_t)ternary_high(work[k], work[k]);
    }
    return sum > INT32_MAX ? INT32_MAX : sum ? (int32_t)sum : 1;
}

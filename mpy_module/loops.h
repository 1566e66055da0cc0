// SPDX-License-Identifier: MIT
// The loops that compilers vectorize well, in portable C. Each backend that includes this compiles them for
// its own instructions, and replaces those that it has better ones for.

#ifndef TERNARY_LOOPS_H
#define TERNARY_LOOPS_H

#include <string.h>

#include "backends.h"
#include "numbers.h"

static inline void accumulate(int32_t *restrict sums, const int8_t *restrict x, const int8_t *restrict panel,
                              size_t depth) {
    for (size_t k = 0; k < depth; k++) {
        for (int lane = 0; lane < TERNARY_LANES; lane++) {
            sums[lane] += panel[lane] * x[k];
        }
        panel += TERNARY_LANES;
    }
}

static inline void sums(const ternary_product *p, int32_t *lanes) {
    memset(lanes, 0, TERNARY_LANES * sizeof(*lanes));
    accumulate(lanes, p->x, p->panel, p->depth);
}

static inline int32_t total(const int8_t *weights, size_t tokens) {
    int32_t sum = 0;
    for (size_t j = 0; j < tokens; j++) {
        sum += weights[j];
    }
    return sum;
}

static inline int32_t softmax_row(const int8_t *row, size_t tokens, const int8_t *table, int8_t *weights) {
    int32_t top = -128;
    for (size_t j = 0; j < tokens; j++) {
        top = ternary_max(top, row[j]);
    }
    for (size_t j = 0; j < tokens; j++) {
        weights[j] = table[top - row[j]];
    }
    int32_t sum = total(weights, tokens);
    int32_t halvings = ternary_halvings(sum);
    if (halvings == 0) {
        return sum;
    }
    for (size_t j = 0; j < tokens; j++) {
        weights[j] = (int8_t)(weights[j] >> halvings);
    }
    return total(weights, tokens);
}

static inline void softmax(const int8_t *row, size_t rows, size_t tokens, size_t stride, const int8_t *table,
                           int8_t *weights, int32_t *sums) {
    for (size_t i = 0; i < rows; i++) {
        sums[i] = softmax_row(row + i * stride, tokens, table, weights + i * stride);
    }
}

static inline bool no_signs(const int8_t *x, size_t count) {
    uint32_t seen = 0;
    size_t i = 0;
    for (; i + sizeof(seen) <= count; i += sizeof(seen)) {
        uint32_t word;
        memcpy(&word, x + i, sizeof(word));
        seen |= word;
    }
    for (; i < count; i++) {
        seen |= (uint8_t)x[i];
    }
    return !(seen & 0x80808080);
}

static inline void lookup(const int8_t *x, size_t count, const int8_t *table, int8_t *out) {
    for (size_t i = 0; i < count; i++) {
        out[i] = table[x[i] + 128];
    }
}

static inline void residual_start(int16_t *restrict residual, const int8_t *restrict y, size_t count,
                                  int32_t shift) {
    for (size_t i = 0; i < count; i++) {
        residual[i] = (int16_t)(y[i] * (1 << shift)); // -128 * 2^8 fits
    }
}

static inline void residual_add(int16_t *restrict residual, const int8_t *restrict y, size_t count,
                                int32_t shift) {
    for (size_t i = 0; i < count; i++) {
        residual[i] = ternary_sat16(residual[i] + y[i] * (1 << shift));
    }
}

static inline int32_t sum(const int16_t *x, size_t count) {
    int32_t total = 0; // |total| <= 2^27
    for (size_t i = 0; i < count; i++) {
        total += x[i];
    }
    return total;
}

static inline uint64_t squares(const int16_t *x, size_t count, int32_t mean) {
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++) {
        int32_t e = ternary_sat16(x[i] - mean);
        total += (uint32_t)(e * e);
    }
    return total;
}

static inline void norm(const ternary_norm *row, const int16_t *x, int8_t *y) {
    for (size_t i = 0; i < row->width; i++) {
        int32_t e = ternary_sat16(x[i] - row->mean);
        int32_t u = ternary_sat16(ternary_shift_right(e * row->gamma[i] * row->factor, row->shift));
        y[i] = (int8_t)ternary_shift_right(ternary_sat16(u + row->beta[i]), 8);
    }
}

// The same from element `first` on: what is left of a row after vectors.
static inline void norm_rest(const ternary_norm *row, const int16_t *x, int8_t *y, size_t first) {
    const ternary_norm rest = {
        .gamma = row->gamma + first,
        .beta = row->beta + first,
        .width = row->width - first,
        .mean = row->mean,
        .factor = row->factor,
        .shift = row->shift,
    };
    norm(&rest, x + first, y + first);
}

static inline void copy(int8_t *to, const int8_t *from, size_t count, size_t rows, size_t stride) {
    for (size_t row = 0; row < rows; row++) {
        memcpy(to + row * count, from + row * stride, count);
    }
}

static inline void clear(int8_t *to, size_t count) {
    memset(to, 0, count);
}

static inline bool prefetch(const void *data, size_t size) {
    (void)data;
    (void)size;
    return false;
}

#endif

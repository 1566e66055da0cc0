// SPDX-License-Identifier: MIT
// The reference backend: portable C for every target. Other backends are tested against it.

#include <string.h>

#include "backends.h"
#include "numbers.h"

static void decode(const uint8_t *restrict packed, size_t vectors, int8_t *restrict trits) {
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

static void accumulate(int32_t *restrict sums, const int8_t *restrict x, const int8_t *restrict panel,
                       size_t depth) {
    for (size_t k = 0; k < depth; k++) {
        for (int lane = 0; lane < TERNARY_LANES; lane++) {
            sums[lane] += panel[lane] * x[k];
        }
        panel += TERNARY_LANES;
    }
}

static int8_t scaled(int32_t sum, int32_t shift, int32_t multiplier) {
    int32_t v = ternary_sat8(ternary_shift_right(sum, shift));
    return (int8_t)ternary_shift_right(v * multiplier, 7);
}

static void linear(const ternary_product *p, const ternary_scale *scale) {
    int32_t start[TERNARY_LANES];
    for (int lane = 0; lane < TERNARY_LANES; lane++) {
        start[lane] = scale->bias[lane] * (1 << scale->bias_shift);
    }
    for (size_t row = 0; row < p->rows; row++) {
        int32_t sums[TERNARY_LANES];
        memcpy(sums, start, sizeof(sums));
        accumulate(sums, p->x + row * p->x_stride, p->panel, p->depth);
        for (size_t lane = 0; lane < p->lanes; lane++) {
            p->out[row * p->out_stride + lane] = scaled(sums[lane], scale->shift, scale->multiplier[lane]);
        }
    }
}

static void sums(const ternary_product *p, int32_t *lanes) {
    memset(lanes, 0, TERNARY_LANES * sizeof(*lanes));
    accumulate(lanes, p->x, p->panel, p->depth);
}

static void scores_panel(const ternary_product *p, int32_t shift) {
    for (size_t row = 0; row < p->rows; row++) {
        int32_t sums[TERNARY_LANES] = {0};
        accumulate(sums, p->x + row * p->x_stride, p->panel, p->depth);
        for (size_t lane = 0; lane < p->lanes; lane++) {
            p->out[row * p->out_stride + lane] = ternary_sat8(ternary_shift_right(sums[lane], shift));
        }
    }
}

static void scores(const ternary_product *p, size_t columns, int32_t shift) {
    ternary_product panel = *p;
    for (size_t column = 0; column < columns; column += TERNARY_LANES) {
        panel.lanes = ternary_smaller(columns - column, TERNARY_LANES);
        scores_panel(&panel, shift);
        panel.panel += ternary_round_up(p->depth) * TERNARY_LANES;
        panel.out += TERNARY_LANES;
    }
}

static void values(const ternary_product *p, const ternary_mean *means) {
    for (size_t row = 0; row < p->rows; row++) {
        int32_t sums[TERNARY_LANES] = {0};
        accumulate(sums, p->x + row * p->x_stride, p->panel, p->depth);
        for (size_t lane = 0; lane < p->lanes; lane++) {
            int8_t mean = scaled(sums[lane], means[row].shift, means[row].multiplier);
            p->out[row * p->out_stride + lane] = mean;
        }
    }
}

static int32_t total(const int8_t *weights, size_t tokens) {
    int32_t sum = 0;
    for (size_t j = 0; j < tokens; j++) {
        sum += weights[j];
    }
    return sum;
}

static int32_t softmax_row(const int8_t *row, size_t tokens, const int8_t *table, int8_t *weights) {
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

static void softmax(const int8_t *row, size_t rows, size_t tokens, size_t stride, const int8_t *table,
                    int8_t *weights, int32_t *sums) {
    for (size_t i = 0; i < rows; i++) {
        sums[i] = softmax_row(row + i * stride, tokens, table, weights + i * stride);
    }
}

static bool no_signs(const int8_t *x, size_t count) {
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

static void transpose(const int8_t *keys, size_t stride, size_t lanes, size_t depth, int8_t *panel) {
    for (size_t k = 0; k < depth; k++) {
        for (size_t lane = 0; lane < TERNARY_LANES; lane++) {
            panel[k * TERNARY_LANES + lane] = lane < lanes ? keys[lane * stride + k] : 0;
        }
    }
}

static void gather(const int8_t *in, size_t stride, size_t rows, size_t lanes, int8_t *panel) {
    for (size_t row = 0; row < rows; row++) {
        int8_t *out = panel + row * TERNARY_LANES;
        memcpy(out, in + row * stride, lanes);
        memset(out + lanes, 0, TERNARY_LANES - lanes);
    }
}

static void lookup(const int8_t *x, size_t count, const int8_t *table, int8_t *out) {
    for (size_t i = 0; i < count; i++) {
        out[i] = table[x[i] + 128];
    }
}

static void residual_start(int16_t *restrict residual, const int8_t *restrict y, size_t count,
                           int32_t shift) {
    for (size_t i = 0; i < count; i++) {
        residual[i] = (int16_t)(y[i] * (1 << shift)); // -128 * 2^8 fits
    }
}

static void residual_add(int16_t *restrict residual, const int8_t *restrict y, size_t count, int32_t shift) {
    for (size_t i = 0; i < count; i++) {
        residual[i] = ternary_sat16(residual[i] + y[i] * (1 << shift));
    }
}

static int32_t sum(const int16_t *x, size_t count) {
    int32_t total = 0; // |total| <= 2^27
    for (size_t i = 0; i < count; i++) {
        total += x[i];
    }
    return total;
}

static uint64_t squares(const int16_t *x, size_t count, int32_t mean) {
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++) {
        int32_t e = ternary_sat16(x[i] - mean);
        total += (uint32_t)(e * e);
    }
    return total;
}

static void norm(const ternary_norm *row, const int16_t *x, int8_t *y) {
    for (size_t i = 0; i < row->width; i++) {
        int32_t e = ternary_sat16(x[i] - row->mean);
        int32_t u = ternary_sat16(ternary_shift_right(e * row->gamma[i] * row->factor, row->shift));
        y[i] = (int8_t)ternary_shift_right(ternary_sat16(u + row->beta[i]), 8);
    }
}

static void copy(int8_t *to, const int8_t *from, size_t count, size_t rows, size_t stride) {
    for (size_t row = 0; row < rows; row++) {
        memcpy(to + row * count, from + row * stride, count);
    }
}

static void clear(int8_t *to, size_t count) {
    memset(to, 0, count);
}

static void prefetch(const void *data, size_t size) {
    (void)data;
    (void)size;
}

const ternary_backend ternary_reference = {
    .name = "reference",
    .decode = decode,
    .linear = linear,
    .sums = sums,
    .scores = scores,
    .values = values,
    .softmax = softmax,
    .total = total,
    .no_signs = no_signs,
    .transpose = transpose,
    .gather = gather,
    .lookup = lookup,
    .residual_start = residual_start,
    .residual_add = residual_add,
    .sum = sum,
    .squares = squares,
    .norm = norm,
    .copy = copy,
    .clear = clear,
    .prefetch = prefetch,
};

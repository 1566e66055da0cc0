// SPDX-License-Identifier: MIT
// The reference backend: portable C for every target. Other backends are tested against it.

#include "loops.h"

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

static int8_t scaled(int32_t sum, int32_t shift, int32_t multiplier) {
    int32_t v = ternary_sat8(ternary_shift_right(sum, shift));
    return (int8_t)ternary_shift_right(v * multiplier, 7);
}

static void start_of(const ternary_scale *scale, int32_t *start) {
    for (int lane = 0; lane < TERNARY_LANES; lane++) {
        start[lane] = scale->bias[lane] * (1 << scale->bias_shift);
    }
}

static void linear(const ternary_product *p, const ternary_scale *scale) {
    int32_t start[TERNARY_LANES];
    start_of(scale, start);
    for (size_t row = 0; row < p->rows; row++) {
        int32_t sums[TERNARY_LANES];
        memcpy(sums, start, sizeof(sums));
        accumulate(sums, p->x + row * p->x_stride, p->panel, p->depth);
        for (size_t lane = 0; lane < p->lanes; lane++) {
            p->out[row * p->out_stride + lane] = scaled(sums[lane], scale->shift, scale->multiplier[lane]);
        }
    }
}

static void slice(const ternary_product *p, const ternary_scale *scale, int32_t *sums, bool first,
                  bool last) {
    for (size_t row = 0; row < p->rows; row++, sums += TERNARY_LANES) {
        if (first) {
            start_of(scale, sums);
        }
        accumulate(sums, p->x + row * p->x_stride, p->panel, p->depth);
        for (size_t lane = 0; last && lane < p->lanes; lane++) {
            p->out[row * p->out_stride + lane] = scaled(sums[lane], scale->shift, scale->multiplier[lane]);
        }
    }
}

static void region(const ternary_region *r, const int8_t *panel, int8_t *out, const int32_t *start,
                   const ternary_scale *scale) {
    for (size_t i = 0; i < r->rows * r->columns; i++) {
        size_t row = i / r->columns, column = i % r->columns;
        const int8_t *x = r->x + row * r->x_row + column * r->x_column;
        int8_t *y = out + row * r->out_row + column * r->out_column;
        int32_t sums[TERNARY_LANES];
        memcpy(sums, start, sizeof(sums));
        for (size_t run = 0; run < r->runs; run++) {
            accumulate(sums, x + run * r->x_line, panel + run * r->panel_line, r->run);
        }
        for (size_t lane = 0; lane < TERNARY_LANES; lane++) {
            y[lane] = scaled(sums[lane], scale->shift, scale->multiplier[lane]);
        }
    }
}

static void regions(const ternary_region *r, size_t count, const int8_t *panel, int8_t *out,
                    const ternary_scale *scale) {
    int32_t start[TERNARY_LANES];
    start_of(scale, start);
    for (; count; count--, r++) {
        region(r, panel + r->panel, out + r->out, start, scale);
    }
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
    memset(panel + rows * TERNARY_LANES, 0, (ternary_round_up(rows) - rows) * TERNARY_LANES);
}

const ternary_backend ternary_reference = {
    .name = "reference",
    .decode = decode,
    .linear = linear,
    .slice = slice,
    .regions = regions,
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

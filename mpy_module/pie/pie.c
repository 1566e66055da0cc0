// SPDX-License-Identifier: MIT
// The backend for the ESP32-S3's PIE unit. Arguments that its kernels cannot take (unaligned, not a multiple
// of 16, beyond their bounds) go through aligned copies or to the reference backend.

#include <stdbool.h>
#include <string.h>

#include "backends.h"
#include "kernels.h"
#include "numbers.h"

enum { VECTOR = 16 };

#define ALIGNED __attribute__((aligned(VECTOR)))

static bool aligned(uintptr_t bits) {
    return bits % VECTOR == 0;
}

static uintptr_t bits_of(const void *pointer) {
    return (uintptr_t)pointer;
}

typedef void kernel(const pie_product *p);

static pie_product product_of(const ternary_product *p) {
    return (pie_product){
        .x = p->x,
        .panel = p->panel,
        .out = p->out,
        .rows = p->rows,
        .groups = (uint32_t)(ternary_round_up(p->depth) / VECTOR),
        .x_skip = (uint32_t)(p->x_stride - ternary_round_up(p->depth)),
        .out_stride = p->out_stride,
        .multiplier = p->panel, // loaded but unused; any aligned address
    };
}

static bool direct_x(const ternary_product *p) {
    return aligned(bits_of(p->x) | p->x_stride | p->depth);
}

static bool direct_out(const ternary_product *p) {
    return p->lanes == VECTOR && aligned(bits_of(p->out) | p->out_stride);
}

// An aligned copy of a row of x, padded with zeros.
static const int8_t *copied(const ternary_product *p, size_t row) {
    size_t padded = ternary_round_up(p->depth);
    memcpy(p->spare, p->x + row * p->x_stride, p->depth);
    memset(p->spare + p->depth, 0, padded - p->depth);
    return p->spare;
}

// Runs a kernel on all rows, through copies where needed; `step`: bytes of `begin` for each row.
static void run(const ternary_product *p, pie_product *k, kernel *call, size_t step) {
    bool x_fits = direct_x(p), out_fits = direct_out(p);
    if (x_fits && out_fits) {
        call(k);
        return;
    }
    ALIGNED int8_t y[VECTOR];
    const int8_t *begin = k->begin;
    k->rows = 1;
    for (size_t row = 0; row < p->rows; row++) {
        int8_t *out = p->out + row * p->out_stride;
        k->x = x_fits ? p->x + row * p->x_stride : copied(p, row);
        k->out = out_fits ? out : y;
        k->begin = begin + row * step;
        call(k);
        if (!out_fits) {
            memcpy(out, y, p->lanes);
        }
    }
}

// Packs half of QACC, 8 lanes of 20 bits, into five words (`high` is the fifth):
//
//     bit     31              24              16               8               0
//     low[0] |   lane 1, bits 11-0   |                 lane 0                |
//     low[1] | 3, 3-0|                 lane 2                | lane 1, 19-12 |
//     low[2] |       lane 4, bits 15-0       |       lane 3, bits 19-4       |
//     low[3] |  lane 6, 7-0  |                 lane 5                |4,19-16|
//     high   |                 lane 7                |   lane 6, bits 19-8   |
//
// Lane i is bias[i] * 2^shift, within 20 bits.
static void pack_half(const int16_t *bias, int32_t shift, uint32_t *low, uint32_t *high) {
#define LANE(i) ((uint32_t)bias[i] << shift)
#define LANE_20(i) (LANE(i) & 0xfffff)
    uint32_t lane = LANE_20(1);
    low[0] = LANE_20(0) | lane << 20;
    low[1] = lane >> 12 | LANE_20(2) << 8 | LANE(3) << 28;
    low[2] = LANE_20(3) >> 4 | LANE(4) << 16;
    lane = LANE_20(6);
    low[3] = LANE_20(4) >> 16 | LANE_20(5) << 4 | lane << 24;
    *high = lane >> 8 | LANE(7) << 12;
#undef LANE_20
#undef LANE
}

static int32_t signed_20(uint32_t bits) {
    return (int32_t)(bits << 12) >> 12;
}

static void unpack_half(const uint32_t *low, uint32_t high, int32_t *lanes) {
    lanes[0] = signed_20(low[0]);
    lanes[1] = signed_20(low[0] >> 20 | low[1] << 12);
    lanes[2] = signed_20(low[1] >> 8);
    lanes[3] = signed_20(low[1] >> 28 | low[2] << 4);
    lanes[4] = signed_20(low[2] >> 16 | low[3] << 16);
    lanes[5] = signed_20(low[3] >> 4);
    lanes[6] = signed_20(low[3] >> 24 | high << 8);
    lanes[7] = signed_20(high >> 12);
}

// QACC in memory: the low words of both halves, then the high words.
typedef struct {
    uint32_t low[2][4], high[2];
} ALIGNED accumulators;

static void pack(const ternary_scale *scale, accumulators *begin) {
    if (scale->bias_shift == 0 && aligned(bits_of(scale->bias))) {
        pie_pack(scale->bias, begin);
        return;
    }
    pack_half(scale->bias, scale->bias_shift, begin->low[0], &begin->high[0]);
    pack_half(scale->bias + 8, scale->bias_shift, begin->low[1], &begin->high[1]);
}

// The multipliers at an aligned address; `copy` has room for 16.
static const int8_t *multipliers(const ternary_scale *scale, int8_t *copy) {
    return aligned(bits_of(scale->multiplier)) ? scale->multiplier : memcpy(copy, scale->multiplier, VECTOR);
}

static void linear(const ternary_product *p, const ternary_scale *scale) {
    if (!aligned(bits_of(p->panel)) || !direct_x(p)) {
        ternary_reference.linear(p, scale);
        return;
    }
    accumulators begin;
    pack(scale, &begin);
    ALIGNED int8_t copy[VECTOR];
    pie_product k = product_of(p);
    k.begin = &begin;
    k.shift = (uint32_t)scale->shift;
    k.multiplier = multipliers(scale, copy);
    run(p, &k, pie_linear, 0);
}

static void slice(const ternary_product *p, const ternary_scale *scale, int32_t *sums, bool first,
                  bool last) {
    // The same answer for all slices of a row: they begin at multiples of 16 inputs.
    if (!aligned(bits_of(p->panel)) || !direct_x(p)) {
        ternary_reference.slice(p, scale, sums, first, last);
        return;
    }
    ALIGNED int8_t copy[VECTOR];
    pie_product k = product_of(p);
    if (last) {
        k.begin = sums;
        k.shift = (uint32_t)scale->shift;
        k.multiplier = multipliers(scale, copy);
        run(p, &k, pie_last_slice, VECTOR * sizeof(*sums));
        return;
    }
    accumulators begin;
    k.out = (int8_t *)sums;
    k.begin = sums;
    if (first) {
        pack(scale, &begin);
        k.begin = &begin;
        pie_first_slice(&k);
    } else {
        pie_slice(&k);
    }
}

// Patches side by side, or one above the other if there are more of these, in one call.
static void regions(const ternary_region *r, size_t count, const int8_t *panel, int8_t *out,
                    const ternary_scale *scale) {
    accumulators begin;
    pack(scale, &begin);
    ALIGNED int8_t copy[VECTOR];
    pie_patches k = {
        .begin = &begin, .shift = (uint32_t)scale->shift, .multiplier = multipliers(scale, copy)};
    for (; count; count--, r++) {
        const bool down = r->columns < r->rows;
        const size_t step = down ? r->x_row : r->x_column, other = down ? r->x_column : r->x_row;
        const size_t other_out = down ? r->out_column : r->out_row;
        k.x = r->x;
        k.panel = panel + r->panel;
        k.out = out + r->out;
        k.patches = (uint32_t)(down ? r->rows : r->columns);
        k.groups = (uint32_t)(r->run / VECTOR);
        k.runs = (uint32_t)r->runs;
        k.x_skip = (uint32_t)(r->x_line - r->run);
        k.x_next = (uint32_t)(step - (r->runs - 1) * r->x_line - r->run);
        k.panel_skip = (uint32_t)(r->panel_line - r->run * VECTOR);
        k.out_stride = (uint32_t)(down ? r->out_row : r->out_column);
        for (size_t calls = down ? r->columns : r->rows; calls; calls--) {
            pie_region(&k);
            k.x += other;
            k.out += other_out;
        }
    }
}

static void sums(const ternary_product *p, int32_t *lanes) {
    if (!aligned(bits_of(p->panel)) || !direct_x(p)) {
        ternary_reference.sums(p, lanes);
        return;
    }
    accumulators end;
    pie_product k = product_of(p);
    k.out = (int8_t *)&end;
    k.rows = 1;
    pie_sums(&k);
    unpack_half(end.low[0], end.high[0], lanes);
    unpack_half(end.low[1], end.high[1], lanes + 8);
}

// Whether products of these rows with any panel fit QACC: 128 sum |x| <= TERNARY_MAX_ACCUMULATOR.
// pie_magnitude counts |-128| as 127, so each value may add 1.
static bool within_20_bits(const ternary_product *p) {
    return direct_x(p) &&
           pie_magnitude(p->x, p->x_stride, p->rows, p->depth / VECTOR) + p->depth <= TERNARY_MAX_WEIGHT_SUM;
}

static void scores(const ternary_product *p, size_t columns, int32_t shift) {
    if (!aligned(bits_of(p->panel)) || !within_20_bits(p)) {
        ternary_reference.scores(p, columns, shift);
        return;
    }
    ternary_product panel = *p;
    for (size_t column = 0; column < columns; column += VECTOR) {
        panel.lanes = ternary_smaller(columns - column, VECTOR);
        pie_product k = product_of(&panel);
        k.shift = (uint32_t)shift;
        run(&panel, &k, pie_scores, 0);
        panel.panel += p->depth * VECTOR;
        panel.out += VECTOR;
    }
}

static void values(const ternary_product *p, const ternary_mean *means) {
    if (!aligned(bits_of(p->panel) | bits_of(p->spare))) {
        ternary_reference.values(p, means);
        return;
    }
    pie_product k = product_of(p);
    k.begin = means;
    run(p, &k, pie_values, sizeof(*means));
}

static void decode(const uint8_t *packed, size_t vectors, int8_t *trits) {
    if (!aligned(bits_of(packed) | bits_of(trits))) {
        ternary_reference.decode(packed, vectors, trits);
    } else if (vectors) {
        pie_decode(packed, vectors, trits);
    }
}

// `flip` in pie_lookup: the index is x + 128.
enum { RISE = 0x80 };

static void widen(const int8_t *table, uint32_t *words) {
    if (aligned(bits_of(table))) {
        pie_widen(table, words);
        return;
    }
    for (int i = 0; i < TERNARY_TABLE_SIZE; i++) {
        words[i] = (uint8_t)table[i];
    }
}

static void softmax(const int8_t *scores, size_t rows, size_t tokens, size_t stride, const int8_t *table,
                    int8_t *weights, int32_t *sums) {
    if (!aligned(bits_of(scores) | bits_of(weights) | stride)) {
        ternary_reference.softmax(scores, rows, tokens, stride, table, weights, sums);
        return;
    }
    ALIGNED uint32_t words[TERNARY_TABLE_SIZE];
    widen(table, words);
    uint32_t vectors = (uint32_t)(ternary_round_up(tokens) / VECTOR);
    pie_row row = {.words = words, .vectors = vectors};
    const size_t lanes = tokens - (vectors - 1) * VECTOR;
    memset(row.keep, -1, lanes);
    memset(row.least + lanes, -128, VECTOR - lanes);
    for (size_t i = 0; i < rows; i++) {
        int32_t sum = pie_softmax(scores + i * stride, weights + i * stride, &row);
        int32_t halvings = ternary_halvings(sum);
        sums[i] = halvings ? pie_halve(weights + i * stride, vectors, (uint32_t)halvings) : sum;
    }
}

static int32_t total(const int8_t *x, size_t count) {
    size_t whole = aligned(bits_of(x)) ? count / VECTOR * VECTOR : 0;
    int32_t sum = whole ? (int32_t)pie_total(x, (uint32_t)(whole / VECTOR)) : 0;
    return sum + ternary_reference.total(x + whole, count - whole);
}

static bool no_signs(const int8_t *x, size_t count) {
    size_t whole = aligned(bits_of(x)) ? count / VECTOR * VECTOR : 0;
    if (whole && pie_least(x, (uint32_t)(whole / VECTOR)) < 0) {
        return false;
    }
    return ternary_reference.no_signs(x + whole, count - whole);
}

static void clear(int8_t *to, size_t count) {
    if (aligned(bits_of(to) | count)) {
        pie_clear(to, (uint32_t)(count / VECTOR));
    } else {
        memset(to, 0, count);
    }
}

static void transpose(const int8_t *keys, size_t stride, size_t lanes, size_t depth, int8_t *panel) {
    if (lanes == VECTOR && aligned(bits_of(keys) | stride | depth | bits_of(panel))) {
        pie_transpose(keys, stride, (uint32_t)(depth / VECTOR), panel);
        pie_transpose(keys + 8 * stride, stride, (uint32_t)(depth / VECTOR), panel + 8);
        return;
    }
    clear(panel, depth * VECTOR);
    for (size_t lane = 0; lane < lanes; lane++) {
        for (size_t k = 0; k < depth; k++) {
            panel[k * VECTOR + lane] = keys[lane * stride + k];
        }
    }
}

static void gather(const int8_t *in, size_t stride, size_t rows, size_t lanes, int8_t *panel) {
    if (lanes == VECTOR && aligned(bits_of(in) | stride | bits_of(panel))) {
        pie_gather(in, stride, rows, panel);
        clear(panel + rows * VECTOR, (ternary_round_up(rows) - rows) * VECTOR);
    } else {
        ternary_reference.gather(in, stride, rows, lanes, panel);
    }
}

static void lookup(const int8_t *x, size_t count, const int8_t *table, int8_t *out) {
    size_t whole = aligned(bits_of(x) | bits_of(out)) ? count / VECTOR * VECTOR : 0;
    if (whole >= TERNARY_TABLE_SIZE) { // enough to amortise a table of words
        ALIGNED uint32_t words[TERNARY_TABLE_SIZE];
        widen(table, words);
        pie_lookup(x, (uint32_t)(whole / VECTOR), words, RISE, out);
    } else {
        whole = 0;
    }
    ternary_reference.lookup(x + whole, count - whole, table, out + whole);
}

static void residual_start(int16_t *residual, const int8_t *y, size_t count, int32_t shift) {
    size_t whole = aligned(bits_of(residual) | bits_of(y)) ? count / VECTOR * VECTOR : 0;
    pie_residual_start(residual, y, (uint32_t)(whole / VECTOR), (uint32_t)shift);
    ternary_reference.residual_start(residual + whole, y + whole, count - whole, shift);
}

static void residual_add(int16_t *residual, const int8_t *y, size_t count, int32_t shift) {
    size_t whole = aligned(bits_of(residual) | bits_of(y)) ? count / VECTOR * VECTOR : 0;
    pie_residual_add(residual, y, (uint32_t)(whole / VECTOR), (uint32_t)shift);
    ternary_reference.residual_add(residual + whole, y + whole, count - whole, shift);
}

enum { LANES_16 = 8 };

static int32_t sum(const int16_t *x, size_t count) {
    if (count < LANES_16 || !aligned(bits_of(x))) {
        return ternary_reference.sum(x, count);
    }
    size_t whole = count / LANES_16 * LANES_16;
    int32_t total = pie_sum(x, (uint32_t)(whole / LANES_16));
    return whole == count ? total : total + ternary_reference.sum(x + whole, count - whole);
}

static uint64_t squares(const int16_t *x, size_t count, int32_t mean) {
    enum { MOST = 63 * LANES_16 };
    uint64_t total = 0;
    while (aligned(bits_of(x)) && count >= LANES_16) {
        size_t whole = count < MOST ? count / LANES_16 * LANES_16 : MOST;
        ALIGNED uint64_t part;
        pie_squares(x, (uint32_t)(whole / LANES_16), mean, &part);
        total += part;
        x += whole;
        count -= whole;
    }
    return count ? total + ternary_reference.squares(x, count, mean) : total;
}

static void norm(const ternary_norm *n, const int16_t *x, int8_t *y) {
    uintptr_t bits = bits_of(x) | bits_of(y) | bits_of(n->gamma) | bits_of(n->beta);
    if (!aligned(bits | n->width)) {
        ternary_reference.norm(n, x, y);
        return;
    }
    pie_norm_row row = {
        .x = x,
        .gamma = n->gamma,
        .beta = n->beta,
        .y = y,
        .pairs = (uint32_t)(n->width / VECTOR),
        .mean = n->mean,
        .factor = n->factor,
        .shift = n->shift,
    };
    pie_norm(&row);
}

static void copy(int8_t *to, const int8_t *from, size_t count, size_t rows, size_t stride) {
    if (aligned(bits_of(to) | bits_of(from) | count | stride) && count) {
        pie_copy(to, from, (uint32_t)(count / VECTOR), rows, stride - count);
    } else {
        ternary_reference.copy(to, from, count, rows, stride);
    }
}

// The data cache's manual preload (ESP-IDF soc/esp32s3 extmem_reg.h) loads lines while the core computes.
// Both cores share it; while it is busy, a prefetch is skipped. TERNARY_CACHE_LINE is the line size in the
// board's sdkconfig.
#ifndef TERNARY_CACHE_LINE
#define TERNARY_CACHE_LINE 64
#endif

typedef struct {
    uint32_t control, address, lines;
} preload_registers;

enum { PRELOAD_START = 1, PRELOAD_DONE = 2 };
#define PRELOAD ((volatile preload_registers *)0x600c4040)
#define EXTERNAL_BEGIN 0x3c000000u
#define EXTERNAL_END 0x3e000000u

static bool prefetch(const void *data, size_t size) {
    uintptr_t first = bits_of(data) / TERNARY_CACHE_LINE;
    uintptr_t last = (bits_of(data) + size - 1) / TERNARY_CACHE_LINE;
    if (bits_of(data) < EXTERNAL_BEGIN || bits_of(data) + size > EXTERNAL_END) {
        return false;
    }
    if (PRELOAD->control & PRELOAD_DONE) {
        PRELOAD->address = (uint32_t)(first * TERNARY_CACHE_LINE);
        PRELOAD->lines = (uint32_t)(last - first + 1);
        PRELOAD->control = PRELOAD_START;
    }
    return true;
}

const ternary_backend ternary_pie = {
    .name = "pie",
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

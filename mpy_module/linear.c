// SPDX-License-Identifier: MIT
#include <string.h>

#include "ahead.h"
#include "backends.h"
#include "checks.h"
#include "layer.h"
#include "numbers.h"
#include "operations.h"
#include "parallel.h"
#include "residual.h"

#ifdef TERNARY_HEAP
#include <stdlib.h>
#endif

typedef ternary_layer layer;
typedef ternary_columns columns;

// Vectors of a tile.
static size_t vectors_of(size_t inputs) {
    return (inputs + TERNARY_TRITS_PER_BYTE - 1) / TERNARY_TRITS_PER_BYTE;
}

// Bytes of a decoded tile; a product may read up to a multiple of 16 rows.
static size_t panel_bytes(size_t inputs) {
    size_t decoded = vectors_of(inputs) * TERNARY_VECTOR_TRITS;
    size_t read = ternary_round_up(inputs) * TERNARY_LANES;
    return decoded > read ? decoded : read;
}

// Where scratch has no room for whole panels, weights are decoded slice by slice: multiples of STEP inputs,
// which are whole vectors and whole groups of 16, beside the sums so far of some rows. A part needs room for
// SLICE_INPUTS and LEAST_ROWS.
enum { STEP = TERNARY_TRITS_PER_BYTE * TERNARY_LANES, SLICE_INPUTS = 5 * STEP, LEAST_ROWS = 64 };

enum { SUMS_BYTES = TERNARY_LANES * sizeof(int32_t) }; // of a row

// Bytes that a part needs at least.
static size_t least_bytes(size_t inputs) {
    return ternary_smaller(panel_bytes(inputs), panel_bytes(SLICE_INPUTS) + LEAST_ROWS * SUMS_BYTES);
}

enum { SPARE_BYTES = 4096 };

// Rows of x that are copied at a time: as many as fit SPARE_BYTES, at least one.
static size_t spare_rows(size_t inputs) {
    size_t rows = SPARE_BYTES / ternary_round_up(inputs);
    return rows ? rows : 1;
}

// Scratch: a panel for each part, and this.
static size_t spare_bytes(size_t inputs) {
    return spare_rows(inputs) * ternary_round_up(inputs) + TERNARY_SLACK;
}

// Inputs of a slice that has room beside the sums of these rows, or of LEAST_ROWS of them.
static size_t slice_in(size_t room, size_t rows) {
    return (room - ternary_smaller(rows, LEAST_ROWS) * SUMS_BYTES) / (STEP * TERNARY_LANES) * STEP;
}

// Shares scratch between parts: as many as there is room for, with whole panels if that is no fewer.
static bool share_scratch(const ternary_settings *settings, const ternary_arg *scratch, bool slices, layer *l,
                          ternary_error *error) {
    const size_t spare = spare_bytes(l->inputs), whole = panel_bytes(l->inputs);
    const size_t least = slices ? least_bytes(l->inputs) : whole;
    l->parts = ternary_parts_in(scratch, spare, least, settings->cores, error);
    if (l->parts == 0) {
        return false;
    }
    l->panel_stride = whole;
    l->slice = 0;
    if (scratch->size < spare + l->parts * whole) {
        l->panel_stride = (scratch->size - spare) / l->parts / TERNARY_LANES * TERNARY_LANES;
        l->slice = slice_in(l->panel_stride, l->rows);
    }
    l->panel = ternary_aligned(scratch);
    l->spare = l->panel + l->parts * l->panel_stride;
    return true;
}

bool ternary_layer_fits(const ternary_settings *settings, const ternary_arg *weight,
                        const ternary_arg *scratch, size_t inputs, size_t outputs, bool slices, layer *l,
                        ternary_error *error) {
    l->backend = settings->backend;
    l->inputs = inputs;
    l->outputs = outputs;
    l->vectors = vectors_of(l->inputs);
    l->depth = ternary_round_up(l->inputs);
    l->weight = weight->data;
    l->ahead_bytes = 0;
    uint64_t tiles = ternary_ceil_div(outputs, TERNARY_LANES);
    if (!ternary_size_is(weight, tiles * l->vectors * TERNARY_LANES, error)) {
        return false;
    }
    return share_scratch(settings, scratch, slices, l, error);
}

// Checks the arguments that all linear operations share, and fills the layer. x is [rows, K]; rows, outputs
// >= 1.
static bool check_layer(const ternary_settings *settings, const ternary_arg *x, const ternary_arg *weight,
                        const ternary_arg *scratch, size_t rows, size_t outputs, bool slices, layer *l,
                        ternary_error *error) {
    if (!ternary_size_multiple(x, rows, error)) {
        return false;
    }
    size_t inputs = x->size / rows;
    if (inputs > TERNARY_MAX_IN_FEATURES) {
        return ternary_size_is(x, (uint64_t)rows * TERNARY_MAX_IN_FEATURES, error);
    }
    l->rows = rows;
    l->x = x->data;
    return ternary_layer_fits(settings, weight, scratch, inputs, outputs, slices, l, error);
}

// Whether rows of x are aligned as vectors.
static bool rows_fit(const layer *l) {
    return ((uintptr_t)l->x | l->inputs) % TERNARY_LANES == 0;
}

// Copies at most spare_rows rows of x to aligned rows, padded with zeros.
static void copy_rows(const layer *l, size_t first, size_t count) {
    const int8_t *x = l->x + first * l->inputs;
    l->backend->clear(l->spare, count * l->depth);
    for (size_t row = 0; row < count; row++) {
        memcpy(l->spare + row * l->depth, x + row * l->inputs, l->inputs);
    }
}

static size_t tiles_of(const layer *l) {
    return (l->outputs + TERNARY_LANES - 1) / TERNARY_LANES;
}

// A part's tiles: every parts-th one, from `first` on.
typedef struct {
    size_t first, parts;
} share;

// Prefetches the next tile's weights from flash, which then load while this one is multiplied; with the last
// tile, what is read after the layer.
static void prefetch_next(const layer *l, size_t tile, share share) {
    const size_t size = l->vectors * TERNARY_LANES;
    const ternary_items next = ternary_next_items(tile, share.first, share.parts, tiles_of(l));
    if (next.count) {
        l->backend->prefetch(l->weight + next.first * size, next.count * size);
    } else if (l->ahead_bytes && ternary_prefetches_last(share.first, share.parts)) {
        l->backend->prefetch(l->ahead, l->ahead_bytes);
    }
}

static void decode_tile(const layer *l, size_t tile, share share) {
    l->backend->decode(l->weight + tile * l->vectors * TERNARY_LANES, l->vectors, l->panel);
    prefetch_next(l, tile, share);
}

static ternary_product product_of(const layer *l, size_t tile) {
    size_t left = l->outputs - tile * TERNARY_LANES;
    return (ternary_product){
        .x = l->x,
        .panel = l->panel,
        .rows = l->rows,
        .depth = l->depth,
        .lanes = ternary_smaller(left, TERNARY_LANES),
        .x_stride = l->depth,
    };
}

// 4.3: the largest |bias| that keeps the accumulator within bounds.
static int32_t bias_room(const layer *l) {
    return TERNARY_MAX_ACCUMULATOR - 128 * (int32_t)l->inputs;
}

static int32_t bias_shift(uint8_t shift) {
    return ternary_max(shift - 6, 0);
}

static bool check_biases(const layer *l, const ternary_arg *bias, const uint8_t *shifts,
                         ternary_error *error) {
    for (size_t n = 0; n < l->outputs; n += TERNARY_LANES) {
        int32_t room = bias_room(l) >> bias_shift(shifts[n / TERNARY_LANES]);
        if (room > INT16_MAX) {
            continue;
        }
        size_t end = n + ternary_smaller(l->outputs - n, TERNARY_LANES);
        if (!ternary_i16_within(bias, n, end, -room, room, error)) {
            return false;
        }
    }
    return true;
}

bool ternary_check_scales(const layer *l, const ternary_arg *bias, const ternary_arg *multiplier,
                          const ternary_arg *shift, ternary_error *error) {
    return ternary_size_is(bias, (uint64_t)l->outputs * sizeof(int16_t), error) &&
           ternary_size_is(shift, ternary_ceil_div(l->outputs, TERNARY_LANES), error) &&
           ternary_i8_in(l->backend, multiplier, 0, TERNARY_MAX_MULTIPLIER, error) &&
           ternary_u8_in(shift, 0, TERNARY_MAX_SHIFT, error) && check_biases(l, bias, shift->data, error);
}

typedef struct {
    const layer *layer;
    const columns *columns;
    ternary_tile_work work;
    const void *context;
} tiles;

// Outputs whose biases are worth a prefetch of their own: in the time of these 2 KB, the second tile's
// weights are not prefetched.
enum { MANY_OUTPUTS = 1024 };

// A tile slice by slice, to `out`: as many rows at a time as sums have room for, blocks of about the same
// size.
static void sliced_tile(const layer *l, size_t tile, share share, const ternary_scale *scale, int8_t *out,
                        size_t stride) {
    const uint8_t *packed = l->weight + tile * l->vectors * TERNARY_LANES;
    int32_t *sums = (int32_t *)(l->panel + panel_bytes(l->slice));
    const size_t room = (l->panel_stride - panel_bytes(l->slice)) / SUMS_BYTES;
    const size_t blocks = (l->rows + room - 1) / room;
    const size_t most = (l->rows + blocks - 1) / blocks;
    ternary_product p = product_of(l, tile);
    p.out_stride = stride;
    for (size_t row = 0; row < l->rows; row += most) {
        p.rows = ternary_smaller(l->rows - row, most);
        p.out = out + row * stride;
        for (size_t first = 0; first < l->inputs; first += l->slice) {
            const bool last = l->inputs - first <= l->slice;
            const size_t vector = first / TERNARY_TRITS_PER_BYTE;
            p.x = l->x + row * l->depth + first;
            p.depth = last ? l->depth - first : l->slice;
            l->backend->decode(packed + vector * TERNARY_LANES,
                               last ? l->vectors - vector : vectors_of(l->slice), l->panel);
            if (row == 0 && first == 0) {
                prefetch_next(l, tile, share);
            }
            l->backend->slice(&p, scale, sums, first == 0, last);
        }
    }
}

static void tile_part(void *context, size_t part) {
    const tiles *t = context;
    const columns *c = t->columns;
    layer l = *t->layer;
    l.panel += part * l.panel_stride;
    if (l.outputs >= MANY_OUTPUTS && ternary_prefetches(part)) {
        l.backend->prefetch(c->bias, l.outputs * sizeof(*c->bias));
    }
    for (size_t tile = part; tile < tiles_of(&l); tile += l.parts) {
        const size_t first = tile * TERNARY_LANES, lanes = ternary_smaller(l.outputs - first, TERNARY_LANES);
        const int32_t shift = c->shift[tile];
        ternary_scale scale = {
            .bias = c->bias + first,
            .multiplier = c->multiplier + first,
            .bias_shift = bias_shift(c->shift[tile]),
            .shift = shift,
        };
        int16_t bias[TERNARY_LANES];
        int8_t multiplier[TERNARY_LANES];
        if (lanes < TERNARY_LANES) {
            memset(bias, 0, sizeof(bias));
            memset(multiplier, 0, sizeof(multiplier));
            scale.bias = memcpy(bias, scale.bias, lanes * sizeof(*bias));
            scale.multiplier = memcpy(multiplier, scale.multiplier, lanes);
        }
        const share of = {.first = part, .parts = l.parts};
        if (l.slice) {
            sliced_tile(&l, tile, of, &scale, c->out + first, c->stride);
            continue;
        }
        decode_tile(&l, tile, of);
        t->work(t->context, &l, lanes, &scale, c->out + first);
    }
}

void ternary_each_tile(const layer *l, const columns *c, ternary_tile_work work, const void *context) {
    tiles all = {.layer = l, .columns = c, .work = work, .context = context};
    ternary_parallel(tile_part, &all, l->parts);
}

static void linear_tile(const void *context, const layer *l, size_t lanes, const ternary_scale *scale,
                        int8_t *out) {
    const columns *c = context;
    const ternary_product p = {
        .x = l->x,
        .panel = l->panel,
        .out = out,
        .rows = l->rows,
        .depth = l->depth,
        .lanes = lanes,
        .x_stride = l->depth,
        .out_stride = c->stride,
    };
    l->backend->linear(&p, scale);
}

void ternary_linear_tiles(const layer *l, const columns *c) {
    ternary_each_tile(l, c, linear_tile, c);
}

// A part of a layer that the backend computes whole: some groups of tiles and, if there are more parts than
// groups, some rows.
static void layer_part(void *context, size_t part) {
    const tiles *t = context;
    const layer *l = t->layer;
    const columns *c = t->columns;
    const size_t groups = (tiles_of(l) + TERNARY_PANELS - 1) / TERNARY_PANELS;
    const size_t row_parts = ternary_smaller(l->parts > groups ? l->parts / groups : 1, l->rows);
    const size_t tile_parts = l->parts / row_parts;
    if (part >= row_parts * tile_parts) {
        return;
    }
    const size_t across = part % tile_parts, down = part / tile_parts;
    const size_t tile = across * groups / tile_parts * TERNARY_PANELS;
    const size_t end =
        ternary_smaller((across + 1) * groups / tile_parts * TERNARY_PANELS * TERNARY_LANES, l->outputs);
    const size_t row = down * l->rows / row_parts, rows = (down + 1) * l->rows / row_parts - row;
    const size_t first = tile * TERNARY_LANES;
    if (first >= end || rows == 0) {
        return;
    }
    const ternary_tiles work = {
        .x = l->x + row * l->inputs,
        .packed = l->weight + first * l->vectors,
        .bias = c->bias + first,
        .multiplier = c->multiplier + first,
        .shift = c->shift + tile,
        .out = c->out + row * c->stride + first,
        .rows = rows,
        .depth = l->inputs,
        .lanes = end - first,
        .x_stride = l->inputs,
        .out_stride = c->stride,
        .panels = l->panels + part * TERNARY_PANELS * l->panel_stride,
        .panel_stride = l->panel_stride,
    };
    l->backend->tiles(&work);
}

// Computes the layer by a backend that does so as a whole; false if it lacks memory. Panels that scratch has
// no room for come from the system's heap: plans have the same bytes everywhere.
static bool whole_layer(const layer *l, const columns *c) {
    layer whole = *l;
    tiles all = {.layer = &whole, .columns = c};
    whole.panels = l->panel;
#ifdef TERNARY_HEAP
    void *memory = NULL;
    if (l->slice || TERNARY_PANELS > 1) {
        whole.panel_stride = panel_bytes(l->inputs);
        memory = malloc(l->parts * TERNARY_PANELS * whole.panel_stride + TERNARY_CACHE_LINE);
        if (!memory) {
            return false;
        }
        whole.panels = ternary_on_line(memory);
    }
    ternary_parallel(layer_part, &all, whole.parts);
    free(memory);
#else
    ternary_parallel(layer_part, &all, whole.parts);
#endif
    return true;
}

// All rows and outputs. Unaligned rows are copied, a block at a time.
void ternary_linear_rows(const layer *l, const columns *c) {
    layer block = *l;
    if (l->backend->tiles) {
        if (whole_layer(l, c)) {
            return;
        }
        block.backend = &ternary_reference; // needs no more than scratch
    }
    if (rows_fit(l)) {
        ternary_linear_tiles(&block, c);
        return;
    }
    columns to = *c;
    block.x = l->spare;
    for (size_t row = 0; row < l->rows; row += block.rows) {
        block.rows = ternary_smaller(l->rows - row, spare_rows(l->inputs));
        copy_rows(l, row, block.rows);
        to.out = c->out + row * c->stride;
        ternary_linear_tiles(&block, &to);
    }
}

// What ternary_linear and ternary_linear_add have in common.
typedef struct {
    const ternary_arg *x, *weight, *bias, *multiplier, *shift, *out, *scratch;
} linear_arguments;

#define LINEAR_ARGUMENTS(a)                                                                                  \
    {&(a)->x, &(a)->weight, &(a)->bias, &(a)->multiplier, &(a)->shift, &(a)->out, &(a)->scratch}

static bool check_linear(const ternary_settings *settings, const linear_arguments *a, layer *l, columns *c,
                         ternary_error *error) {
    const size_t outputs = a->multiplier->size;
    if (!ternary_size_multiple(a->out, outputs, error) ||
        !check_layer(settings, a->x, a->weight, a->scratch, a->out->size / outputs, outputs, true, l,
                     error) ||
        !ternary_check_scales(l, a->bias, a->multiplier, a->shift, error)) {
        return false;
    }
    *c = (columns){
        .bias = a->bias->data,
        .multiplier = a->multiplier->data,
        .shift = a->shift->data,
        .out = a->out->data,
        .stride = outputs,
    };
    return true;
}

int32_t ternary_linear(const ternary_settings *settings, const ternary_arg *arguments, ternary_error *error) {
    const ternary_linear_arguments *a = (const void *)arguments;
    const linear_arguments common = LINEAR_ARGUMENTS(a);
    layer l;
    columns c;
    if (!check_linear(settings, &common, &l, &c, error)) {
        return error->code;
    }
    ternary_linear_rows(&l, &c);
    return 0;
}

int32_t ternary_linear_add(const ternary_settings *settings, const ternary_arg *arguments,
                           ternary_error *error) {
    const ternary_linear_add_arguments *a = (const void *)arguments;
    const linear_arguments common = LINEAR_ARGUMENTS(a);
    layer l;
    columns c;
    if (!check_linear(settings, &common, &l, &c, error) ||
        !ternary_check_branch(&a->residual, &a->out, &a->residual_shift, error)) {
        return error->code;
    }
    l.ahead = a->residual.data;
    l.ahead_bytes = ternary_smaller(a->residual.size, TERNARY_MAX_PREFETCH);
    ternary_linear_rows(&l, &c);
    ternary_add_branch(settings, &a->residual, &a->out, &a->residual_shift);
    return 0;
}

int32_t ternary_linear_columns(const ternary_settings *settings, const ternary_arg *arguments,
                               ternary_error *error) {
    const ternary_linear_columns_arguments *a = (const void *)arguments;
    size_t outputs = a->multiplier.size;
    layer l;
    if (!ternary_value_in(&a->rows, 1, INT32_MAX, error) ||
        !ternary_size_multiple(&a->out, (uint64_t)a->rows.value, error) ||
        !check_layer(settings, &a->x, &a->weight, &a->scratch, (size_t)a->rows.value, outputs, true, &l,
                     error) ||
        !ternary_check_scales(&l, &a->bias, &a->multiplier, &a->shift, error) ||
        !ternary_columns_in(&a->out, l.rows, &a->column, outputs, error)) {
        return error->code;
    }
    int8_t *out = (int8_t *)a->out.data + a->column.value;
    columns c = {
        .bias = a->bias.data,
        .multiplier = a->multiplier.data,
        .shift = a->shift.data,
        .out = out,
        .stride = a->out.size / l.rows,
    };
    ternary_linear_rows(&l, &c);
    return 0;
}

static void logits_tile(const layer *l, const ternary_linear_logits_arguments *a, size_t tile) {
    const int32_t *biases = (const int32_t *)a->bias.data + tile * TERNARY_LANES;
    const int16_t *multiplier = (const int16_t *)a->multiplier.data + tile * TERNARY_LANES;
    int32_t *out = (int32_t *)a->out.data + tile * TERNARY_LANES;
    ternary_product p = product_of(l, tile);
    decode_tile(l, tile, (share){.first = 0, .parts = 1});
    for (size_t row = 0; row < l->rows; row++) {
        int32_t sums[TERNARY_LANES];
        if (!rows_fit(l)) {
            copy_rows(l, row, 1);
            p.x = l->spare;
        }
        l->backend->sums(&p, sums);
        for (size_t lane = 0; lane < p.lanes; lane++) {
            // Below 2^31: TERNARY_MAX_ACCUMULATOR * TERNARY_MAX_LOGIT_MULTIPLIER.
            out[row * l->outputs + lane] = (biases[lane] + sums[lane]) * multiplier[lane];
        }
        p.x += p.x_stride;
    }
}

int32_t ternary_linear_logits(const ternary_settings *settings, const ternary_arg *arguments,
                              ternary_error *error) {
    const ternary_linear_logits_arguments *a = (const void *)arguments;
    size_t outputs = a->multiplier.size / sizeof(int16_t), row = outputs * sizeof(int32_t);
    layer l;
    if (!ternary_size_multiple(&a->out, row, error) ||
        !check_layer(settings, &a->x, &a->weight, &a->scratch, a->out.size / row, outputs, false, &l,
                     error) ||
        !ternary_size_is(&a->bias, (uint64_t)row, error) ||
        !ternary_i16_in(&a->multiplier, 0, TERNARY_MAX_LOGIT_MULTIPLIER, error) ||
        !ternary_i32_in(&a->bias, -bias_room(&l), bias_room(&l), error)) {
        return error->code;
    }
    for (size_t tile = 0; tile < tiles_of(&l); tile++) {
        logits_tile(&l, a, tile);
    }
    return 0;
}

// Scratch for `bytes` a part; in_features: of ternary_linear_scratch_arguments.
static int32_t scratch_of(const ternary_settings *settings, const ternary_arg *in_features,
                          size_t (*bytes)(size_t inputs), ternary_error *error) {
    if (!ternary_value_in(in_features, 1, TERNARY_MAX_IN_FEATURES, error)) {
        return error->code;
    }
    size_t inputs = (size_t)in_features->value;
    return (int32_t)(spare_bytes(inputs) + (size_t)settings->cores * bytes(inputs));
}

int32_t ternary_linear_scratch(const ternary_settings *settings, const ternary_arg *arguments,
                               ternary_error *error) {
    const ternary_linear_scratch_arguments *a = (const void *)arguments;
    return scratch_of(settings, &a->in_features, panel_bytes, error);
}

int32_t ternary_linear_scratch_least(const ternary_settings *settings, const ternary_arg *arguments,
                                     ternary_error *error) {
    const ternary_linear_scratch_least_arguments *a = (const void *)arguments;
    return scratch_of(settings, &a->in_features, least_bytes, error);
}

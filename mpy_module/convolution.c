// SPDX-License-Identifier: MIT
// TernaryBitConv2d (4.6). A backend with `regions` multiplies patches where they lie in the picture, without
// the pixels outside of it; otherwise patches are cut out, some rows of them at a time.
#include "backends.h"
#include "checks.h"
#include "layer.h"
#include "numbers.h"
#include "operations.h"
#include "window.h"

#ifdef TERNARY_HEAP
#include <stdlib.h>
#endif

// Positions of the kernel along a side, of whose pixels low..high - 1 are inside the picture.
typedef struct {
    int32_t first, count, low, high;
} stretch;

// From `first` on: all positions between the borders, or one at a border.
static stretch stretch_at(const ternary_window *w, int32_t side, int32_t positions, int32_t first) {
    int32_t start = first * w->stride - w->padding;
    stretch s = {
        .first = first,
        .count = 1,
        .low = ternary_max(-start, 0),
        .high = ternary_min(w->kernel, side - start),
    };
    if (s.low == 0 && s.high == w->kernel) {
        int32_t last = (side + w->padding - w->kernel) / w->stride;
        s.count = ternary_min(last, positions - 1) - first + 1;
    }
    return s;
}

enum { MOST_REGIONS = 16 }; // nine, unless stride and padding are unusual

typedef struct {
    size_t count;
    ternary_region regions[MOST_REGIONS];
} convolution;

static ternary_region region_of(const ternary_window *w, size_t outputs, stretch v, stretch h) {
    const size_t channels = (size_t)w->channels, stride = (size_t)w->stride;
    const size_t x = (size_t)(h.first * w->stride - w->padding + h.low) * channels;
    const size_t y = (size_t)(v.first * w->stride - w->padding + v.low) * w->line;
    return (ternary_region){
        .x = w->picture + y + x,
        .panel = (size_t)(v.low * w->kernel + h.low) * channels * TERNARY_LANES,
        .out = (size_t)(v.first * w->columns + h.first) * outputs,
        .rows = (size_t)v.count,
        .columns = (size_t)h.count,
        .runs = (size_t)(v.high - v.low),
        .run = (size_t)(h.high - h.low) * channels,
        .x_row = stride * w->line,
        .x_column = stride * channels,
        .x_line = w->line,
        .panel_line = w->run * TERNARY_LANES,
        .out_row = (size_t)w->columns * outputs,
        .out_column = outputs,
    };
}

// Whether the backend can find the patches in the picture; then, where.
static bool in_place(const ternary_layer *l, const ternary_columns *c, const ternary_window *w,
                     convolution *found) {
    uintptr_t bits = (uintptr_t)w->picture | (uintptr_t)c->out | (uintptr_t)w->channels | l->outputs;
    if (!l->backend->regions || bits % TERNARY_LANES) {
        return false;
    }
    stretch v, h;
    for (int32_t row = 0; row < w->rows; row += v.count) {
        v = stretch_at(w, w->height, w->rows, row);
        for (int32_t column = 0; column < w->columns; column += h.count) {
            h = stretch_at(w, w->width, w->columns, column);
            if (found->count == MOST_REGIONS) {
                return false;
            }
            found->regions[found->count++] = region_of(w, l->outputs, v, h);
        }
    }
    return true;
}

static void convolve_tile(const void *context, const ternary_layer *l, size_t lanes,
                          const ternary_scale *scale, int8_t *out) {
    (void)lanes; // 16
    const convolution *c = context;
    l->backend->regions(c->regions, c->count, l->panel, out, scale);
}

// `room` bytes of memory for patches: at least a row of them.
static void convolve_patches(ternary_layer *l, ternary_columns c, const ternary_window *w, int8_t *memory,
                             size_t room) {
    const bool dense = l->backend->tiles;
    const size_t step = dense ? w->inputs : l->depth, row = (size_t)w->columns * step;
    const int32_t most = (int32_t)ternary_smaller(room / row, (size_t)w->rows);
    l->x = memory;
    for (int32_t first = 0; first < w->rows; first += most) {
        const int32_t count = ternary_min(most, w->rows - first);
        ternary_cut_patches(l->backend, w, first, first + count, memory, step);
        l->rows = (size_t)count * (size_t)w->columns;
        if (dense) {
            ternary_linear_rows(l, &c);
        } else {
            ternary_linear_tiles(l, &c);
        }
        c.out += l->rows * l->outputs;
    }
}

int32_t ternary_convolution(const ternary_settings *settings, const ternary_arg *arguments,
                            ternary_error *error) {
    const ternary_convolution_arguments *a = (const void *)arguments;
    ternary_window w = {0};
    ternary_layer l = {0};
    size_t outputs = a->multiplier.size;
    if (!ternary_window_of((const void *)arguments, &w, error) ||
        !ternary_size_is(&a->out, (uint64_t)w.rows * (uint64_t)w.columns * outputs, error) ||
        !ternary_size_at_least(&a->patches, (uint64_t)w.columns * ternary_round_up(w.inputs), error) ||
        !ternary_layer_fits(settings, &a->weight, &a->scratch, w.inputs, outputs, false, &l, error) ||
        !ternary_check_scales(&l, &a->bias, &a->multiplier, &a->shift, error)) {
        return error->code;
    }
    ternary_columns c = {
        .bias = a->bias.data,
        .multiplier = a->multiplier.data,
        .shift = a->shift.data,
        .out = a->out.data,
        .stride = outputs,
    };
    convolution all = {.count = 0};
    if (in_place(&l, &c, &w, &all)) {
        ternary_each_tile(&l, &c, convolve_tile, &all);
        return 0;
    }
#ifdef TERNARY_HEAP
    // All at once: such backends decode weights anew for each pass.
    size_t whole = (size_t)w.rows * (size_t)w.columns * ternary_round_up(w.inputs);
    int8_t *memory = l.backend->tiles && whole > a->patches.size ? malloc(whole) : NULL;
    if (memory) {
        convolve_patches(&l, c, &w, memory, whole);
        free(memory);
        return 0;
    }
#endif
    convolve_patches(&l, c, &w, a->patches.data, a->patches.size);
    return 0;
}

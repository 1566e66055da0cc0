// SPDX-License-Identifier: MIT
// A ternary layer tile by tile: what the linear operations and the convolution share.

#ifndef TERNARY_LAYER_H
#define TERNARY_LAYER_H

#include <stdbool.h>

#include "backends.h"

typedef struct {
    const ternary_backend *backend;
    size_t parts; // that tiles are shared between
    size_t rows, inputs, outputs;
    size_t vectors; // packed vectors of a tile
    const int8_t *x;
    const uint8_t *weight;
    int8_t *panel;       // decoded tiles, or slices of them, one for each part
    int8_t *panels;      // TERNARY_PANELS for each part, of a backend that computes whole layers
    size_t panel_stride; // bytes of one; of a slice, with its sums
    size_t slice;        // inputs of a slice; 0: panels are whole
    int8_t *spare;       // aligned copies of rows
    size_t depth;        // K rounded up to 16: bytes of an aligned row
    const void *ahead;   // what is read after the layer, and its bytes: prefetched with the last tile
    size_t ahead_bytes;
} ternary_layer;

// Scales and destination of a layer's outputs: columns of rows that are `stride` bytes apart.
typedef struct {
    const int16_t *bias;
    const int8_t *multiplier;
    const uint8_t *shift;
    int8_t *out;
    size_t stride;
} ternary_columns;

// Sets what follows from K = inputs, 1..TERNARY_MAX_IN_FEATURES, and checks weight and scratch; slices:
// whether ternary_linear_rows or ternary_linear_tiles computes the layer, which can do with less scratch.
bool ternary_layer_fits(const ternary_settings *settings, const ternary_arg *weight,
                        const ternary_arg *scratch, size_t inputs, size_t outputs, bool slices,
                        ternary_layer *l, ternary_error *error);

// 4.1, 4.3
bool ternary_check_scales(const ternary_layer *l, const ternary_arg *bias, const ternary_arg *multiplier,
                          const ternary_arg *shift, ternary_error *error);

// All rows and outputs; x: [rows, inputs].
void ternary_linear_rows(const ternary_layer *l, const ternary_columns *c);

// The same for x [rows, depth], padded with zeros, and a backend without `tiles`.
void ternary_linear_tiles(const ternary_layer *l, const ternary_columns *c);

// What a part does with each of its tiles, which is decoded in l->panel: its scales, and where its first
// output goes.
typedef void (*ternary_tile_work)(const void *context, const ternary_layer *l, size_t lanes,
                                  const ternary_scale *scale, int8_t *out);

// Calls work(context, ...) for all tiles, shared between the parts. Panels are whole.
void ternary_each_tile(const ternary_layer *l, const ternary_columns *c, ternary_tile_work work,
                       const void *context);

#endif

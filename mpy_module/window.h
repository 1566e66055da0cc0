// SPDX-License-Identifier: MIT
// The patches of a convolution (4.6).

#ifndef TERNARY_WINDOW_H
#define TERNARY_WINDOW_H

#include <stdbool.h>

#include "ternary.h"

// Sides in pixels, all below 2^13.
typedef struct {
    const int8_t *picture;
    int32_t width, height, channels, kernel, stride, padding;
    int32_t rows, columns; // of patches, each >= 1
    size_t run, line;      // bytes of a row of a patch, and of a row of the picture
    size_t inputs;         // K: bytes of a patch
} ternary_window;

// The first arguments of operations on patches.
typedef struct {
    ternary_arg picture, width, channels, kernel, stride, padding;
} ternary_window_arguments;

bool ternary_window_of(const ternary_window_arguments *a, ternary_window *w, ternary_error *error);

// Cuts rows first..end - 1 of patches, `step` >= K bytes from patch to patch, zeros between them.
void ternary_cut_patches(const ternary_backend *backend, const ternary_window *w, int32_t first, int32_t end,
                         int8_t *out, size_t step);

#endif

// SPDX-License-Identifier: MIT
#include "backends.h"
#include "checks.h"
#include "numbers.h"
#include "operations.h"
#include "window.h"

// Positions of the kernel along a side; 0 if it does not fit.
static int32_t positions(const ternary_window *w, int32_t side) {
    int32_t room = side + 2 * w->padding - w->kernel;
    return room < 0 ? 0 : room / w->stride + 1;
}

bool ternary_window_of(const ternary_window_arguments *a, ternary_window *w, ternary_error *error) {
    if (!ternary_value_in(&a->width, 1, TERNARY_MAX_PICTURE, error) ||
        !ternary_value_in(&a->channels, 1, TERNARY_MAX_IN_FEATURES, error)) {
        return false;
    }
    uint64_t stride = (uint64_t)a->width.value * (uint64_t)a->channels.value;
    if (!ternary_size_multiple(&a->picture, stride, error)) {
        return false;
    }
    uint64_t height = a->picture.size / stride;
    if (height > TERNARY_MAX_PICTURE) {
        return ternary_size_is(&a->picture, stride * TERNARY_MAX_PICTURE, error);
    }
    // The largest kernel whose patch is within a linear layer's inputs.
    int32_t largest = 1;
    while ((largest + 1) * (largest + 1) * a->channels.value <= TERNARY_MAX_IN_FEATURES) {
        largest++;
    }
    if (!ternary_value_in(&a->kernel, 1, largest, error) ||
        !ternary_value_in(&a->stride, 1, a->kernel.value, error) ||
        !ternary_value_in(&a->padding, 0, a->kernel.value - 1, error)) {
        return false;
    }
    *w = (ternary_window){
        .picture = a->picture.data,
        .width = a->width.value,
        .height = (int32_t)height,
        .channels = a->channels.value,
        .kernel = a->kernel.value,
        .stride = a->stride.value,
        .padding = a->padding.value,
        .run = (size_t)(a->kernel.value * a->channels.value),
        .line = (size_t)stride,
        .inputs = (size_t)(a->kernel.value * a->kernel.value * a->channels.value),
    };
    w->columns = positions(w, w->width);
    w->rows = positions(w, w->height);
    if (w->columns == 0 || w->rows == 0) {
        int32_t shorter = ternary_min(w->width, w->height);
        return ternary_value_in(&a->kernel, 1, shorter + 2 * w->padding, error);
    }
    return true;
}

// Rows of a patch that are too short for a call, by three bytes, as many kernels and pictures are.
static void copy_short(const int8_t *x, size_t line, size_t inside, int32_t rows, int8_t *out, size_t run) {
    for (; rows; rows--, x += line, out += run) {
        size_t i = 0;
        for (; i + 3 <= inside; i += 3) {
            int8_t a = x[i], b = x[i + 1], c = x[i + 2];
            out[i] = a;
            out[i + 1] = b;
            out[i + 2] = c;
        }
        for (; i < inside; i++) {
            out[i] = x[i];
        }
    }
}

// The pixels of a patch that are inside the picture; zeros are there already.
static void copy_patch(const ternary_backend *backend, const ternary_window *w, int32_t top, int32_t left,
                       int8_t *out) {
    const int32_t from_y = ternary_max(top, 0), to_y = ternary_min(top + w->kernel, w->height);
    const int32_t from_x = ternary_max(left, 0), to_x = ternary_min(left + w->kernel, w->width);
    const size_t inside = (size_t)((to_x - from_x) * w->channels);
    const int8_t *x = w->picture + (size_t)from_y * w->line + (size_t)(from_x * w->channels);
    out += (size_t)(from_y - top) * w->run + (size_t)((from_x - left) * w->channels);
    if (inside < TERNARY_LANES) {
        copy_short(x, w->line, inside, to_y - from_y, out, w->run);
    } else if (inside == w->run) {
        backend->copy(out, x, inside, (size_t)(to_y - from_y), w->line);
    } else {
        for (int32_t y = from_y; y < to_y; y++, x += w->line, out += w->run) {
            backend->copy(out, x, inside, 1, 0);
        }
    }
}

void ternary_cut_patches(const ternary_backend *backend, const ternary_window *w, int32_t first, int32_t end,
                         int8_t *out, size_t step) {
    if (w->padding || step > w->inputs) {
        backend->clear(out, (size_t)(end - first) * (size_t)w->columns * step);
    }
    for (int32_t row = first; row < end; row++) {
        const int32_t top = row * w->stride - w->padding;
        const bool inside = w->run < TERNARY_LANES && top >= 0 && top + w->kernel <= w->height;
        const int8_t *line = w->picture + (inside ? (size_t)top * w->line : 0);
        for (int32_t column = 0, left = -w->padding; column < w->columns; column++, left += w->stride) {
            if (inside && left >= 0 && left + w->kernel <= w->width) {
                copy_short(line + (size_t)(left * w->channels), w->line, w->run, w->kernel, out, w->run);
            } else {
                copy_patch(backend, w, top, left, out);
            }
            out += step;
        }
    }
}

int32_t ternary_patches(const ternary_settings *settings, const ternary_arg *arguments,
                        ternary_error *error) {
    const ternary_patches_arguments *a = (const void *)arguments;
    ternary_window w = {0};
    if (!ternary_window_of((const void *)arguments, &w, error)) {
        return error->code;
    }
    size_t row = (size_t)w.columns * w.inputs; // below 2^25
    if (!ternary_size_multiple(&a->out, row, error)) {
        return error->code;
    }
    size_t count = a->out.size / row;
    if (count > (size_t)w.rows) {
        ternary_size_is(&a->out, (uint64_t)row * (uint64_t)w.rows, error);
        return error->code;
    }
    if (!ternary_value_in(&a->row, 0, w.rows - (int32_t)count, error)) {
        return error->code;
    }
    int32_t first = a->row.value;
    ternary_cut_patches(settings->backend, &w, first, first + (int32_t)count, a->out.data, w.inputs);
    return 0;
}

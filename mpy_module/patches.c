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

// One row of a patch: `kernel` pixels of a picture's row from column `left` on, zeros outside of it.
static void copy_run(const ternary_backend *backend, const ternary_window *w, const int8_t *row, int32_t left,
                     int8_t *out) {
    int32_t from = ternary_max(left, 0), to = ternary_min(left + w->kernel, w->width);
    size_t channels = (size_t)w->channels, before = (size_t)(from - left) * channels;
    size_t inside = (size_t)(to - from) * channels;
    backend->clear(out, before);
    backend->copy(out + before, row + (size_t)from * channels, inside, 1, 0);
    backend->clear(out + before + inside, w->run - before - inside);
}

static void copy_patch_at_border(const ternary_backend *backend, const ternary_window *w, int32_t top,
                                 int32_t left, int8_t *out) {
    for (int32_t y = top; y < top + w->kernel; y++) {
        if (y < 0 || y >= w->height) {
            backend->clear(out, w->run);
        } else {
            copy_run(backend, w, w->picture + (size_t)y * w->line, left, out);
        }
        out += w->run;
    }
}

static void copy_patch(const ternary_backend *backend, const ternary_window *w, int32_t top, int32_t left,
                       int8_t *out) {
    if (top < 0 || left < 0 || top + w->kernel > w->height || left + w->kernel > w->width) {
        copy_patch_at_border(backend, w, top, left, out);
        return;
    }
    const int8_t *corner = w->picture + (size_t)top * w->line + (size_t)(left * w->channels);
    if (w->run >= TERNARY_LANES) {
        backend->copy(out, corner, w->run, (size_t)w->kernel, w->line);
        return;
    }
    // Too short for a call.
    const size_t rest = w->line - w->run;
    for (int32_t y = 0; y < w->kernel; y++, corner += rest) {
        for (const int8_t *end = corner + w->run; corner < end;) {
            *out++ = *corner++;
        }
    }
}

void ternary_cut_patches(const ternary_backend *backend, const ternary_window *w, int32_t first, int32_t end,
                         int8_t *out, size_t step) {
    for (int32_t row = first; row < end; row++) {
        for (int32_t column = 0; column < w->columns; column++) {
            copy_patch(backend, w, row * w->stride - w->padding, column * w->stride - w->padding, out);
            for (size_t i = w->inputs; i < step; i++) {
                out[i] = 0;
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

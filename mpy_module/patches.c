// SPDX-License-Identifier: MIT
#include "backends.h"
#include "checks.h"
#include "numbers.h"
#include "operations.h"

// 4.6. Sides in pixels, all below 2^13.
typedef struct {
    const ternary_backend *backend;
    int32_t width, height, channels, kernel, stride, padding;
    int32_t columns, first, end; // patches in a row; rows of patches to cut: first..end - 1
    size_t run, line;            // bytes of a row of a patch, and of a row of the picture
} convolution;

// Positions of the kernel along a side; 0 if it does not fit.
static int32_t positions(const convolution *c, int32_t side) {
    int32_t room = side + 2 * c->padding - c->kernel;
    return room < 0 ? 0 : room / c->stride + 1;
}

static bool check_patches(const ternary_settings *settings, const ternary_patches_arguments *a,
                          convolution *c, ternary_error *error) {
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
    *c = (convolution){
        .backend = settings->backend,
        .width = a->width.value,
        .height = (int32_t)height,
        .channels = a->channels.value,
        .kernel = a->kernel.value,
        .stride = a->stride.value,
        .padding = a->padding.value,
        .run = (size_t)(a->kernel.value * a->channels.value),
        .line = (size_t)stride,
    };
    c->columns = positions(c, c->width);
    int32_t rows = positions(c, c->height);
    if (c->columns == 0 || rows == 0) {
        int32_t shorter = ternary_min(c->width, c->height);
        return ternary_value_in(&a->kernel, 1, shorter + 2 * c->padding, error);
    }
    // Below 2^25.
    size_t row = (size_t)(c->columns * c->kernel * c->kernel * c->channels);
    if (!ternary_size_multiple(&a->out, row, error)) {
        return false;
    }
    size_t count = a->out.size / row;
    if (count > (size_t)rows) {
        return ternary_size_is(&a->out, (uint64_t)row * (uint64_t)rows, error);
    }
    if (!ternary_value_in(&a->row, 0, rows - (int32_t)count, error)) {
        return false;
    }
    c->first = a->row.value;
    c->end = c->first + (int32_t)count;
    return true;
}

// One row of a patch: `kernel` pixels of a picture's row from column `left` on, zeros outside of it.
static void copy_run(const convolution *c, const int8_t *row, int32_t left, int8_t *out) {
    int32_t from = ternary_max(left, 0), to = ternary_min(left + c->kernel, c->width);
    size_t channels = (size_t)c->channels, before = (size_t)(from - left) * channels;
    size_t inside = (size_t)(to - from) * channels;
    c->backend->clear(out, before);
    c->backend->copy(out + before, row + (size_t)from * channels, inside, 1, 0);
    c->backend->clear(out + before + inside, c->run - before - inside);
}

static void copy_patch_at_border(const convolution *c, const int8_t *picture, int32_t top, int32_t left,
                                 int8_t *out) {
    for (int32_t y = top; y < top + c->kernel; y++) {
        if (y < 0 || y >= c->height) {
            c->backend->clear(out, c->run);
        } else {
            copy_run(c, picture + (size_t)y * c->line, left, out);
        }
        out += c->run;
    }
}

static void copy_patch(const convolution *c, const int8_t *picture, int32_t top, int32_t left, int8_t *out) {
    if (top < 0 || left < 0 || top + c->kernel > c->height || left + c->kernel > c->width) {
        copy_patch_at_border(c, picture, top, left, out);
        return;
    }
    const int8_t *corner = picture + (size_t)top * c->line + (size_t)(left * c->channels);
    if (c->run >= TERNARY_LANES) {
        c->backend->copy(out, corner, c->run, (size_t)c->kernel, c->line);
        return;
    }
    // Too short for a call.
    for (int32_t y = 0; y < c->kernel; y++, corner += c->line) {
        for (size_t i = 0; i < c->run; i++) {
            *out++ = corner[i];
        }
    }
}

int32_t ternary_patches(const ternary_settings *settings, const ternary_arg *arguments,
                        ternary_error *error) {
    const ternary_patches_arguments *a = (const void *)arguments;
    convolution c = {0};
    if (!check_patches(settings, a, &c, error)) {
        return error->code;
    }
    int8_t *out = a->out.data;
    for (int32_t row = c.first; row < c.end; row++) {
        for (int32_t column = 0; column < c.columns; column++) {
            int32_t top = row * c.stride - c.padding, left = column * c.stride - c.padding;
            copy_patch(&c, a->picture.data, top, left, out);
            out += c.kernel * c.kernel * c.channels;
        }
    }
    return 0;
}

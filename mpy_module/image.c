// SPDX-License-Identifier: MIT
#include <string.h>

#include "checks.h"
#include "numbers.h"
#include "operations.h"

static bool is_side(const ternary_arg *number, ternary_error *error) {
    return ternary_value_in(number, 1, TERNARY_MAX_PICTURE, error);
}

static void grey_from_colour(const uint8_t *pixels, uint8_t *out, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const uint8_t *p = pixels + 3 * i;
        out[i] = (uint8_t)((19595u * p[0] + 38470u * p[1] + 7471u * p[2] + 32768u) >> 16);
    }
}

static void colour_from_grey(const uint8_t *pixels, uint8_t *out, size_t count) {
    for (size_t i = 0; i < count; i++) {
        memset(out + 3 * i, pixels[i], 3);
    }
}

int32_t ternary_convert(const ternary_settings *settings, const ternary_arg *arguments,
                        ternary_error *error) {
    (void)settings;
    const ternary_convert_arguments *a = (const void *)arguments;
    if (!ternary_is_channels(&a->channels, error) || !ternary_is_channels(&a->out_channels, error) ||
        !ternary_size_multiple(&a->pixels, (uint64_t)a->channels.value, error)) {
        return error->code;
    }
    size_t count = a->pixels.size / (size_t)a->channels.value;
    if (!ternary_size_is(&a->out, (uint64_t)count * (uint64_t)a->out_channels.value, error)) {
        return error->code;
    }
    if (a->channels.value == a->out_channels.value) {
        memcpy(a->out.data, a->pixels.data, a->out.size);
    } else if (a->channels.value == 3) {
        grey_from_colour(a->pixels.data, a->out.data, count);
    } else {
        colour_from_grey(a->pixels.data, a->out.data, count);
    }
    return 0;
}

// Bits of a frame's order (3.2): the second byte of each pair comes first; the outer colours are exchanged.
enum { BYTES_SWAPPED = 1, COLOURS_EXCHANGED = 2 };

// Whether a frame of `unit` bytes for `count` pixels fits `out`, and its order exists.
static bool is_frame(const ternary_arg *pixels, const ternary_arg *order, const ternary_arg *out,
                     uint32_t unit, uint32_t count, ternary_error *error) {
    return ternary_size_multiple(pixels, unit, error) &&
           ternary_value_in(order, 0, BYTES_SWAPPED | COLOURS_EXCHANGED, error) &&
           ternary_size_is(out, (uint64_t)pixels->size / unit * count * 3, error);
}

int32_t ternary_rgb565(const ternary_settings *settings, const ternary_arg *arguments, ternary_error *error) {
    (void)settings;
    const ternary_rgb565_arguments *a = (const void *)arguments;
    if (!is_frame(&a->pixels, &a->order, &a->out, 2, 1, error)) {
        return error->code;
    }
    const uint8_t *pixels = a->pixels.data;
    size_t high = a->order.value & BYTES_SWAPPED ? 1 : 0;
    size_t first = a->order.value & COLOURS_EXCHANGED ? 2 : 0;
    uint8_t *out = a->out.data;
    for (size_t i = 0; i < a->pixels.size; i += 2, out += 3) {
        unsigned pixel = (unsigned)pixels[i + high] << 8 | pixels[i + 1 - high];
        unsigned red = pixel >> 11, green = pixel >> 5 & 63, blue = pixel & 31;
        // Repeating the highest bits maps 0 to 0 and the largest value to 255.
        out[first] = (uint8_t)(red << 3 | red >> 2);
        out[1] = (uint8_t)(green << 2 | green >> 4);
        out[2 - first] = (uint8_t)(blue << 3 | blue >> 2);
    }
    return 0;
}

static uint8_t saturated(int32_t value) {
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

int32_t ternary_yuv422(const ternary_settings *settings, const ternary_arg *arguments, ternary_error *error) {
    (void)settings;
    const ternary_yuv422_arguments *a = (const void *)arguments;
    if (!is_frame(&a->pixels, &a->order, &a->out, 4, 2, error)) {
        return error->code;
    }
    const uint8_t *pixels = a->pixels.data;
    size_t luma = a->order.value & BYTES_SWAPPED ? 1 : 0;
    size_t u_at = 1 - luma + (a->order.value & COLOURS_EXCHANGED ? 2 : 0);
    size_t v_at = 1 - luma + (a->order.value & COLOURS_EXCHANGED ? 0 : 2);
    uint8_t *out = a->out.data;
    for (size_t i = 0; i < a->pixels.size; i += 4) {
        int32_t u = pixels[i + u_at] - 128, v = pixels[i + v_at] - 128;
        int32_t red = (91881 * v + 32768) >> 16, blue = (116130 * u + 32768) >> 16;
        int32_t green = (22554 * u + 46802 * v + 32768) >> 16;
        for (size_t k = 0; k < 2; k++) {
            int32_t y = pixels[i + 2 * k + luma];
            *out++ = saturated(y + red);
            *out++ = saturated(y - green);
            *out++ = saturated(y + blue);
        }
    }
    return 0;
}

int32_t ternary_bgr888(const ternary_settings *settings, const ternary_arg *arguments, ternary_error *error) {
    (void)settings;
    const ternary_bgr888_arguments *a = (const void *)arguments;
    if (!ternary_size_multiple(&a->pixels, 3, error) || !ternary_size_is(&a->out, a->pixels.size, error)) {
        return error->code;
    }
    const uint8_t *pixels = a->pixels.data;
    uint8_t *out = a->out.data;
    for (size_t i = 0; i < a->pixels.size; i += 3) {
        uint8_t blue = pixels[i]; // read before it is written: `out` may be the same buffer
        out[i] = pixels[i + 2];
        out[i + 1] = pixels[i + 1];
        out[i + 2] = blue;
    }
    return 0;
}

// 3.4 along one axis. All terms are below 2^26.
typedef struct {
    int32_t side, size, peak; // peak = S
} axis;

static int32_t weight(const axis *x, int32_t i, int32_t j) {
    int32_t distance = (2 * j + 1) * x->size - (2 * i + 1) * x->side;
    return ternary_max(0, x->peak - (distance < 0 ? -distance : distance));
}

// The first input whose weight is above 0.
static int32_t first_input(const axis *x, int32_t i) {
    int32_t bound = (2 * i + 1) * x->side - x->peak - x->size;
    return bound < 0 ? 0 : bound / (2 * x->size) + 1;
}

// Row i of the output, resized down the columns only: `count` values, each in a word of `line`.
static void resize_down(const axis *x, int32_t i, const uint8_t *pixels, size_t stride, size_t count,
                        uint32_t *line) {
    uint32_t total = 0, w;
    memset(line, 0, count * sizeof(uint32_t));
    for (int32_t j = first_input(x, i); j < x->side && (w = (uint32_t)weight(x, i, j)) != 0; j++) {
        const uint8_t *row = pixels + (size_t)j * stride;
        for (size_t k = 0; k < count; k++) {
            line[k] += w * row[k];
        }
        total += w;
    }
    for (size_t k = 0; k < count; k++) {
        line[k] = (line[k] + total / 2) / total;
    }
}

static void resize_along(const axis *x, const uint32_t *line, size_t channels, uint8_t *out) {
    for (int32_t i = 0; i < x->size; i++) {
        uint32_t sums[3] = {0}, total = 0, w;
        for (int32_t j = first_input(x, i); j < x->side && (w = (uint32_t)weight(x, i, j)) != 0; j++) {
            for (size_t c = 0; c < channels; c++) {
                sums[c] += w * line[(size_t)j * channels + c];
            }
            total += w;
        }
        for (size_t c = 0; c < channels; c++) {
            *out++ = (uint8_t)((sums[c] + total / 2) / total);
        }
    }
}

static uint64_t resize_scratch(int32_t side, int32_t channels) {
    return (uint64_t)side * (uint64_t)channels * sizeof(uint32_t);
}

static bool check_resize(const ternary_resize_arguments *a, ternary_error *error) {
    if (!is_side(&a->width, error) || !ternary_is_channels(&a->channels, error) ||
        !ternary_size_multiple(&a->pixels, (uint64_t)a->width.value * (uint64_t)a->channels.value, error)) {
        return false;
    }
    int32_t width = a->width.value, channels = a->channels.value;
    uint64_t height = a->pixels.size / ((uint64_t)width * (uint64_t)channels);
    if (height > TERNARY_MAX_PICTURE) {
        return ternary_size_is(&a->pixels, (uint64_t)width * (uint64_t)channels * TERNARY_MAX_PICTURE, error);
    }
    int32_t rows = (int32_t)height, side = a->side.value;
    if (!ternary_value_in(&a->side, 1, ternary_min(width, rows), error) ||
        !ternary_value_in(&a->left, 0, width - side, error) ||
        !ternary_value_in(&a->top, 0, rows - side, error)) {
        return false;
    }
    // The smallest size with side * side // size <= 2^22.
    int32_t smallest = side * side / ((1 << 22) + 1) + 1;
    return ternary_value_in(&a->size, smallest, TERNARY_MAX_PICTURE, error) &&
           ternary_size_is(&a->out, (uint64_t)a->size.value * (uint64_t)(a->size.value * channels), error) &&
           ternary_size_at_least(&a->scratch, resize_scratch(side, channels), error);
}

int32_t ternary_resize(const ternary_settings *settings, const ternary_arg *arguments, ternary_error *error) {
    (void)settings;
    const ternary_resize_arguments *a = (const void *)arguments;
    if (!check_resize(a, error)) {
        return error->code;
    }
    int32_t side = a->side.value, size = a->size.value;
    size_t channels = (size_t)a->channels.value, stride = (size_t)a->width.value * channels;
    size_t line_size = (size_t)side * channels, out_stride = (size_t)size * channels;
    axis x = {.side = side, .size = size, .peak = 2 * ternary_max(side, size)};
    const uint8_t *pixels = a->pixels.data;
    pixels += (size_t)a->top.value * stride + (size_t)a->left.value * channels;
    for (int32_t i = 0; i < size; i++) {
        resize_down(&x, i, pixels, stride, line_size, a->scratch.data);
        resize_along(&x, a->scratch.data, channels, (uint8_t *)a->out.data + (size_t)i * out_stride);
    }
    return 0;
}

int32_t ternary_resize_scratch(const ternary_settings *settings, const ternary_arg *arguments,
                               ternary_error *error) {
    (void)settings;
    const ternary_resize_scratch_arguments *a = (const void *)arguments;
    if (!is_side(&a->side, error) || !ternary_is_channels(&a->channels, error)) {
        return error->code;
    }
    return (int32_t)resize_scratch(a->side.value, a->channels.value);
}

int32_t ternary_normalize(const ternary_settings *settings, const ternary_arg *arguments,
                          ternary_error *error) {
    (void)settings;
    const ternary_normalize_arguments *a = (const void *)arguments;
    size_t channels = a->multiplier.size / sizeof(int32_t);
    if (!ternary_size_is(&a->offset, a->multiplier.size, error) ||
        !ternary_size_multiple(&a->pixels, channels, error) ||
        !ternary_size_is(&a->out, a->pixels.size, error) ||
        !ternary_i32_in(&a->multiplier, 0, TERNARY_MAX_PIXEL_MULTIPLIER, error) ||
        !ternary_i32_in(&a->offset, TERNARY_MIN_PIXEL_OFFSET, TERNARY_MAX_PIXEL_OFFSET, error)) {
        return error->code;
    }
    const uint8_t *pixels = a->pixels.data;
    const int32_t *multiplier = a->multiplier.data, *offset = a->offset.data;
    int8_t *out = a->out.data;
    for (size_t i = 0; i < a->out.size; i += channels) {
        for (size_t c = 0; c < channels; c++) {
            int32_t scaled = pixels[i + c] * multiplier[c] + offset[c];
            out[i + c] = ternary_sat8(ternary_shift_right(scaled, 16));
        }
    }
    return 0;
}

// SPDX-License-Identifier: MIT
// 12.1 to 12.3: features of one length, and their products.
#include <string.h>

#include "checks.h"
#include "cholesky.h"
#include "learning.h"
#include "numbers.h"
#include "operations.h"

bool ternary_is_width(const ternary_arg *buffer, size_t width, ternary_error *error) {
    if (width > TERNARY_MAX_FEATURES) {
        return ternary_size_is(buffer, (uint64_t)buffer->size / width * TERNARY_MAX_FEATURES, error);
    }
    return true;
}

bool ternary_is_pictures(const ternary_arg *buffer, size_t each, size_t *pictures, ternary_error *error) {
    if (!ternary_size_multiple(buffer, each, error)) {
        return false;
    }
    *pictures = buffer->size / each;
    return *pictures <= TERNARY_MAX_PICTURES ||
           ternary_size_is(buffer, (uint64_t)each * TERNARY_MAX_PICTURES, error);
}

int32_t ternary_dot(const int8_t *a, const int8_t *b, size_t count) {
    int32_t sum = 0;
    const int8_t *end = a + (count & ~(size_t)3);
    // By four: loads of the chip take longer than an instruction, and so does a branch.
    for (; a < end; a += 4, b += 4) {
        sum += a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3];
    }
    for (end += count & 3; a < end; a++, b++) {
        sum += *a * *b;
    }
    return sum;
}

int32_t ternary_per_feature(int32_t sum, size_t width) {
    int32_t scaled = 16 * sum, divisor = (int32_t)width; // at most 2^30
    int32_t quotient = scaled / divisor;
    return quotient - (scaled < quotient * divisor); // C rounds toward 0
}

int32_t ternary_kernel(const int8_t *a, const int8_t *b, size_t width) {
    return ternary_per_feature(ternary_dot(a, b, width), width);
}

int32_t ternary_rms_norm(const ternary_settings *settings, const ternary_arg *arguments,
                         ternary_error *error) {
    (void)settings;
    const ternary_rms_norm_arguments *a = (const void *)arguments;
    size_t width = a->x.size;
    if (!ternary_is_width(&a->x, width, error) || !ternary_size_is(&a->out, width, error)) {
        return error->code;
    }
    const int8_t *x = a->x.data;
    int8_t *out = a->out.data;
    uint32_t mean = (uint32_t)(((uint64_t)ternary_dot(x, x, width) << 8) / width); // A, at most 2^22
    mean += mean == 0;
    int32_t z = (32 - ternary_bits(mean)) / 2;
    int32_t factor = (int32_t)((1u << 30) / ternary_isqrt64((uint64_t)mean << (2 * z))); // M, at most 2^15
    int32_t shift = 21 - z, half = 1 << (shift - 1);                                     // 6..17
    for (size_t k = 0; k < width; k++) {
        out[k] = ternary_sat8(ternary_shift_right(x[k] * factor + half, shift));
    }
    return 0;
}

int32_t ternary_gram(const ternary_settings *settings, const ternary_arg *arguments, ternary_error *error) {
    (void)settings;
    const ternary_gram_arguments *a = (const void *)arguments;
    size_t pictures;
    if (!ternary_value_in(&a->width, 1, TERNARY_MAX_FEATURES, error) ||
        !ternary_is_pictures(&a->features, (size_t)a->width.value, &pictures, error) ||
        !ternary_value_in(&a->count, 1, (int32_t)pictures, error)) {
        return error->code;
    }
    size_t width = (size_t)a->width.value, first = pictures - (size_t)a->count.value;
    size_t products = ternary_triangle(pictures) - ternary_triangle(first);
    if (!ternary_size_is(&a->out, (uint64_t)products * sizeof(int16_t), error)) {
        return error->code;
    }
    const int8_t *features = a->features.data;
    int16_t *out = a->out.data;
    for (size_t i = first; i < pictures; i++) {
        for (size_t j = 0; j <= i; j++) {
            *out++ = ternary_sat16(ternary_kernel(features + i * width, features + j * width, width));
        }
    }
    return 0;
}

int32_t ternary_drop_class(const ternary_settings *settings, const ternary_arg *arguments,
                           ternary_error *error) {
    (void)settings;
    const ternary_drop_class_arguments *a = (const void *)arguments;
    size_t pictures;
    if (!ternary_is_pictures(&a->labels, 1, &pictures, error) ||
        !ternary_size_multiple(&a->features, pictures, error) ||
        !ternary_is_width(&a->features, a->features.size / pictures, error) ||
        !ternary_value_in(&a->label, 0, TERNARY_MAX_CLASSES - 1, error)) {
        return error->code;
    }
    size_t width = a->features.size / pictures, left = 0;
    int8_t *features = a->features.data;
    uint8_t *labels = a->labels.data, dropped = (uint8_t)a->label.value;
    for (size_t i = 0; i < pictures; i++) {
        if (labels[i] != dropped) {
            labels[left] = (uint8_t)(labels[i] - (labels[i] > dropped));
            memmove(features + left * width, features + i * width, width);
            left++;
        }
    }
    return (int32_t)left;
}

int32_t ternary_moments(const ternary_settings *settings, const ternary_arg *arguments,
                        ternary_error *error) {
    (void)settings;
    const ternary_moments_arguments *a = (const void *)arguments;
    size_t count;
    if (!ternary_is_pictures(&a->x, sizeof(int32_t), &count, error) ||
        !ternary_size_is(&a->out, 2 * sizeof(int32_t), error)) {
        return error->code;
    }
    const int32_t *x = a->x.data;
    int32_t *out = a->out.data;
    int64_t sum = 0, n = (int64_t)count;
    for (size_t i = 0; i < count; i++) {
        sum += x[i];
    }
    int64_t numerator = 2 * sum + n, mean = numerator / (2 * n);
    mean -= numerator < mean * 2 * n;
    uint64_t squares = 0;
    for (size_t i = 0; i < count; i++) {
        int64_t distance = x[i] - mean;
        distance = distance < 0 ? -distance : distance;
        distance = distance < TERNARY_MAX_DEVIATION ? distance : TERNARY_MAX_DEVIATION;
        squares += (uint64_t)(distance * distance);
    }
    out[0] = (int32_t)mean;
    out[1] = (int32_t)ternary_isqrt64(squares / count);
    return 0;
}

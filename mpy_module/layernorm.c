// SPDX-License-Identifier: MIT
#include "checks.h"
#include "numbers.h"
#include "operations.h"
#include "primitives.h"

typedef struct {
    int32_t width;
    const int8_t *gamma, *beta; // decoded
    int32_t gain, gain_shift, beta_scale;
} norm;

static size_t vectors_of(int32_t width) {
    return (size_t)ternary_ceil_div((uint64_t)width, TERNARY_VECTOR_TRITS);
}

// 6.1
static int32_t mean_of(const int16_t *x, int32_t width) {
    int32_t sum = 0; // |sum| <= 2^27
    for (int32_t i = 0; i < width; i++) {
        sum += x[i];
    }
    int32_t numerator = 2 * sum + width, divisor = 2 * width;
    int32_t quotient = numerator / divisor;
    return numerator % divisor < 0 ? quotient - 1 : quotient;
}

// 6.2: A, at most 2^30 + 1.
static uint32_t variance_of(const int16_t *x, int32_t width, int32_t mean) {
    uint64_t sum = 0;
    for (int32_t i = 0; i < width; i++) {
        int32_t e = ternary_sat16(x[i] - mean);
        sum += (uint32_t)(e * e);
    }
    return (uint32_t)(sum / (uint32_t)width) + 1;
}

// 1.4, one bit of the root at a time
static uint32_t isqrt(uint32_t x) {
    uint32_t root = 0;
    for (uint32_t bit = 1u << 15; bit; bit >>= 1) {
        uint32_t candidate = root | bit; // at most 65535
        if (candidate * candidate <= x) {
            root = candidate;
        }
    }
    return root;
}

static void norm_row(const norm *l, const int16_t *x, int8_t *y) {
    int32_t mean = mean_of(x, l->width);
    uint32_t scaled = variance_of(x, l->width, mean);
    int32_t z = 0;
    for (; scaled < 1u << 30; z++) {
        scaled <<= 2;
    }
    int32_t reciprocal = (int32_t)((1u << 30) / isqrt(scaled)); // M of 6.3
    int32_t factor = (reciprocal * l->gain) >> 15;              // P of 6.4
    int32_t shift = 15 + l->gain_shift - z;
    for (int32_t i = 0; i < l->width; i++) {
        int32_t e = ternary_sat16(x[i] - mean);
        int32_t u = ternary_sat16(ternary_shift_right(e * l->gamma[i] * factor, shift));
        y[i] = (int8_t)ternary_shift_right(ternary_sat16(u + l->beta[i] * l->beta_scale + 128), 8);
    }
}

static bool check_layernorm(const ternary_layernorm_arguments *a, ternary_error *error) {
    if (!ternary_value_in(&a->width, 1, TERNARY_MAX_WIDTH, error)) {
        return false;
    }
    size_t vectors = vectors_of(a->width.value);
    return ternary_size_multiple(&a->out, (uint64_t)a->width.value, error) &&
           ternary_size_is(&a->x, (uint64_t)a->out.size * sizeof(int16_t), error) &&
           ternary_size_is(&a->weight, vectors * TERNARY_LANES, error) &&
           ternary_size_is(&a->bias, vectors * TERNARY_LANES, error) &&
           ternary_size_at_least(&a->scratch, 2 * vectors * TERNARY_VECTOR_TRITS, error) &&
           ternary_value_in(&a->gain, 1 << 14, (1 << 15) - 1, error) &&
           ternary_value_in(&a->gain_shift, 0, 15, error) && ternary_value_in(&a->beta, 0, 32639, error);
}

int32_t ternary_layernorm(const ternary_arg *arguments, ternary_error *error) {
    const ternary_layernorm_arguments *a = (const void *)arguments;
    if (!check_layernorm(a, error)) {
        return error->code;
    }
    size_t width = (size_t)a->width.value, vectors = vectors_of(a->width.value);
    int8_t *gamma = a->scratch.data, *beta = gamma + vectors * TERNARY_VECTOR_TRITS;
    ternary_decode_vectors(a->weight.data, vectors, gamma);
    ternary_decode_vectors(a->bias.data, vectors, beta);
    norm l = {a->width.value, gamma, beta, a->gain.value, a->gain_shift.value, a->beta.value};
    const int16_t *x = a->x.data;
    int8_t *out = a->out.data;
    for (size_t row = 0; row < a->out.size; row += width) {
        norm_row(&l, x + row, out + row);
    }
    return 0;
}

int32_t ternary_layernorm_scratch(const ternary_arg *arguments, ternary_error *error) {
    const ternary_layernorm_scratch_arguments *a = (const void *)arguments;
    if (!ternary_value_in(&a->width, 1, TERNARY_MAX_WIDTH, error)) {
        return error->code;
    }
    return (int32_t)(2 * vectors_of(a->width.value) * TERNARY_VECTOR_TRITS);
}

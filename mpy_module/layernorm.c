// SPDX-License-Identifier: MIT
#include "ahead.h"
#include "backends.h"
#include "checks.h"
#include "numbers.h"
#include "operations.h"
#include "parallel.h"

static size_t vectors_of(int32_t width) {
    return (size_t)ternary_ceil_div((uint64_t)width, TERNARY_VECTOR_TRITS);
}

// 6.1
static int32_t mean_of(const ternary_backend *backend, const int16_t *x, int32_t width) {
    int32_t numerator = 2 * backend->sum(x, (size_t)width) + width, divisor = 2 * width;
    int32_t quotient = numerator / divisor;
    return quotient - (numerator < quotient * divisor); // C rounds toward 0
}

// 6.2: A, at most 2^30 + 1.
static uint32_t variance_of(const ternary_backend *backend, const int16_t *x, int32_t width, int32_t mean) {
    uint64_t sum = backend->squares(x, (size_t)width, mean);
    uint32_t low = (uint32_t)sum, divisor = (uint32_t)width;
    // 64-bit division is a slow library call on the chip.
    return (sum == low ? low / divisor : (uint32_t)(sum / divisor)) + 1;
}

// 1.4 for x >= 2^30, by Newton's method: a line within 2.8 % of the root, then two steps, of which each gives
// at least the root rounded down, and the second at most 1 more.
static uint32_t isqrt(uint32_t x) {
    uint32_t root = ((x >> 16) * 43691 >> 16) + 22594;
    root = (root + x / root) / 2;
    root = (root + x / root) / 2;
    return root > 0xffff || root * root > x ? root - 1 : root;
}

// 6.3, 6.4: the mean, P and n of a row.
static void measure(const ternary_backend *backend, ternary_norm *norm, const int16_t *x, int32_t gain,
                    int32_t gain_shift) {
    norm->mean = mean_of(backend, x, (int32_t)norm->width);
    uint32_t scaled = variance_of(backend, x, (int32_t)norm->width, norm->mean);
    int32_t z = (32 - ternary_bits(scaled)) / 2;
    int32_t reciprocal = (int32_t)((1u << 30) / isqrt(scaled << (2 * z))); // M
    norm->factor = (reciprocal * gain) >> 15;
    norm->shift = 15 + gain_shift - z;
}

static size_t scratch_bytes(size_t vectors) {
    return vectors * TERNARY_VECTOR_TRITS * (1 + 2 * sizeof(int16_t)) + TERNARY_SLACK;
}

typedef struct {
    const ternary_backend *backend;
    ternary_norm norm;
    const int16_t *x;
    int8_t *out;
    size_t count, parts;
    int32_t gain, gain_shift;
} rows;

// A part computes every parts-th row.
static void norm_part(void *context, size_t part) {
    const rows *r = context;
    ternary_norm norm = r->norm;
    bool ahead = true;
    for (size_t row = part; row < r->count; row += r->parts) {
        const int16_t *x = r->x + row * norm.width;
        const ternary_items next = ternary_next_items(row, part, r->parts, r->count);
        if (ahead && next.count) {
            ahead =
                r->backend->prefetch(r->x + next.first * norm.width, next.count * norm.width * sizeof(*x));
        }
        measure(r->backend, &norm, x, r->gain, r->gain_shift);
        r->backend->norm(&norm, x, r->out + row * norm.width);
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
           ternary_size_at_least(&a->scratch, scratch_bytes(vectors), error) &&
           ternary_value_in(&a->gain, TERNARY_MIN_GAIN, TERNARY_MAX_GAIN, error) &&
           ternary_value_in(&a->gain_shift, 0, TERNARY_MAX_GAIN_SHIFT, error) &&
           ternary_value_in(&a->beta, 0, TERNARY_MAX_BETA, error);
}

int32_t ternary_layernorm(const ternary_settings *settings, const ternary_arg *arguments,
                          ternary_error *error) {
    const ternary_layernorm_arguments *a = (const void *)arguments;
    if (!check_layernorm(a, error)) {
        return error->code;
    }
    size_t width = (size_t)a->width.value, vectors = vectors_of(a->width.value);
    int16_t *gamma = ternary_aligned(&a->scratch), *beta = gamma + vectors * TERNARY_VECTOR_TRITS;
    int8_t *trits = (int8_t *)(beta + vectors * TERNARY_VECTOR_TRITS);
    const ternary_backend *backend = settings->backend;
    backend->decode(a->weight.data, vectors, trits);
    backend->residual_start(gamma, trits, width, 0); // widens to int16
    backend->decode(a->bias.data, vectors, trits);
    for (size_t i = 0; i < width; i++) {
        beta[i] = (int16_t)(trits[i] * a->beta.value + 128); // the terms that 6.6 adds to u
    }
    rows all = {
        .backend = backend,
        .norm = {.gamma = gamma, .beta = beta, .width = width},
        .x = a->x.data,
        .out = a->out.data,
        .count = a->out.size / width,
        .parts = (size_t)settings->cores,
        .gain = a->gain.value,
        .gain_shift = a->gain_shift.value,
    };
    ternary_parallel(norm_part, &all, all.parts);
    return 0;
}

int32_t ternary_layernorm_scratch(const ternary_settings *settings, const ternary_arg *arguments,
                                  ternary_error *error) {
    (void)settings;
    const ternary_layernorm_scratch_arguments *a = (const void *)arguments;
    if (!ternary_value_in(&a->width, 1, TERNARY_MAX_WIDTH, error)) {
        return error->code;
    }
    return (int32_t)scratch_bytes(vectors_of(a->width.value));
}

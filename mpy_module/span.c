// SPDX-License-Identifier: MIT
// 12.7, 12.8: how far a picture is from all that the taught pictures span.
#include "checks.h"
#include "cholesky.h"
#include "learning.h"
#include "numbers.h"
#include "operations.h"

// Bytes of a direction: two features in one, the even one in the low half.
static size_t row_bytes(size_t width) {
    return (width + 1) / 2;
}

static uint64_t scratch_bytes(uint64_t directions) {
    return TERNARY_SLACK + (ternary_triangle((size_t)directions) + 3 * directions) * sizeof(int32_t);
}

// The distance of a picture with product `square` with itself, 14 fractional bits, given what the directions
// explain of it, 28 fractional bits.
static int32_t distance_of(int32_t square, uint64_t explained) {
    int64_t left = 4 * (int64_t)square - (int64_t)(explained >> 12);
    return left < 0 ? 0 : ternary_sat32(left);
}

static void measure(const ternary_cholesky *c, int32_t ridge, int32_t *work, int32_t *distances) {
    for (size_t i = 0, row = 0; i < c->all; i++) {
        if (row < c->n && i == ternary_chosen(c, row)) {
            int64_t left =
                (int64_t)((1ull << 36) / (uint64_t)ternary_inverse_diagonal(c, row, work)) - 4 * ridge;
            distances[i] = left < 0 ? 0 : ternary_sat32(left);
            row++;
            continue;
        }
        for (size_t j = 0; j < c->n; j++) {
            work[j] = (int32_t)((uint32_t)ternary_gram_of(c, i, ternary_chosen(c, j)) << 9);
        }
        ternary_forward(c, work, work);
        uint64_t explained = 0;
        for (size_t j = 0; j < c->n; j++) {
            explained += (uint64_t)ternary_high(work[j], work[j]); // 20 fractional bits
        }
        distances[i] = distance_of(ternary_gram_of(c, i, i), explained << 8);
    }
}

// A direction's number for a feature, 26 fractional bits, as one of 4 bits with 3 of them.
static uint8_t half_byte(int32_t z) {
    int32_t rounded = ternary_shift_right(ternary_shift_right(z, 22) + 1, 1); // z + 2^22 may not fit
    return (uint8_t)ternary_max(-7, ternary_min(rounded, 7)) & 15;
}

static void make_directions(const ternary_cholesky *c, const int8_t *features, size_t width, int32_t *work,
                            uint8_t *directions) {
    size_t row = row_bytes(width);
    for (size_t k = 0; k < width; k++) {
        for (size_t j = 0; j < c->n; j++) {
            work[j] = features[ternary_chosen(c, j) * width + k] * (1 << 16);
        }
        ternary_forward(c, work, work);
        for (size_t j = 0; j < c->n; j++) {
            uint8_t *byte = directions + j * row + k / 2;
            *byte = k % 2 ? (uint8_t)(*byte | half_byte(work[j]) << 4) : half_byte(work[j]);
        }
    }
}

// The product of features with a direction, 14 fractional bits.
static int32_t product_of(const int8_t *x, const uint8_t *direction, size_t width) {
    int32_t sum = 0;
    for (size_t k = 0; k + 1 < width; k += 2) {
        // Moved up with the sign on top, both halves are 16 times their number.
        sum += x[k] * (int8_t)(direction[k / 2] << 4) + x[k + 1] * (int8_t)(direction[k / 2] & 0xf0);
    }
    if (width % 2) {
        sum += x[width - 1] * (int8_t)(direction[width / 2] << 4);
    }
    return ternary_per_feature(sum, width);
}

int32_t ternary_span_fit(const ternary_settings *settings, const ternary_arg *arguments,
                         ternary_error *error) {
    (void)settings;
    const ternary_span_fit_arguments *a = (const void *)arguments;
    size_t all;
    if (!ternary_is_pictures(&a->distances, sizeof(int32_t), &all, error) ||
        !ternary_size_multiple(&a->features, all, error) ||
        !ternary_is_width(&a->features, a->features.size / all, error) ||
        !ternary_size_is(&a->gram, (uint64_t)ternary_triangle(all) * sizeof(int16_t), error) ||
        !ternary_value_in(&a->ridge, 1, TERNARY_MAX_RIDGE, error)) {
        return error->code;
    }
    size_t width = a->features.size / all, n = a->directions.size / row_bytes(width);
    if (!ternary_size_multiple(&a->directions, row_bytes(width), error) ||
        !ternary_size_at_least(&a->features, (uint64_t)n * width, error) ||
        !ternary_size_at_least(&a->scratch, scratch_bytes(n), error)) {
        return error->code;
    }
    int32_t *words = ternary_aligned(&a->scratch), *work = words + n, *ridge = work + n;
    ternary_cholesky c = {.gram = a->gram.data, .all = all, .n = n, .reciprocal = words, .factor = ridge + n};
    for (size_t i = 0; i < n; i++) {
        ridge[i] = a->ridge.value;
    }
    ternary_factorize(&c, 0, ridge);
    make_directions(&c, a->features.data, width, work, a->directions.data);
    measure(&c, a->ridge.value, work, a->distances.data);
    return 0;
}

int32_t ternary_span_scratch(const ternary_settings *settings, const ternary_arg *arguments,
                             ternary_error *error) {
    (void)settings;
    const ternary_span_scratch_arguments *a = (const void *)arguments;
    if (!ternary_value_in(&a->directions, 1, TERNARY_MAX_PICTURES, error)) {
        return error->code;
    }
    return (int32_t)scratch_bytes((uint64_t)a->directions.value);
}

int32_t ternary_span_distance(const ternary_settings *settings, const ternary_arg *arguments,
                              ternary_error *error) {
    (void)settings;
    const ternary_span_distance_arguments *a = (const void *)arguments;
    size_t width = a->x.size, n;
    if (!ternary_is_width(&a->x, width, error) ||
        !ternary_is_pictures(&a->directions, row_bytes(width), &n, error)) {
        return error->code;
    }
    const uint8_t *directions = a->directions.data;
    const int8_t *x = a->x.data;
    uint64_t explained = 0;
    for (size_t j = 0; j < n; j++) {
        int64_t product = product_of(x, directions + j * row_bytes(width), width);
        explained += (uint64_t)(product * product);
    }
    return distance_of(ternary_kernel(x, x, width), explained);
}

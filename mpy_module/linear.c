// SPDX-License-Identifier: MIT
#include <string.h>

#include "checks.h"
#include "numbers.h"
#include "operations.h"
#include "primitives.h"

typedef struct {
    size_t rows, inputs, outputs;
    size_t vectors; // of a tile
    const int8_t *x;
    const uint8_t *weight;
    int8_t *trits; // a decoded tile
} layer;

static uint64_t vectors_of(uint64_t inputs) {
    return ternary_ceil_div(inputs, TERNARY_TRITS_PER_BYTE);
}

// `outputs` >= 1 is known from the multiplier, `element` is the size of an output.
static bool check_layer(const ternary_arg *x, const ternary_arg *weight, const ternary_arg *out,
                        const ternary_arg *scratch, size_t outputs, size_t element, layer *l,
                        ternary_error *error) {
    if (!ternary_size_multiple(out, (uint64_t)outputs * element, error)) {
        return false;
    }
    l->outputs = outputs;
    l->rows = out->size / element / outputs;
    if (!ternary_size_multiple(x, l->rows, error)) {
        return false;
    }
    l->inputs = x->size / l->rows;
    if (l->inputs > TERNARY_MAX_IN_FEATURES) {
        return ternary_size_is(x, (uint64_t)l->rows * TERNARY_MAX_IN_FEATURES, error);
    }
    uint64_t vectors = vectors_of(l->inputs);
    l->vectors = (size_t)vectors;
    l->x = x->data;
    l->weight = weight->data;
    l->trits = scratch->data;
    uint64_t tiles = ternary_ceil_div(outputs, TERNARY_LANES);
    return ternary_size_is(weight, tiles * vectors * TERNARY_LANES, error) &&
           ternary_size_at_least(scratch, vectors * TERNARY_VECTOR_TRITS, error);
}

static void decode_tile(const layer *l, size_t tile) {
    ternary_decode_vectors(l->weight + tile * l->vectors * TERNARY_LANES, l->vectors, l->trits);
}

static size_t lanes_of(const layer *l, size_t tile) {
    size_t left = l->outputs - tile * TERNARY_LANES;
    return left < TERNARY_LANES ? left : TERNARY_LANES;
}

// 4.3: what the inputs leave of an accumulator to the bias.
static int32_t bias_room(const layer *l) {
    return TERNARY_MAX_ACCUMULATOR - 128 * (int32_t)l->inputs;
}

static int32_t bias_shift(uint8_t shift) {
    return ternary_max(shift - 6, 0);
}

static bool check_shifts(const ternary_arg *shift, ternary_error *error) {
    const uint8_t *shifts = shift->data;
    for (size_t tile = 0; tile < shift->size; tile++) {
        if (!ternary_element_in(shift, tile, shifts[tile], 0, 15, error)) {
            return false;
        }
    }
    return true;
}

static bool check_biases(const layer *l, const ternary_arg *bias, const uint8_t *shifts,
                         ternary_error *error) {
    const int16_t *biases = bias->data;
    for (size_t n = 0; n < l->outputs; n++) {
        int32_t room = bias_room(l) >> bias_shift(shifts[n / TERNARY_LANES]);
        if (!ternary_element_in(bias, n, biases[n], -room, room, error)) {
            return false;
        }
    }
    return true;
}

static void linear_tile(const layer *l, const ternary_linear_arguments *a, size_t tile) {
    const int16_t *biases = (const int16_t *)a->bias.data + tile * TERNARY_LANES;
    int8_t *out = (int8_t *)a->out.data + tile * TERNARY_LANES;
    uint8_t shift = ((const uint8_t *)a->shift.data)[tile];
    size_t lanes = lanes_of(l, tile);
    int32_t start[TERNARY_LANES] = {0};
    int8_t multiplier[TERNARY_LANES] = {0};
    for (size_t lane = 0; lane < lanes; lane++) {
        start[lane] = biases[lane] * (1 << bias_shift(shift));
    }
    memcpy(multiplier, (const int8_t *)a->multiplier.data + tile * TERNARY_LANES, lanes);
    for (size_t row = 0; row < l->rows; row++) {
        int32_t sums[TERNARY_LANES];
        int8_t y[TERNARY_LANES];
        memcpy(sums, start, sizeof(sums));
        ternary_accumulate_trits(sums, l->x + row * l->inputs, l->trits, l->inputs);
        ternary_drain(sums, shift, multiplier, y);
        memcpy(out + row * l->outputs, y, lanes);
    }
}

int32_t ternary_linear(const ternary_arg *arguments, ternary_error *error) {
    const ternary_linear_arguments *a = (const void *)arguments;
    size_t outputs = a->multiplier.size;
    layer l;
    if (!check_layer(&a->x, &a->weight, &a->out, &a->scratch, outputs, 1, &l, error) ||
        !ternary_size_is(&a->bias, (uint64_t)outputs * sizeof(int16_t), error) ||
        !ternary_size_is(&a->shift, ternary_ceil_div(outputs, TERNARY_LANES), error) ||
        !ternary_i8_in(&a->multiplier, 0, 127, error) || !check_shifts(&a->shift, error) ||
        !check_biases(&l, &a->bias, a->shift.data, error)) {
        return error->code;
    }
    for (size_t tile = 0; tile * TERNARY_LANES < outputs; tile++) {
        decode_tile(&l, tile);
        linear_tile(&l, a, tile);
    }
    return 0;
}

static void logits_tile(const layer *l, const ternary_linear_logits_arguments *a, size_t tile) {
    const int32_t *biases = (const int32_t *)a->bias.data + tile * TERNARY_LANES;
    const int16_t *multiplier = (const int16_t *)a->multiplier.data + tile * TERNARY_LANES;
    int32_t *out = (int32_t *)a->out.data + tile * TERNARY_LANES;
    size_t lanes = lanes_of(l, tile);
    for (size_t row = 0; row < l->rows; row++) {
        int32_t sums[TERNARY_LANES] = {0};
        memcpy(sums, biases, lanes * sizeof(int32_t));
        ternary_accumulate_trits(sums, l->x + row * l->inputs, l->trits, l->inputs);
        for (size_t lane = 0; lane < lanes; lane++) {
            out[row * l->outputs + lane] = sums[lane] * multiplier[lane]; // 524287 * 4095 fits int32
        }
    }
}

int32_t ternary_linear_logits(const ternary_arg *arguments, ternary_error *error) {
    const ternary_linear_logits_arguments *a = (const void *)arguments;
    size_t outputs = a->multiplier.size / sizeof(int16_t);
    layer l;
    if (!check_layer(&a->x, &a->weight, &a->out, &a->scratch, outputs, sizeof(int32_t), &l, error) ||
        !ternary_size_is(&a->bias, (uint64_t)outputs * sizeof(int32_t), error) ||
        !ternary_i16_in(&a->multiplier, 0, 4095, error) ||
        !ternary_i32_in(&a->bias, -bias_room(&l), bias_room(&l), error)) {
        return error->code;
    }
    for (size_t tile = 0; tile * TERNARY_LANES < outputs; tile++) {
        decode_tile(&l, tile);
        logits_tile(&l, a, tile);
    }
    return 0;
}

int32_t ternary_linear_scratch(const ternary_arg *arguments, ternary_error *error) {
    const ternary_linear_scratch_arguments *a = (const void *)arguments;
    if (!ternary_value_in(&a->in_features, 1, TERNARY_MAX_IN_FEATURES, error)) {
        return error->code;
    }
    return (int32_t)(vectors_of((uint64_t)a->in_features.value) * TERNARY_VECTOR_TRITS);
}

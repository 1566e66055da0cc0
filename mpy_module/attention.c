// SPDX-License-Identifier: MIT
#include "checks.h"
#include "numbers.h"
#include "operations.h"
#include "primitives.h"

// q, k and v of one head begin at `head_width` * head within the three thirds of a row of qkv.
typedef struct {
    const int8_t *qkv;
    size_t tokens, head_width, width; // width = D
} heads_view;

static const int8_t *query(const heads_view *h, size_t head, size_t token) {
    return h->qkv + token * 3 * h->width + head * h->head_width;
}

static const int8_t *key(const heads_view *h, size_t head, size_t token) {
    return query(h, head, token) + h->width;
}

static const int8_t *value(const heads_view *h, size_t head, size_t token) {
    return query(h, head, token) + 2 * h->width;
}

// 7.1 for one row
static void scores_row(const heads_view *h, size_t head, size_t row, int32_t shift, int8_t *scores) {
    const int8_t *q = query(h, head, row);
    for (size_t j = 0; j < h->tokens; j++) {
        scores[j] = ternary_sat8(ternary_shift_right(ternary_dot(q, key(h, head, j), h->head_width), shift));
    }
}

// 7.2 and 7.3 for one row; `weights` may be `scores`.
static void softmax_row(const int8_t *scores, size_t tokens, const int8_t *table, int8_t *weights) {
    int32_t top = -128;
    for (size_t j = 0; j < tokens; j++) {
        top = ternary_max(top, scores[j]);
    }
    int32_t sum = 0;
    for (size_t j = 0; j < tokens; j++) {
        weights[j] = table[top - scores[j]];
        sum += weights[j];
    }
    int32_t halvings = ternary_max(ternary_bits((uint32_t)sum) - 12, 0);
    if (halvings) {
        for (size_t j = 0; j < tokens; j++) {
            weights[j] = (int8_t)(weights[j] >> halvings);
        }
    }
}

static int32_t sum_of(const int8_t *weights, size_t tokens) {
    int32_t sum = 0;
    for (size_t j = 0; j < tokens; j++) {
        sum += weights[j];
    }
    return sum;
}

// 7.4 and 7.5 for one row, of weights >= 0 with a sum of 1..4095; y is the head's part of a row.
static void values_row(const heads_view *h, size_t head, const int8_t *weights, int32_t value_gain,
                       int8_t *y) {
    int32_t sum = sum_of(weights, h->tokens);
    int32_t bits = ternary_bits((uint32_t)sum);
    int32_t shift = ternary_max(bits - 1 - value_gain, 0);
    int8_t multiplier[TERNARY_LANES];
    for (int lane = 0; lane < TERNARY_LANES; lane++) {
        multiplier[lane] = (int8_t)ternary_min(127, (1 << (bits + 6)) / sum);
    }
    for (size_t channel = 0; channel < h->head_width; channel += TERNARY_LANES) {
        size_t left = h->head_width - channel, lanes = left < TERNARY_LANES ? left : TERNARY_LANES;
        int32_t sums[TERNARY_LANES] = {0};
        int8_t mean[TERNARY_LANES];
        ternary_accumulate_values(sums, weights, value(h, head, 0) + channel, 3 * h->width, h->tokens, lanes);
        ternary_drain(sums, shift, multiplier, mean);
        for (size_t lane = 0; lane < lanes; lane++) {
            y[channel + lane] = mean[lane];
        }
    }
}

static bool check_table(const ternary_arg *table, ternary_error *error) {
    if (!ternary_size_is(table, TERNARY_TABLE_SIZE, error)) {
        return false;
    }
    return ternary_element_in(table, 0, *(const int8_t *)table->data, 127, 127, error) &&
           ternary_i8_in(table, 0, 127, error);
}

static bool check_qkv(const ternary_arg *qkv, const ternary_arg *tokens, const ternary_arg *heads,
                      heads_view *h, ternary_error *error) {
    if (!ternary_value_in(tokens, 1, TERNARY_MAX_TOKENS, error) ||
        !ternary_value_in(heads, 1, TERNARY_MAX_HEADS, error)) {
        return false;
    }
    uint64_t unit = 3 * (uint64_t)tokens->value * (uint64_t)heads->value;
    if (!ternary_size_multiple(qkv, unit, error)) {
        return false;
    }
    uint64_t head_width = qkv->size / unit;
    if (head_width > TERNARY_MAX_HEAD_WIDTH) {
        return ternary_size_is(qkv, unit * TERNARY_MAX_HEAD_WIDTH, error);
    }
    h->qkv = qkv->data;
    h->tokens = (size_t)tokens->value;
    h->head_width = (size_t)head_width;
    h->width = h->head_width * (size_t)heads->value;
    return true;
}

static bool check_square(const ternary_arg *matrix, const heads_view *h, ternary_error *error) {
    return ternary_size_is(matrix, (uint64_t)h->tokens * h->tokens, error);
}

int32_t ternary_attention(const ternary_arg *arguments, ternary_error *error) {
    const ternary_attention_arguments *a = (const void *)arguments;
    heads_view h;
    if (!check_qkv(&a->qkv, &a->tokens, &a->heads, &h, error) ||
        !ternary_value_in(&a->score_shift, 0, 15, error) || !check_table(&a->table, error) ||
        !ternary_value_in(&a->value_gain, -1, 6, error) ||
        !ternary_size_is(&a->out, a->qkv.size / 3, error) ||
        !ternary_size_at_least(&a->scratch, h.tokens, error)) {
        return error->code;
    }
    int8_t *weights = a->scratch.data, *out = a->out.data;
    for (size_t head = 0; head < (size_t)a->heads.value; head++) {
        for (size_t row = 0; row < h.tokens; row++) {
            scores_row(&h, head, row, a->score_shift.value, weights);
            softmax_row(weights, h.tokens, a->table.data, weights);
            values_row(&h, head, weights, a->value_gain.value, out + row * h.width + head * h.head_width);
        }
    }
    return 0;
}

int32_t ternary_attention_scratch(const ternary_arg *arguments, ternary_error *error) {
    const ternary_attention_scratch_arguments *a = (const void *)arguments;
    if (!ternary_value_in(&a->tokens, 1, TERNARY_MAX_TOKENS, error)) {
        return error->code;
    }
    return (int32_t)(ternary_ceil_div((uint64_t)a->tokens.value, TERNARY_LANES) * TERNARY_LANES);
}

int32_t ternary_attention_scores(const ternary_arg *arguments, ternary_error *error) {
    const ternary_attention_scores_arguments *a = (const void *)arguments;
    heads_view h;
    if (!check_qkv(&a->qkv, &a->tokens, &a->heads, &h, error) ||
        !ternary_value_in(&a->head, 0, a->heads.value - 1, error) ||
        !ternary_value_in(&a->score_shift, 0, 15, error) || !check_square(&a->out, &h, error)) {
        return error->code;
    }
    int8_t *out = a->out.data;
    for (size_t row = 0; row < h.tokens; row++) {
        scores_row(&h, (size_t)a->head.value, row, a->score_shift.value, out + row * h.tokens);
    }
    return 0;
}

int32_t ternary_softmax(const ternary_arg *arguments, ternary_error *error) {
    const ternary_softmax_arguments *a = (const void *)arguments;
    if (!ternary_value_in(&a->tokens, 1, TERNARY_MAX_TOKENS, error) ||
        !ternary_size_multiple(&a->scores, (uint64_t)a->tokens.value, error) ||
        !ternary_size_is(&a->out, a->scores.size, error) || !check_table(&a->table, error)) {
        return error->code;
    }
    size_t tokens = (size_t)a->tokens.value;
    const int8_t *scores = a->scores.data;
    int8_t *out = a->out.data;
    for (size_t row = 0; row < a->out.size; row += tokens) {
        softmax_row(scores + row, tokens, a->table.data, out + row);
    }
    return 0;
}

static bool check_weights(const ternary_arg *weights, size_t tokens, ternary_error *error) {
    if (!ternary_i8_in(weights, 0, 127, error)) {
        return false;
    }
    for (size_t row = 0; row < weights->size / tokens; row++) {
        int32_t sum = sum_of((const int8_t *)weights->data + row * tokens, tokens);
        if (sum < 1 || sum > TERNARY_MAX_WEIGHT_SUM) {
            error->index = row;
            error->value = sum;
            error->low = 1;
            error->high = TERNARY_MAX_WEIGHT_SUM;
            return ternary_fail(error, TERNARY_ERR_SUM, weights);
        }
    }
    return true;
}

int32_t ternary_attention_values(const ternary_arg *arguments, ternary_error *error) {
    const ternary_attention_values_arguments *a = (const void *)arguments;
    heads_view h;
    if (!check_qkv(&a->qkv, &a->tokens, &a->heads, &h, error) ||
        !ternary_value_in(&a->head, 0, a->heads.value - 1, error) ||
        !ternary_value_in(&a->value_gain, -1, 6, error) || !check_square(&a->weights, &h, error) ||
        !ternary_size_is(&a->out, a->qkv.size / 3, error) || !check_weights(&a->weights, h.tokens, error)) {
        return error->code;
    }
    const int8_t *weights = a->weights.data;
    size_t head = (size_t)a->head.value;
    int8_t *out = (int8_t *)a->out.data + head * h.head_width;
    for (size_t row = 0; row < h.tokens; row++) {
        values_row(&h, head, weights + row * h.tokens, a->value_gain.value, out + row * h.width);
    }
    return 0;
}

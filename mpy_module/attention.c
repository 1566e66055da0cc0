// SPDX-License-Identifier: MIT
#include <string.h>

#include "backends.h"
#include "checks.h"
#include "numbers.h"
#include "operations.h"
#include "parallel.h"

#ifdef TERNARY_HEAP
#include <stdlib.h>
#endif

// Rows of q, and of k with v behind it, each `width` bytes; a head's part of each begins at head *
// head_width.
typedef struct {
    const ternary_backend *backend;
    const int8_t *q, *kv;
    size_t q_stride, kv_stride;       // bytes from row to row
    size_t tokens, head_width, width; // width: D
} heads_view;

static const int8_t *query(const heads_view *h, size_t head, size_t token) {
    return h->q + token * h->q_stride + head * h->head_width;
}

static const int8_t *key(const heads_view *h, size_t head, size_t token) {
    return h->kv + token * h->kv_stride + head * h->head_width;
}

static const int8_t *value(const heads_view *h, size_t head, size_t token) {
    return key(h, head, token) + h->width;
}

// Queries that are processed at a time: as many as have ROWS_BYTES of scores, within MIN_ROWS..MAX_ROWS;
// where scratch is short, at least LEAST_ROWS of these.
enum { MAX_ROWS = 32, MIN_ROWS = 4, ROWS_BYTES = 8192, LEAST_ROWS = 10 };

static size_t rows_of(size_t tokens) {
    size_t rows = ROWS_BYTES / ternary_round_up(tokens);
    return rows > MAX_ROWS ? MAX_ROWS : rows < MIN_ROWS ? MIN_ROWS : rows;
}

// Scratch: k and v of a head as panels, padded to multiples of 16 tokens and channels; then for each part
// rows of scores or weights, and a spare row of weights.
typedef struct {
    int8_t *keys, *values, *weights, *spare;
} workplace;

static size_t panel_bytes(size_t tokens, size_t head_width) {
    return ternary_round_up(tokens) * ternary_round_up(head_width);
}

static size_t part_bytes(size_t tokens) {
    return (rows_of(tokens) + 1) * ternary_round_up(tokens);
}

static size_t least_bytes(size_t tokens) {
    return (ternary_smaller(rows_of(tokens), LEAST_ROWS) + 1) * ternary_round_up(tokens);
}

// Scratch without the memory of each part.
static size_t panels_bytes(size_t tokens, size_t head_width) {
    return 2 * panel_bytes(tokens, head_width) + TERNARY_SLACK;
}

// rows: that are processed at a time.
static workplace workplace_of(const ternary_arg *scratch, const heads_view *h, size_t rows, size_t part) {
    const size_t padded = ternary_round_up(h->tokens);
    int8_t *keys = ternary_aligned(scratch), *values = keys + panel_bytes(h->tokens, h->head_width);
    int8_t *weights = values + panel_bytes(h->tokens, h->head_width) + part * (rows + 1) * padded;
    return (workplace){.keys = keys, .values = values, .weights = weights, .spare = weights + rows * padded};
}

// The workplace of an operation on one part, for which scratch has room (parts_in).
static workplace only_workplace(const ternary_arg *scratch, const heads_view *h) {
    return workplace_of(scratch, h, ternary_smaller(rows_of(h->tokens), LEAST_ROWS), 0);
}

// Packs k of a head, 16 tokens to a panel.
static void pack_keys(const heads_view *h, size_t head, int8_t *panels) {
    size_t panel = ternary_round_up(h->head_width) * TERNARY_LANES;
    for (size_t token = 0; token < h->tokens; token += TERNARY_LANES) {
        size_t lanes = ternary_smaller(h->tokens - token, TERNARY_LANES);
        h->backend->transpose(key(h, head, token), h->kv_stride, lanes, h->head_width, panels);
        panels += panel;
    }
}

// Packs v of a head, 16 channels to a panel; rows after the last token are 0.
static void pack_values(const heads_view *h, size_t head, int8_t *panels) {
    size_t panel = ternary_round_up(h->tokens) * TERNARY_LANES;
    for (size_t channel = 0; channel < h->head_width; channel += TERNARY_LANES) {
        size_t lanes = ternary_smaller(h->head_width - channel, TERNARY_LANES);
        h->backend->gather(value(h, head, 0) + channel, h->kv_stride, h->tokens, lanes, panels);
        panels += panel;
    }
}

// 7.1 for queries first..first + rows - 1, to rows of `stride` >= T bytes. If stride has room for the padding
// of the last panel, scores of padding are written, too.
static void scores_of(const heads_view *h, size_t head, size_t first, size_t rows, int32_t shift,
                      const workplace *w, int8_t *scores, size_t stride) {
    ternary_product p = {
        .x = query(h, head, first),
        .panel = w->keys,
        .out = scores,
        .rows = rows,
        .depth = h->head_width,
        .x_stride = h->q_stride,
        .out_stride = stride,
    };
    size_t padded = ternary_round_up(h->tokens);
    h->backend->scores(&p, stride < padded ? h->tokens : padded, shift);
}

// 7.5: n and m from W.
static ternary_mean mean_of(int32_t sum, int32_t value_gain) {
    int32_t bits = ternary_bits((uint32_t)sum);
    return (ternary_mean){
        .shift = (uint8_t)ternary_max(bits - 1 - value_gain, 0),
        .multiplier = (int8_t)ternary_min(127, (1 << (bits + 6)) / sum),
    };
}

// 7.4 and 7.5 for `rows` rows of weights >= 0, `step` >= T bytes apart; y: the head's part of the first
// output row, rows `stride` bytes apart. Bytes after the last weight are multiplied by the panels' zeros.
static void values_of(const heads_view *h, size_t rows, const int8_t *weights, size_t step,
                      const ternary_mean *means, const workplace *w, int8_t *y, size_t stride) {
    size_t padded = ternary_round_up(h->tokens);
    ternary_product p = {
        .x = weights,
        .panel = w->values,
        .spare = w->spare,
        .out = y,
        .rows = rows,
        .depth = step < padded ? h->tokens : padded,
        .x_stride = step,
        .out_stride = stride,
    };
    for (size_t channel = 0; channel < h->head_width; channel += TERNARY_LANES) {
        p.lanes = ternary_smaller(h->head_width - channel, TERNARY_LANES);
        h->backend->values(&p, means);
        p.panel += ternary_round_up(h->tokens) * TERNARY_LANES;
        p.out += TERNARY_LANES;
    }
}

// The number of parts, at most `cores`, for which scratch has room; 0 if none.
static size_t parts_in(const ternary_arg *scratch, const heads_view *h, int32_t cores, ternary_error *error) {
    size_t panels = panels_bytes(h->tokens, h->head_width);
    return ternary_parts_in(scratch, panels, least_bytes(h->tokens), cores, error);
}

// Rows that each of these parts processes at a time: all parts have about as many blocks of them.
static size_t rows_in(const ternary_arg *scratch, const heads_view *h, size_t parts) {
    const size_t padded = ternary_round_up(h->tokens);
    const size_t room = (scratch->size - panels_bytes(h->tokens, h->head_width)) / parts / padded - 1;
    const size_t most = rows_of(h->tokens);
    if (room >= most) {
        return most;
    }
    const size_t turns = (h->tokens + room * parts - 1) / (room * parts), blocks = turns * parts;
    return (h->tokens + blocks - 1) / blocks;
}

static bool check_table(const ternary_backend *backend, const ternary_arg *table, ternary_error *error) {
    if (!ternary_size_is(table, TERNARY_TABLE_SIZE, error)) {
        return false;
    }
    return ternary_element_in(table, 0, *(const int8_t *)table->data, 127, 127, error) &&
           ternary_i8_in(backend, table, 0, 127, error);
}

// Checks T, the number of heads and the size of a buffer with `kinds` of q, k and v.
static bool check_heads(const ternary_settings *settings, const ternary_arg *buffer, size_t kinds,
                        const ternary_arg *tokens, const ternary_arg *heads, heads_view *h,
                        ternary_error *error) {
    if (!ternary_value_in(tokens, 1, TERNARY_MAX_TOKENS, error) ||
        !ternary_value_in(heads, 1, TERNARY_MAX_HEADS, error)) {
        return false;
    }
    uint64_t unit = kinds * (uint64_t)tokens->value * (uint64_t)heads->value;
    if (!ternary_size_multiple(buffer, unit, error)) {
        return false;
    }
    uint64_t head_width = buffer->size / unit;
    if (head_width > TERNARY_MAX_HEAD_WIDTH) {
        return ternary_size_is(buffer, unit * TERNARY_MAX_HEAD_WIDTH, error);
    }
    h->backend = settings->backend;
    h->tokens = (size_t)tokens->value;
    h->head_width = (size_t)head_width;
    h->width = h->head_width * (size_t)heads->value;
    return true;
}

static bool check_qkv(const ternary_settings *settings, const ternary_arg *qkv, const ternary_arg *tokens,
                      const ternary_arg *heads, heads_view *h, ternary_error *error) {
    if (!check_heads(settings, qkv, 3, tokens, heads, h, error)) {
        return false;
    }
    h->q = qkv->data;
    h->kv = h->q + h->width;
    h->q_stride = h->kv_stride = 3 * h->width;
    return true;
}

// Checks a matrix [T, T or more].
static bool check_matrix(const ternary_arg *matrix, const heads_view *h, ternary_error *error) {
    return ternary_size_multiple(matrix, h->tokens, error) &&
           ternary_size_at_least(matrix, (uint64_t)h->tokens * h->tokens, error);
}

// One call of ternary_attention.
typedef struct {
    heads_view view;
    int32_t score_shift, value_gain;
    const int8_t *table;
    int8_t *out; // where the first head's columns begin
    size_t stride;
    size_t heads, head; // head: the current one
    const ternary_arg *scratch;
    size_t parts, rows;
    int8_t *panels; // NULL, or room for the panels of a head for each part
} attention;

static void attend(const attention *a, const workplace *work, size_t first, size_t rows) {
    const heads_view *h = &a->view;
    size_t head = a->head;
    size_t padded = ternary_round_up(h->tokens);
    ternary_mean means[MAX_ROWS];
    scores_of(h, head, first, rows, a->score_shift, work, work->weights, padded);
    int8_t *weights = work->weights;
    int32_t sums[MAX_ROWS];
    h->backend->softmax(weights, rows, h->tokens, padded, a->table, weights, sums);
    for (size_t row = 0; row < rows; row++) {
        means[row] = mean_of(sums[row], a->value_gain);
    }
    int8_t *y = a->out + first * a->stride + head * h->head_width;
    values_of(h, rows, weights, padded, means, work, y, a->stride);
}

// A part computes every parts-th block of rows.
static void attention_part(void *context, size_t part) {
    const attention *a = context;
    workplace work = workplace_of(a->scratch, &a->view, a->rows, part);
    size_t tokens = a->view.tokens, rows = a->rows;
    for (size_t row = part * rows; row < tokens; row += a->parts * rows) {
        attend(a, &work, row, ternary_smaller(tokens - row, rows));
    }
}

#ifdef TERNARY_HEAP
// A part with panels of its own computes some rows of all heads one after another, and packs the heads that
// they are of.
static void heads_part(void *context, size_t part) {
    attention a = *(const attention *)context;
    workplace work = workplace_of(a.scratch, &a.view, a.rows, part);
    const size_t panel = panel_bytes(a.view.tokens, a.view.head_width);
    work.keys = a.panels + part * 2 * panel;
    work.values = work.keys + panel;
    const size_t tokens = a.view.tokens, rows = a.rows, total = a.heads * tokens;
    const size_t end = total * (part + 1) / a.parts;
    for (size_t begin = total * part / a.parts; begin < end;) {
        a.head = begin / tokens;
        const size_t first = begin % tokens, last = ternary_smaller(tokens, first + end - begin);
        pack_keys(&a.view, a.head, work.keys);
        pack_values(&a.view, a.head, work.values);
        for (size_t row = first; row < last; row += rows) {
            attend(&a, &work, row, ternary_smaller(last - row, rows));
        }
        begin += last - first;
    }
}

// Whether heads_part has computed all. Its panels come from the system's heap, as those of linear layers do.
static bool by_heads(attention *a) {
    const size_t panels = 2 * panel_bytes(a->view.tokens, a->view.head_width);
    void *memory = a->parts > 1 ? malloc(a->parts * panels + TERNARY_CACHE_LINE) : NULL;
    if (!memory) {
        return false;
    }
    a->panels = ternary_on_line(memory);
    ternary_parallel(heads_part, a, a->parts);
    free(memory);
    return true;
}
#endif

// ternary_attention_columns has the same arguments, with kv in the place of qkv.
typedef ternary_attention_arguments attention_arguments;
_Static_assert(sizeof(attention_arguments) == sizeof(ternary_attention_columns_arguments), "arguments");

// Checks all that follows from a view of the heads, and computes all of them.
static int32_t all_heads(const ternary_settings *settings, const attention_arguments *a, const heads_view *h,
                         ternary_error *error) {
    if (!ternary_value_in(&a->score_shift, 0, TERNARY_MAX_SCORE_SHIFT, error) ||
        !check_table(settings->backend, &a->table, error) ||
        !ternary_value_in(&a->value_gain, TERNARY_MIN_VALUE_GAIN, TERNARY_MAX_VALUE_GAIN, error)) {
        return error->code;
    }
    size_t parts = parts_in(&a->scratch, h, settings->cores, error);
    if (parts == 0) {
        return error->code;
    }
    attention all = {
        .view = *h,
        .score_shift = a->score_shift.value,
        .value_gain = a->value_gain.value,
        .table = a->table.data,
        .out = (int8_t *)a->out.data + a->column.value,
        .stride = a->out.size / h->tokens,
        .heads = (size_t)a->heads.value,
        .scratch = &a->scratch,
        .parts = parts,
        .rows = rows_in(&a->scratch, h, parts),
    };
#ifdef TERNARY_HEAP
    if (by_heads(&all)) {
        return 0;
    }
#endif
    workplace work = workplace_of(&a->scratch, h, all.rows, 0);
    for (; all.head < all.heads; all.head++) {
        pack_keys(h, all.head, work.keys);
        pack_values(h, all.head, work.values);
        ternary_parallel(attention_part, &all, all.parts);
    }
    return 0;
}

// Checks that the heads' columns are within out [T, any width].
static bool check_columns(const attention_arguments *a, const heads_view *h, ternary_error *error) {
    return ternary_size_multiple(&a->out, h->tokens, error) &&
           ternary_columns_in(&a->out, h->tokens, &a->column, h->width, error);
}

int32_t ternary_attention(const ternary_settings *settings, const ternary_arg *arguments,
                          ternary_error *error) {
    const attention_arguments *a = (const void *)arguments;
    heads_view h;
    if (!check_qkv(settings, &a->qkv, &a->tokens, &a->heads, &h, error) || !check_columns(a, &h, error)) {
        return error->code;
    }
    return all_heads(settings, a, &h, error);
}

int32_t ternary_attention_columns(const ternary_settings *settings, const ternary_arg *arguments,
                                  ternary_error *error) {
    const attention_arguments *a = (const void *)arguments;
    heads_view h;
    if (!check_heads(settings, &a->qkv, 2, &a->tokens, &a->heads, &h, error) ||
        !check_columns(a, &h, error)) {
        return error->code;
    }
    h.kv = a->qkv.data;
    h.kv_stride = 2 * h.width;
    // Scores of a block of rows are computed before its outputs, which replace its queries.
    h.q = (const int8_t *)a->out.data + a->column.value;
    h.q_stride = a->out.size / h.tokens;
    return all_heads(settings, a, &h, error);
}

// Scratch for `bytes` a part.
static int32_t scratch_of(const ternary_settings *settings, const ternary_arg *tokens,
                          const ternary_arg *head_width, size_t (*bytes)(size_t tokens),
                          ternary_error *error) {
    if (!ternary_value_in(tokens, 1, TERNARY_MAX_TOKENS, error) ||
        !ternary_value_in(head_width, 1, TERNARY_MAX_HEAD_WIDTH, error)) {
        return error->code;
    }
    size_t panels = panels_bytes((size_t)tokens->value, (size_t)head_width->value);
    return (int32_t)(panels + (size_t)settings->cores * bytes((size_t)tokens->value));
}

int32_t ternary_attention_scratch(const ternary_settings *settings, const ternary_arg *arguments,
                                  ternary_error *error) {
    const ternary_attention_scratch_arguments *a = (const void *)arguments;
    return scratch_of(settings, &a->tokens, &a->head_width, part_bytes, error);
}

int32_t ternary_attention_scratch_least(const ternary_settings *settings, const ternary_arg *arguments,
                                        ternary_error *error) {
    const ternary_attention_scratch_least_arguments *a = (const void *)arguments;
    return scratch_of(settings, &a->tokens, &a->head_width, least_bytes, error);
}

int32_t ternary_attention_scores(const ternary_settings *settings, const ternary_arg *arguments,
                                 ternary_error *error) {
    const ternary_attention_scores_arguments *a = (const void *)arguments;
    heads_view h;
    if (!check_qkv(settings, &a->qkv, &a->tokens, &a->heads, &h, error) ||
        !ternary_value_in(&a->head, 0, a->heads.value - 1, error) ||
        !ternary_value_in(&a->score_shift, 0, TERNARY_MAX_SCORE_SHIFT, error) ||
        !check_matrix(&a->out, &h, error) || parts_in(&a->scratch, &h, 1, error) == 0) {
        return error->code;
    }
    workplace work = only_workplace(&a->scratch, &h);
    size_t head = (size_t)a->head.value;
    pack_keys(&h, head, work.keys);
    scores_of(&h, head, 0, h.tokens, a->score_shift.value, &work, a->out.data, a->out.size / h.tokens);
    return 0;
}

int32_t ternary_softmax(const ternary_settings *settings, const ternary_arg *arguments,
                        ternary_error *error) {
    const ternary_softmax_arguments *a = (const void *)arguments;
    if (!ternary_value_in(&a->tokens, 1, TERNARY_MAX_TOKENS, error) ||
        !ternary_size_multiple(&a->scores, (uint64_t)a->tokens.value, error) ||
        !ternary_size_is(&a->out, a->scores.size, error) ||
        !check_table(settings->backend, &a->table, error)) {
        return error->code;
    }
    size_t tokens = (size_t)a->tokens.value;
    const int8_t *scores = a->scores.data;
    int8_t *out = a->out.data;
    int32_t sums[MAX_ROWS];
    for (size_t left = a->out.size / tokens; left;) {
        size_t rows = ternary_smaller(left, MAX_ROWS);
        settings->backend->softmax(scores, rows, tokens, tokens, a->table.data, out, sums);
        scores += rows * tokens;
        out += rows * tokens;
        left -= rows;
    }
    return 0;
}

static bool check_sum(const ternary_arg *weights, size_t row, int32_t sum, ternary_error *error) {
    if (sum >= 1 && sum <= TERNARY_MAX_WEIGHT_SUM) {
        return true;
    }
    error->index = row;
    error->value = sum;
    error->low = 1;
    error->high = TERNARY_MAX_WEIGHT_SUM;
    return ternary_fail(error, TERNARY_ERR_SUM, weights);
}

// Whether all weights are 0..127; bytes between rows are not checked.
static bool check_signs(const ternary_backend *backend, const ternary_arg *weights, size_t tokens,
                        ternary_error *error) {
    size_t step = weights->size / tokens;
    if (backend->no_signs(weights->data, weights->size)) {
        return true;
    }
    for (size_t i = 0; i < tokens; i++) {
        ternary_arg row = {.data = (int8_t *)weights->data + i * step, .size = tokens};
        if (!ternary_i8_in(backend, &row, 0, 127, error)) {
            error->argument = weights;
            error->index += i * step;
            return false;
        }
    }
    return true;
}

// Checks that rows of weights satisfy 7.3, then computes n and m of each (7.5): a refused call writes
// nothing.
static bool check_weights(const ternary_backend *backend, const ternary_arg *weights, size_t tokens,
                          int32_t value_gain, ternary_mean *means, ternary_error *error) {
    const int8_t *row = weights->data;
    if (!check_signs(backend, weights, tokens, error)) {
        return false;
    }
    size_t step = weights->size / tokens;
    for (size_t i = 0; i < tokens; i++) {
        if (!check_sum(weights, i, backend->total(row + i * step, tokens), error)) {
            return false;
        }
    }
    for (size_t i = 0; i < tokens; i++) {
        means[i] = mean_of(backend->total(row + i * step, tokens), value_gain);
    }
    return true;
}

int32_t ternary_attention_values(const ternary_settings *settings, const ternary_arg *arguments,
                                 ternary_error *error) {
    const ternary_attention_values_arguments *a = (const void *)arguments;
    heads_view h;
    if (!check_qkv(settings, &a->qkv, &a->tokens, &a->heads, &h, error) ||
        !ternary_value_in(&a->head, 0, a->heads.value - 1, error) ||
        !ternary_value_in(&a->value_gain, TERNARY_MIN_VALUE_GAIN, TERNARY_MAX_VALUE_GAIN, error) ||
        !check_matrix(&a->weights, &h, error) || !ternary_size_is(&a->out, a->qkv.size / 3, error) ||
        parts_in(&a->scratch, &h, 1, error) == 0) {
        return error->code;
    }
    workplace work = only_workplace(&a->scratch, &h);
    ternary_mean *means = (ternary_mean *)work.weights; // MIN_ROWS * T bytes hold them
    if (!check_weights(settings->backend, &a->weights, h.tokens, a->value_gain.value, means, error)) {
        return error->code;
    }
    size_t head = (size_t)a->head.value;
    pack_values(&h, head, work.values);
    values_of(&h, h.tokens, a->weights.data, a->weights.size / h.tokens, means, &work,
              (int8_t *)a->out.data + head * h.head_width, h.width);
    return 0;
}

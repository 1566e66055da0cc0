// SPDX-License-Identifier: MIT
#include "backends.h"
#include "checks.h"
#include "numbers.h"
#include "operations.h"
#include "parallel.h"
#include "residual.h"

// An elementwise operation; parts take stretches of whole vectors.
typedef struct {
    const ternary_backend *backend;
    const int8_t *x, *table;
    int8_t *out;
    int16_t *residual;
    size_t count, parts;
    int32_t shift;
} elements;

typedef struct {
    size_t first, count;
} stretch;

static stretch stretch_of(const elements *e, size_t part) {
    size_t step = ternary_round_up((e->count + e->parts - 1) / e->parts);
    size_t first = ternary_smaller(part * step, e->count);
    return (stretch){.first = first, .count = ternary_smaller(step, e->count - first)};
}

static void lookup_part(void *context, size_t part) {
    const elements *e = context;
    stretch s = stretch_of(e, part);
    if (s.count) {
        e->backend->lookup(e->x + s.first, s.count, e->table, e->out + s.first);
    }
}

static void residual_part(void *context, size_t part) {
    const elements *e = context;
    stretch s = stretch_of(e, part);
    if (s.count) {
        e->backend->residual_add(e->residual + s.first, e->x + s.first, s.count, e->shift);
    }
}

int32_t ternary_lookup(const ternary_settings *settings, const ternary_arg *arguments, ternary_error *error) {
    const ternary_lookup_arguments *a = (const void *)arguments;
    if (!ternary_size_is(&a->table, TERNARY_TABLE_SIZE, error) ||
        !ternary_size_is(&a->out, a->x.size, error)) {
        return error->code;
    }
    elements e = {
        .backend = settings->backend,
        .x = a->x.data,
        .table = a->table.data,
        .out = a->out.data,
        .count = a->x.size,
        .parts = (size_t)settings->cores,
    };
    ternary_parallel(lookup_part, &e, e.parts);
    return 0;
}

bool ternary_check_branch(const ternary_arg *residual, const ternary_arg *y, const ternary_arg *shift,
                          ternary_error *error) {
    return ternary_value_in(shift, 0, TERNARY_MAX_RESIDUAL_SHIFT, error) &&
           ternary_size_is(residual, (uint64_t)y->size * sizeof(int16_t), error);
}

int32_t ternary_residual_start(const ternary_settings *settings, const ternary_arg *arguments,
                               ternary_error *error) {
    const ternary_residual_start_arguments *a = (const void *)arguments;
    if (!ternary_check_branch(&a->residual, &a->y, &a->shift, error)) {
        return error->code;
    }
    settings->backend->residual_start(a->residual.data, a->y.data, a->y.size, a->shift.value);
    return 0;
}

void ternary_add_branch(const ternary_settings *settings, const ternary_arg *residual, const ternary_arg *y,
                        const ternary_arg *shift) {
    elements e = {
        .backend = settings->backend,
        .x = y->data,
        .residual = residual->data,
        .count = y->size,
        .parts = (size_t)settings->cores,
        .shift = shift->value,
    };
    ternary_parallel(residual_part, &e, e.parts);
}

int32_t ternary_residual_add(const ternary_settings *settings, const ternary_arg *arguments,
                             ternary_error *error) {
    const ternary_residual_add_arguments *a = (const void *)arguments;
    if (!ternary_check_branch(&a->residual, &a->y, &a->shift, error)) {
        return error->code;
    }
    ternary_add_branch(settings, &a->residual, &a->y, &a->shift);
    return 0;
}

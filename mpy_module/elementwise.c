// SPDX-License-Identifier: MIT
#include "checks.h"
#include "numbers.h"
#include "operations.h"

int32_t ternary_lookup(const ternary_arg *arguments, ternary_error *error) {
    const ternary_lookup_arguments *a = (const void *)arguments;
    if (!ternary_size_is(&a->table, TERNARY_TABLE_SIZE, error) ||
        !ternary_size_is(&a->out, a->x.size, error)) {
        return error->code;
    }
    const int8_t *x = a->x.data, *table = a->table.data;
    int8_t *out = a->out.data;
    for (size_t i = 0; i < a->x.size; i++) {
        out[i] = table[x[i] + 128];
    }
    return 0;
}

// 5.1, 5.2: residual [T, D] and a branch y of the same shape.
static bool check_branch(const ternary_arg *residual, const ternary_arg *y, const ternary_arg *shift,
                         ternary_error *error) {
    return ternary_value_in(shift, 0, 8, error) &&
           ternary_size_is(residual, (uint64_t)y->size * sizeof(int16_t), error);
}

int32_t ternary_residual_start(const ternary_arg *arguments, ternary_error *error) {
    const ternary_residual_start_arguments *a = (const void *)arguments;
    if (!check_branch(&a->residual, &a->y, &a->shift, error)) {
        return error->code;
    }
    int16_t *restrict residual = a->residual.data;
    const int8_t *restrict y = a->y.data;
    int32_t factor = 1 << a->shift.value;
    for (size_t i = 0; i < a->y.size; i++) {
        residual[i] = (int16_t)(y[i] * factor); // -128 * 2^8 fits
    }
    return 0;
}

int32_t ternary_residual_add(const ternary_arg *arguments, ternary_error *error) {
    const ternary_residual_add_arguments *a = (const void *)arguments;
    if (!check_branch(&a->residual, &a->y, &a->shift, error)) {
        return error->code;
    }
    int16_t *restrict residual = a->residual.data;
    const int8_t *restrict y = a->y.data;
    int32_t factor = 1 << a->shift.value;
    for (size_t i = 0; i < a->y.size; i++) {
        residual[i] = ternary_sat16(residual[i] + y[i] * factor);
    }
    return 0;
}

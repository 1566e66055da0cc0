// SPDX-License-Identifier: MIT
#include "checks.h"
#include "operations.h"
#include "primitives.h"

int32_t ternary_lookup(const ternary_arg *arguments, ternary_error *error) {
    const ternary_lookup_arguments *a = (const void *)arguments;
    if (!ternary_size_is(&a->table, TERNARY_TABLE_SIZE, error) ||
        !ternary_size_is(&a->out, a->x.size, error)) {
        return error->code;
    }
    ternary_active->lookup(a->x.data, a->x.size, a->table.data, a->out.data);
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
    ternary_active->residual_start(a->residual.data, a->y.data, a->y.size, a->shift.value);
    return 0;
}

int32_t ternary_residual_add(const ternary_arg *arguments, ternary_error *error) {
    const ternary_residual_add_arguments *a = (const void *)arguments;
    if (!check_branch(&a->residual, &a->y, &a->shift, error)) {
        return error->code;
    }
    ternary_active->residual_add(a->residual.data, a->y.data, a->y.size, a->shift.value);
    return 0;
}

// SPDX-License-Identifier: MIT
#include "checks.h"
#include "numbers.h"
#include "operations.h"

// 9.6: the mean of n integers with this sum, rounded; halves go up.
static int32_t rounded_mean(int32_t sum, int32_t n) {
    int32_t doubled = 2 * sum + n, quotient = doubled / (2 * n);
    return quotient - (doubled < quotient * 2 * n); // C rounds toward 0
}

int32_t ternary_mean_rows(const ternary_settings *settings, const ternary_arg *arguments,
                          ternary_error *error) {
    (void)settings;
    const ternary_mean_rows_arguments *a = (const void *)arguments;
    size_t width = a->out.size;
    if (!ternary_size_at_least(&a->x, width, error) || !ternary_size_multiple(&a->x, width, error)) {
        return error->code;
    }
    size_t rows = a->x.size / width;
    if (rows > TERNARY_MAX_TOKENS) {
        ternary_size_is(&a->x, (uint64_t)width * TERNARY_MAX_TOKENS, error);
        return error->code;
    }
    const int8_t *x = a->x.data;
    int8_t *out = a->out.data;
    for (size_t column = 0; column < width; column++) {
        int32_t sum = 0;
        const int8_t *value = x + column;
        for (size_t row = 0; row < rows; row++, value += width) {
            sum += *value;
        }
        out[column] = (int8_t)rounded_mean(sum, (int32_t)rows);
    }
    return 0;
}

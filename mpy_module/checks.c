// SPDX-License-Identifier: MIT
#include "checks.h"
#include "backends.h"
#include "numbers.h"

bool ternary_fail(ternary_error *error, int32_t code, const ternary_arg *argument) {
    error->code = code;
    error->argument = argument;
    return false;
}

static bool fail_needed(ternary_error *error, int32_t code, const ternary_arg *argument, uint64_t needed) {
    error->needed = needed;
    return ternary_fail(error, code, argument);
}

static bool fail_range(ternary_error *error, int32_t code, const ternary_arg *argument, int32_t low,
                       int32_t high) {
    error->low = low;
    error->high = high;
    return ternary_fail(error, code, argument);
}

bool ternary_size_is(const ternary_arg *buffer, uint64_t needed, ternary_error *error) {
    return buffer->size == needed || fail_needed(error, TERNARY_ERR_SIZE, buffer, needed);
}

bool ternary_size_at_least(const ternary_arg *buffer, uint64_t needed, ternary_error *error) {
    return buffer->size >= needed || fail_needed(error, TERNARY_ERR_SHORT, buffer, needed);
}

bool ternary_size_multiple(const ternary_arg *buffer, uint64_t unit, ternary_error *error) {
    // 64-bit division is a slow library call on the chip.
    bool whole = unit > SIZE_MAX ? buffer->size == 0 : buffer->size % (size_t)unit == 0;
    return whole || fail_needed(error, TERNARY_ERR_MULTIPLE, buffer, unit);
}

bool ternary_value_in(const ternary_arg *number, int32_t low, int32_t high, ternary_error *error) {
    return (number->value >= low && number->value <= high) ||
           fail_range(error, TERNARY_ERR_VALUE, number, low, high);
}

bool ternary_value_multiple(const ternary_arg *number, int32_t unit, ternary_error *error) {
    return number->value % unit == 0 || fail_needed(error, TERNARY_ERR_MULTIPLE, number, (uint64_t)unit);
}

bool ternary_is_channels(const ternary_arg *number, ternary_error *error) {
    return number->value == 1 || number->value == 3 || fail_needed(error, TERNARY_ERR_CHANNELS, number, 0);
}

bool ternary_columns_in(const ternary_arg *buffer, size_t rows, const ternary_arg *column, size_t count,
                        ternary_error *error) {
    uint64_t width = buffer->size / rows;
    if (width < count) {
        return ternary_size_at_least(buffer, (uint64_t)rows * count, error);
    }
    uint64_t last = width - count;
    return ternary_value_in(column, 0, last > INT32_MAX ? INT32_MAX : (int32_t)last, error);
}

size_t ternary_parts_in(const ternary_arg *scratch, size_t fixed, size_t each, int32_t cores,
                        ternary_error *error) {
    size_t parts = (size_t)cores;
    while (parts > 1 && scratch->size < fixed + parts * each) {
        parts--;
    }
    return ternary_size_at_least(scratch, fixed + parts * each, error) ? parts : 0;
}

bool ternary_element_in(const ternary_arg *buffer, size_t index, int32_t value, int32_t low, int32_t high,
                        ternary_error *error) {
    if (value >= low && value <= high) {
        return true;
    }
    error->index = index;
    error->value = value;
    return fail_range(error, TERNARY_ERR_CONTENT, buffer, low, high);
}

// Finds the smallest and the largest element, at two instructions an element; only on failure the first one
// out of range.
#define ELEMENTS_WITHIN(name, type)                                                                          \
    bool name(const ternary_arg *buffer, size_t from, size_t to, int32_t low, int32_t high,                  \
              ternary_error *error) {                                                                        \
        const type *elements = buffer->data;                                                                 \
        int32_t smallest = high, largest = low;                                                              \
        for (size_t i = from; i < to; i++) {                                                                 \
            smallest = ternary_min(smallest, elements[i]);                                                   \
            largest = ternary_max(largest, elements[i]);                                                     \
        }                                                                                                    \
        if (smallest >= low && largest <= high) {                                                            \
            return true;                                                                                     \
        }                                                                                                    \
        while (ternary_element_in(buffer, from, elements[from], low, high, error)) {                         \
            from++;                                                                                          \
        }                                                                                                    \
        return false;                                                                                        \
    }

// clang-format off
static ELEMENTS_WITHIN(i8_within, int8_t)
static ELEMENTS_WITHIN(u8_within, uint8_t)
static ELEMENTS_WITHIN(i32_within, int32_t)
ELEMENTS_WITHIN(ternary_i16_within, int16_t)
    // clang-format on

    bool ternary_i8_in(const ternary_backend *backend, const ternary_arg *buffer, int32_t low, int32_t high,
                       ternary_error *error) {
    return (low == 0 && high == 127 && backend->no_signs(buffer->data, buffer->size)) ||
           i8_within(buffer, 0, buffer->size, low, high, error);
}

bool ternary_u8_in(const ternary_arg *buffer, int32_t low, int32_t high, ternary_error *error) {
    return u8_within(buffer, 0, buffer->size, low, high, error);
}

bool ternary_i16_in(const ternary_arg *buffer, int32_t low, int32_t high, ternary_error *error) {
    return ternary_i16_within(buffer, 0, buffer->size / sizeof(int16_t), low, high, error);
}

bool ternary_i32_in(const ternary_arg *buffer, int32_t low, int32_t high, ternary_error *error) {
    return i32_within(buffer, 0, buffer->size / sizeof(int32_t), low, high, error);
}

// SPDX-License-Identifier: MIT
// Checks of arguments. Each returns true, or records what is wrong in `error` and returns false.
// Expected sizes are uint64_t: products of a size_t and bounded numbers, which must not wrap on 32-bit
// targets.

#ifndef TERNARY_CHECKS_H
#define TERNARY_CHECKS_H

#include <stdbool.h>

#include "ternary.h"

// Records the code and the argument at fault; returns false.
bool ternary_fail(ternary_error *error, int32_t code, const ternary_arg *argument);

bool ternary_size_is(const ternary_arg *buffer, uint64_t needed, ternary_error *error);
bool ternary_size_at_least(const ternary_arg *buffer, uint64_t needed, ternary_error *error);
bool ternary_size_multiple(const ternary_arg *buffer, uint64_t unit, ternary_error *error);

bool ternary_value_in(const ternary_arg *number, int32_t low, int32_t high, ternary_error *error);
bool ternary_value_multiple(const ternary_arg *number, int32_t unit, ternary_error *error);
bool ternary_is_channels(const ternary_arg *number, ternary_error *error); // 3.1: 1 or 3

// Whether `count` columns from `column` on are within rows of a buffer, which has `rows` whole ones.
bool ternary_columns_in(const ternary_arg *buffer, size_t rows, const ternary_arg *column, size_t count,
                        ternary_error *error);

// Whether element `index`, which is `value`, lies in low..high.
bool ternary_element_in(const ternary_arg *buffer, size_t index, int32_t value, int32_t low, int32_t high,
                        ternary_error *error);

// Whether elements from..to - 1 of a buffer of int16 do.
bool ternary_i16_within(const ternary_arg *buffer, size_t from, size_t to, int32_t low, int32_t high,
                        ternary_error *error);

// Whether all elements do, of a buffer of int8, uint8, int16 and int32.
bool ternary_i8_in(const ternary_arg *buffer, int32_t low, int32_t high, ternary_error *error);
bool ternary_u8_in(const ternary_arg *buffer, int32_t low, int32_t high, ternary_error *error);
bool ternary_i16_in(const ternary_arg *buffer, int32_t low, int32_t high, ternary_error *error);
bool ternary_i32_in(const ternary_arg *buffer, int32_t low, int32_t high, ternary_error *error);

#endif

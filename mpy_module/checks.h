// SPDX-License-Identifier: MIT
// Argument checks. Each returns true, or fills `error` and returns false. Expected sizes are uint64_t, so
// that products of a size_t and a bounded number do not wrap on 32-bit targets.

#ifndef TERNARY_CHECKS_H
#define TERNARY_CHECKS_H

#include <stdbool.h>

#include "ternary.h"

// Sets the code and the offending argument; returns false.
bool ternary_fail(ternary_error *error, int32_t code, const ternary_arg *argument);

bool ternary_size_is(const ternary_arg *buffer, uint64_t needed, ternary_error *error);
bool ternary_size_at_least(const ternary_arg *buffer, uint64_t needed, ternary_error *error);
bool ternary_size_multiple(const ternary_arg *buffer, uint64_t unit, ternary_error *error);

bool ternary_value_in(const ternary_arg *number, int32_t low, int32_t high, ternary_error *error);
bool ternary_value_multiple(const ternary_arg *number, int32_t unit, ternary_error *error);
bool ternary_is_channels(const ternary_arg *number, ternary_error *error); // 3.1: 1 or 3

// Whether columns column..column + count - 1 exist in a buffer of `rows` rows, whose size is a multiple of
// it.
bool ternary_columns_in(const ternary_arg *buffer, size_t rows, const ternary_arg *column, size_t count,
                        ternary_error *error);

// The number of parts, 1..cores, for which a scratch of `fixed` + parts * `each` bytes has room; 0 if none.
// So an operation never writes beyond its scratch, even if another thread sets more cores after the scratch
// was sized.
size_t ternary_parts_in(const ternary_arg *scratch, size_t fixed, size_t each, int32_t cores,
                        ternary_error *error);

// Whether `value`, which is element `index`, is in low..high.
bool ternary_element_in(const ternary_arg *buffer, size_t index, int32_t value, int32_t low, int32_t high,
                        ternary_error *error);

// Whether elements from..to - 1 of an int16 buffer are in low..high.
bool ternary_i16_within(const ternary_arg *buffer, size_t from, size_t to, int32_t low, int32_t high,
                        ternary_error *error);

// Whether all elements of an int8, uint8, int16 or int32 buffer are in low..high.
bool ternary_i8_in(const ternary_backend *backend, const ternary_arg *buffer, int32_t low, int32_t high,
                   ternary_error *error);
bool ternary_u8_in(const ternary_arg *buffer, int32_t low, int32_t high, ternary_error *error);
bool ternary_i16_in(const ternary_arg *buffer, int32_t low, int32_t high, ternary_error *error);
bool ternary_i32_in(const ternary_arg *buffer, int32_t low, int32_t high, ternary_error *error);

#endif

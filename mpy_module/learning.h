// SPDX-License-Identifier: MIT
// What the operations of SPEC 12 share.

#ifndef TERNARY_LEARNING_H
#define TERNARY_LEARNING_H

#include <stdbool.h>

#include "ternary.h"

// Whether `width`, which divides the size of the buffer, is at most TERNARY_MAX_FEATURES.
bool ternary_is_width(const ternary_arg *buffer, size_t width, ternary_error *error);

// Whether a buffer holds at most TERNARY_MAX_PICTURES items of `each` bytes; sets their number.
bool ternary_is_pictures(const ternary_arg *buffer, size_t each, size_t *pictures, ternary_error *error);

int32_t ternary_dot(const int8_t *a, const int8_t *b, size_t count);

// (16 sum) // width, for sums of products of `width` pairs of bytes.
int32_t ternary_per_feature(int32_t sum, size_t width);

// 12.2: the product of two pictures' features, 14 fractional bits, before it is clamped to int16.
int32_t ternary_kernel(const int8_t *a, const int8_t *b, size_t width);

#endif

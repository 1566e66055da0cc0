// SPDX-License-Identifier: MIT
// The residual stream (5): what its operations and the linear ones share.

#ifndef TERNARY_RESIDUAL_H
#define TERNARY_RESIDUAL_H

#include <stdbool.h>

#include "ternary.h"

// Whether residual [T, D] has the shape of a branch y, and the shift is in range.
bool ternary_check_branch(const ternary_arg *residual, const ternary_arg *y, const ternary_arg *shift,
                          ternary_error *error);

// residual += y * 2^shift, on all cores.
void ternary_add_branch(const ternary_settings *settings, const ternary_arg *residual, const ternary_arg *y,
                        const ternary_arg *shift);

#endif

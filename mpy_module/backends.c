// SPDX-License-Identifier: MIT
#include "backends.h"

// The first one is in use until ternary_use.
static const ternary_primitives *const rows[] = {
#ifdef TERNARY_PIE
    &ternary_pie,
#endif
    &ternary_reference,
};

const ternary_primitives *ternary_active =
#ifdef TERNARY_PIE
    &ternary_pie;
#else
    &ternary_reference;
#endif

const char *ternary_row_name(size_t number) {
    return number < sizeof(rows) / sizeof(*rows) ? rows[number]->name : NULL;
}

void ternary_use_row(size_t number) {
    ternary_active = rows[number];
}

// SPDX-License-Identifier: MIT
#include "backends.h"

// The default first.
static const ternary_backend *const backends[] = {
#ifdef TERNARY_PIE
    &ternary_pie,
#endif
    &ternary_reference,
};

const ternary_backend *ternary_active =
#ifdef TERNARY_PIE
    &ternary_pie;
#else
    &ternary_reference;
#endif

const char *ternary_backend_name(size_t number) {
    return number < sizeof(backends) / sizeof(*backends) ? backends[number]->name : NULL;
}

void ternary_use_backend(size_t number) {
    ternary_active = backends[number];
}

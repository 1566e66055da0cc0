// SPDX-License-Identifier: MIT
#include "backends.h"
#include "atomic.h"

// The default first.
static const ternary_backend *const backends[] = {
#ifdef TERNARY_PIE
    &ternary_pie,
#endif
    &ternary_reference,
};

// The number of the one in use. Threads may change it while others call operations.
static size_t in_use = 0;

const char *ternary_backend_name(size_t number) {
    return number < sizeof(backends) / sizeof(*backends) ? backends[number]->name : NULL;
}

void ternary_use_backend(size_t number) {
    TERNARY_STORE(&in_use, number);
}

const ternary_backend *ternary_backend_in_use(void) {
    return backends[TERNARY_LOAD(&in_use)];
}

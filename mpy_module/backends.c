// SPDX-License-Identifier: MIT
#include "backends.h"
#include "atomic.h"

// The default first.
static const ternary_backend *const backends[] = {
#ifdef TERNARY_PIE
    &ternary_pie,
#endif
#ifdef TERNARY_X86
    &ternary_avx512_vnni, &ternary_avx_vnni, &ternary_avx2,
#endif
#ifdef TERNARY_NEON
    &ternary_neon_dot,    &ternary_neon,
#endif
#ifdef TERNARY_WASM
    &ternary_simd128,
#endif
    &ternary_reference,
};

enum { COUNT = sizeof(backends) / sizeof(*backends) };

// The number of the one in use. Threads may change it while others call operations.
static size_t in_use = 0;

// The backend of that number among those that this machine can run, or NULL.
static const ternary_backend *numbered(size_t number) {
#ifdef TERNARY_DETECTED
    for (size_t i = 0; i < COUNT; i++) {
        if (!backends[i]->usable || backends[i]->usable()) {
            if (number == 0) {
                return backends[i];
            }
            number--;
        }
    }
    return NULL;
#else
    return number < COUNT ? backends[number] : NULL;
#endif
}

const char *ternary_backend_name(size_t number) {
    const ternary_backend *backend = numbered(number);
    return backend ? backend->name : NULL;
}

void ternary_use_backend(size_t number) {
    TERNARY_STORE(&in_use, number);
}

const ternary_backend *ternary_backend_in_use(void) {
    return numbered(TERNARY_LOAD(&in_use));
}

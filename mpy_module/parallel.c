// SPDX-License-Identifier: MIT
#include "parallel.h"
#include "atomic.h"

// Threads may change it while others call operations.
static int32_t cores = 1;

int32_t ternary_cores(void) {
    return TERNARY_LOAD(&cores);
}

int32_t ternary_use_cores(int32_t wanted) {
    int32_t most = wanted < TERNARY_MAX_CORES ? wanted : TERNARY_MAX_CORES;
    int32_t given = most > 1 ? 1 + ternary_worker_start(most - 1) : 1;
    TERNARY_STORE(&cores, given);
    return given;
}

void ternary_parallel(ternary_work work, void *context, size_t parts) {
    size_t given = parts > 1 ? ternary_worker_give(work, context, parts) : 0;
    for (size_t part = 0; part < parts; part++) {
        if (part == 0 || part > given) {
            work(context, part);
        }
    }
    if (given) {
        ternary_worker_wait();
    }
}

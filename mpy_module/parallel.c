// SPDX-License-Identifier: MIT
#include "parallel.h"

static int32_t cores = 1;

int32_t ternary_cores(void) {
    return cores;
}

int32_t ternary_use_cores(int32_t wanted) {
    cores = wanted > 1 && ternary_worker_start() ? TERNARY_MAX_CORES : 1;
    return cores;
}

bool ternary_parts_meet(void) {
#if defined(TERNARY_PARALLEL_FREERTOS) || defined(TERNARY_PARALLEL_PTHREAD)
    return cores > 1;
#else
    return false;
#endif
}

void ternary_parallel(ternary_work work, void *context, size_t parts) {
    bool shared = parts > 1 && cores > 1 && ternary_worker_give(work, context);
    for (size_t part = 0; part < parts; part++) {
        if (part != 1 || !shared) {
            work(context, part);
        }
    }
    if (shared) {
        ternary_worker_wait();
    }
}

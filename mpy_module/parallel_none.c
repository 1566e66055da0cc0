// SPDX-License-Identifier: MIT
// No second core: parts run one after another. With TERNARY_PARALLEL_SEQUENTIAL, operations can still be cut
// in two, so that the simulator can measure the work and memory of two cores.

#if !defined(TERNARY_PARALLEL_FREERTOS) && !defined(TERNARY_PARALLEL_PTHREAD)

#include "parallel.h"

int32_t ternary_worker_start(int32_t count) {
    (void)count;
#ifdef TERNARY_PARALLEL_SEQUENTIAL
    return 1;
#else
    return 0;
#endif
}

size_t ternary_worker_give(ternary_work work, void *context, size_t parts) {
    (void)work;
    (void)context;
    (void)parts;
    return 0;
}

void ternary_worker_wait(void) {}

void ternary_worker_settle(void) {}

#endif

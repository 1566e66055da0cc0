// SPDX-License-Identifier: MIT
// No second core: parts run one after another. With TERNARY_PARALLEL_SEQUENTIAL, operations can still be cut
// in two, so that the simulator can measure the work and memory of two cores.

#if !defined(TERNARY_PARALLEL_FREERTOS) && !defined(TERNARY_PARALLEL_PTHREAD)

#include "parallel.h"

bool ternary_worker_start(void) {
#ifdef TERNARY_PARALLEL_SEQUENTIAL
    return true;
#else
    return false;
#endif
}

bool ternary_worker_give(ternary_work work, void *context) {
    (void)work;
    (void)context;
    return false;
}

void ternary_worker_wait(void) {}

void ternary_worker_settle(void) {}

#endif

// SPDX-License-Identifier: MIT
// No second core: parts run one after another.

#if !defined(TERNARY_PARALLEL_FREERTOS) && !defined(TERNARY_PARALLEL_PTHREAD)

#include "parallel.h"

bool ternary_worker_start(void) {
    return false;
}

bool ternary_worker_give(ternary_work work, void *context) {
    (void)work;
    (void)context;
    return false;
}

void ternary_worker_wait(void) {}

#endif

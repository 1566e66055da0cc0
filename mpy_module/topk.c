// SPDX-License-Identifier: MIT
#include "checks.h"
#include "operations.h"

// Inserts an index, best first; equal logits keep the order of their indices.
static void insert(const int32_t *logits, int32_t *best, size_t count, int32_t index) {
    size_t place = count;
    for (; place && logits[best[place - 1]] < logits[index]; place--) {
        best[place] = best[place - 1];
    }
    best[place] = index;
}

int32_t ternary_topk(const ternary_settings *settings, const ternary_arg *arguments, ternary_error *error) {
    (void)settings;
    const ternary_topk_arguments *a = (const void *)arguments;
    if (a->logits.size > INT32_MAX) { // indices are int32
        ternary_size_is(&a->logits, INT32_MAX / 4 * 4, error);
        return error->code;
    }
    if (!ternary_size_at_least(&a->logits, a->out.size, error)) {
        return error->code;
    }
    const int32_t *logits = a->logits.data;
    int32_t *best = a->out.data;
    size_t wanted = a->out.size / sizeof(int32_t), found = 0;
    for (size_t i = 0; i < a->logits.size / sizeof(int32_t); i++) {
        if (found < wanted) {
            insert(logits, best, found++, (int32_t)i);
        } else if (logits[i] > logits[best[wanted - 1]]) {
            insert(logits, best, wanted - 1, (int32_t)i);
        }
    }
    return 0;
}

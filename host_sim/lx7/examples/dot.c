// SPDX-License-Identifier: MIT
// Runs the kernels of dot.S on 1024 numbers and compares them with plain C.
#include <stdint.h>

#include "lx7.h"

enum { COUNT = 1024 };

int32_t dot(const int8_t *a, const int8_t *b, int32_t chunks);
int32_t dot_without_stalls(const int8_t *a, const int8_t *b, int32_t chunks);

static int8_t a[COUNT + 16] __attribute__((aligned(16))), b[COUNT + 32] __attribute__((aligned(16)));

static int32_t plain(void) {
    int32_t sum = 0;
    for (int k = 0; k < COUNT; k++) {
        sum += a[k] * b[k];
    }
    return sum;
}

int main(void) {
    for (int k = 0; k < COUNT; k++) {
        a[k] = (int8_t)(k * 7 - 100);
        b[k] = (int8_t)(k * 13 + 5);
    }
    int equal = dot(a, b, COUNT / 16) == plain() && dot_without_stalls(a, b, COUNT / 16) == plain();
    lx7_write(equal ? "both kernels agree with C\n" : "a kernel disagrees with C\n");
    return !equal;
}

// SPDX-License-Identifier: MIT
// Functions that compilers call implicitly, and the console. Built without builtins, so that no loop becomes
// a call of the function that contains it.
#include <lx7.h>
#include <string.h>

enum { SIMCALL_EXIT = 1, SIMCALL_WRITE = 4, STANDARD_OUTPUT = 1 };

static int both_aligned(const void *a, const void *b) {
    return (((uintptr_t)a | (uintptr_t)b) & 3) == 0;
}

void *memcpy(void *restrict to, const void *restrict from, size_t count) {
    uint8_t *out = to;
    const uint8_t *in = from;
    if (both_aligned(to, from)) {
        for (; count >= 4; count -= 4, out += 4, in += 4) {
            *(uint32_t *)out = *(const uint32_t *)in;
        }
    }
    while (count--) {
        *out++ = *in++;
    }
    return to;
}

void *memmove(void *to, const void *from, size_t count) {
    uint8_t *out = to;
    const uint8_t *in = from;
    if (out <= in || out >= in + count) {
        return memcpy(to, from, count);
    }
    while (count--) {
        out[count] = in[count];
    }
    return to;
}

void *memset(void *to, int value, size_t count) {
    uint8_t *out = to;
    for (; count && ((uintptr_t)out & 3); count--) {
        *out++ = (uint8_t)value;
    }
    for (uint32_t word = (uint8_t)value * 0x01010101u; count >= 4; count -= 4, out += 4) {
        *(uint32_t *)out = word;
    }
    while (count--) {
        *out++ = (uint8_t)value;
    }
    return to;
}

int memcmp(const void *a, const void *b, size_t count) {
    const uint8_t *x = a, *y = b;
    for (; count; count--, x++, y++) {
        if (*x != *y) {
            return *x - *y;
        }
    }
    return 0;
}

size_t strlen(const char *text) {
    size_t count = 0;
    while (text[count]) {
        count++;
    }
    return count;
}

void lx7_write(const char *text) {
    lx7_simcall(SIMCALL_WRITE, STANDARD_OUTPUT, (uintptr_t)text, strlen(text));
}

_Noreturn void lx7_exit(int32_t status) {
    for (;;) {
        lx7_simcall(SIMCALL_EXIT, (uint32_t)status, 0, 0);
    }
}

// SPDX-License-Identifier: MIT
// Of the C library: what MicroPython's headers use.

#ifndef FAKE_STDLIB_H
#define FAKE_STDLIB_H

#include <stddef.h>

void *malloc(size_t size);
void free(void *memory);

#endif

// SPDX-License-Identifier: MIT
// The part of the C library's stdlib.h that MicroPython's headers use.

#ifndef FAKE_STDLIB_H
#define FAKE_STDLIB_H

#include <stddef.h>

void *malloc(size_t size);
void free(void *memory);

#endif

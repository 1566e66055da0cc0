// SPDX-License-Identifier: MIT
// Of the C library: what MicroPython's headers use.

#ifndef FAKE_SYS_TYPES_H
#define FAKE_SYS_TYPES_H

typedef int ssize_t;

#endif

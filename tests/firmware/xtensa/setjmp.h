// SPDX-License-Identifier: MIT
// Of the C library: what MicroPython's headers use.

#ifndef FAKE_SETJMP_H
#define FAKE_SETJMP_H

typedef int jmp_buf[17];

#endif

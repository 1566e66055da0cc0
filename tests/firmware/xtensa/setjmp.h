// SPDX-License-Identifier: MIT
// The part of the C library's setjmp.h that MicroPython's headers use.

#ifndef FAKE_SETJMP_H
#define FAKE_SETJMP_H

typedef int jmp_buf[17];

#endif

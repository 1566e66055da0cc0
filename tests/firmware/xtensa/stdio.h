// SPDX-License-Identifier: MIT
// The part of the C library's stdio.h that MicroPython's headers use.

#ifndef FAKE_STDIO_H
#define FAKE_STDIO_H

int printf(const char *format, ...);

#endif

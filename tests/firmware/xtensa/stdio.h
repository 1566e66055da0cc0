// SPDX-License-Identifier: MIT
// Of the C library: what MicroPython's headers use.

#ifndef FAKE_STDIO_H
#define FAKE_STDIO_H

int printf(const char *format, ...);

#endif

// SPDX-License-Identifier: MIT
// Adds to the simulator's string.h (host_sim/lx7) what MicroPython's headers use.

#ifndef FAKE_STRING_H
#define FAKE_STRING_H

#include_next <string.h>

int strcmp(const char *a, const char *b);

#endif

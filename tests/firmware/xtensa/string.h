// SPDX-License-Identifier: MIT
// Of the C library: what the simulator's (host_sim/lx7) lacks.

#ifndef FAKE_STRING_H
#define FAKE_STRING_H

#include_next <string.h>

int strcmp(const char *a, const char *b);

#endif

// SPDX-License-Identifier: MIT
// Calls from a program on the simulated core to its host. Include as <lx7.h>.

#ifndef LX7_H
#define LX7_H

#include <stdint.h>

// Host call; numbers and arguments are those of QEMU's Xtensa `sim` machine. Returns the host's result.
int32_t lx7_simcall(int32_t number, uint32_t first, uint32_t second, uint32_t third);

// Write a zero-terminated text to the host's standard output.
void lx7_write(const char *text);

// End the program with this status. Returning from main does the same.
_Noreturn void lx7_exit(int32_t status);

#endif

// SPDX-License-Identifier: MIT
// What a program on the simulated core can ask its host for. Include it as <lx7.h>.

#ifndef LX7_H
#define LX7_H

#include <stdint.h>

// Ask the host: numbers and arguments are those of QEMU's Xtensa `sim` machine. Returns the host's answer.
int32_t lx7_simcall(int32_t number, uint32_t first, uint32_t second, uint32_t third);

// Write a text, up to its NUL, to the host's standard output.
void lx7_write(const char *text);

// End the program; what main returns is its status, too.
_Noreturn void lx7_exit(int32_t status);

#endif

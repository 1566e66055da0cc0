// SPDX-License-Identifier: MIT
#ifndef LX7_MEMORY_H
#define LX7_MEMORY_H

#include "state.h"

// Little-endian accesses of 1, 2, 4, 8 or 16 bytes, charged to the current instruction. A misaligned or
// disallowed access stops the run; a load then returns 0. PIE instructions align addresses themselves.
uint32_t lx7_load_8(lx7_core *core, uint32_t address);
uint32_t lx7_load_16(lx7_core *core, uint32_t address);
uint32_t lx7_load_32(lx7_core *core, uint32_t address);
uint64_t lx7_load_64(lx7_core *core, uint32_t address);
lx7_q lx7_load_128(lx7_core *core, uint32_t address);
void lx7_store_8(lx7_core *core, uint32_t address, uint32_t value);
void lx7_store_16(lx7_core *core, uint32_t address, uint32_t value);
void lx7_store_32(lx7_core *core, uint32_t address, uint32_t value);
void lx7_store_64(lx7_core *core, uint32_t address, uint64_t value);
void lx7_store_128(lx7_core *core, uint32_t address, lx7_q value);

// Charges the current instruction for the instruction cache lines that it lies in.
void lx7_fetch_lines(lx7_core *core, const lx7_region *region, const lx7_insn *insn);

#endif

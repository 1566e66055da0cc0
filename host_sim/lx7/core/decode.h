// SPDX-License-Identifier: MIT
#ifndef LX7_DECODE_H
#define LX7_DECODE_H

#include "state.h"

// Length in bytes of an instruction, from its first byte.
static inline uint32_t lx7_length(uint8_t first) {
    uint32_t nibble = first & 15;
    return nibble < 8 ? 3u : nibble < 14 ? 2u : 4u;
}

// Decodes one instruction; false if the table has none that matches.
bool lx7_decode_insn(const uint8_t *bytes, uint32_t count, uint32_t pc, lx7_insn *insn);

#endif

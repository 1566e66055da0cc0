// SPDX-License-Identifier: MIT
#ifndef LX7_SEMANTICS_H
#define LX7_SEMANTICS_H

#include "memory.h"

// Semantics, one function an instruction, named lx7_do_ and its identifier in the table; declared by
// instructions.h. Within: the address register that an operand names, and the immediate.
#define LX7_DO(name) void lx7_do_##name(lx7_core *core, const lx7_insn *i)
#define A(name) (*lx7_a(core, i->name))
#define SIGNED(name) ((int32_t)A(name))
#define IMM ((uint32_t)i->imm)

#endif

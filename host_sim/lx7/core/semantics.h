// SPDX-License-Identifier: MIT
#ifndef LX7_SEMANTICS_H
#define LX7_SEMANTICS_H

#include "memory.h"

// Semantics: one function per instruction, lx7_do_ and its identifier in the table (declared in
// instructions.h). In it, A(operand) and SIGNED(operand) are the address register that an operand names, IMM
// is the immediate.
#define LX7_DO(name) void lx7_do_##name(lx7_core *core, const lx7_insn *i)
#define A(name) (*lx7_a(core, i->name))
#define SIGNED(name) ((int32_t)A(name))
#define IMM ((uint32_t)i->imm)

#endif

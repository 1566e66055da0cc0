// SPDX-License-Identifier: MIT
// The base ISA's arithmetic, logic, shifts, booleans, loads and stores (ISA 6).
#include "semantics.h"

#define RESULT(name, to, value)                                                                              \
    LX7_DO(name) {                                                                                           \
        A(to) = (uint32_t)(value);                                                                           \
    }

RESULT(add, ar, A(as) + A(at))
RESULT(add_n, ar, A(as) + A(at))
RESULT(addx2, ar, A(as) * 2 + A(at))
RESULT(addx4, ar, A(as) * 4 + A(at))
RESULT(addx8, ar, A(as) * 8 + A(at))
RESULT(sub, ar, A(as) - A(at))
RESULT(subx2, ar, A(as) * 2 - A(at))
RESULT(subx4, ar, A(as) * 4 - A(at))
RESULT(subx8, ar, A(as) * 8 - A(at))
RESULT(addi, at, A(as) + IMM)
RESULT(addi_n, ar, A(as) + IMM)
RESULT(addmi, at, A(as) + IMM)
RESULT(movi, at, IMM)
RESULT(movi_n, as, IMM)
RESULT(mov_n, at, A(as))
RESULT(neg, ar, 0 - A(at))
RESULT(abs, ar, SIGNED(at) < 0 ? 0 - A(at) : A(at))
RESULT(and, ar, A(as) & A(at))
RESULT(or, ar, A(as) | A(at))
RESULT(xor, ar, A(as) ^ A(at))
RESULT(min, ar, SIGNED(as) < SIGNED(at) ? A(as) : A(at))
RESULT(max, ar, SIGNED(as) > SIGNED(at) ? A(as) : A(at))
RESULT(minu, ar, A(as) < A(at) ? A(as) : A(at))
RESULT(maxu, ar, A(as) > A(at) ? A(as) : A(at))
RESULT(extui, ar, A(at) >> IMM & ((1u << i->imm2) - 1))

static uint32_t leading_zeros(uint32_t value) {
    return value ? (uint32_t)__builtin_clz(value) : 32;
}

RESULT(nsau, at, leading_zeros(A(as)))
RESULT(nsa, at, leading_zeros(SIGNED(as) < 0 ? ~A(as) : A(as)) - 1)

static uint32_t clamp(int32_t value, int32_t bits) {
    int32_t limit = 1 << bits;
    return (uint32_t)(value < -limit ? -limit : value >= limit ? limit - 1 : value);
}

RESULT(sext, ar, lx7_sign_extend(A(as), i->imm))
RESULT(clamps, ar, clamp(SIGNED(as), i->imm))

#define MOVE_IF(name, condition)                                                                             \
    LX7_DO(name) {                                                                                           \
        if (condition) {                                                                                     \
            A(ar) = A(as);                                                                                   \
        }                                                                                                    \
    }

MOVE_IF(moveqz, A(at) == 0)
MOVE_IF(movnez, A(at) != 0)
MOVE_IF(movltz, SIGNED(at) < 0)
MOVE_IF(movgez, SIGNED(at) >= 0)
MOVE_IF(movf, !(core->br >> i->bt & 1))
MOVE_IF(movt, core->br >> i->bt & 1)

// Shifts are taken from a 64-bit value, so that SAR >= 32 works as in the manual.

#define SET_SAR(name, value)                                                                                 \
    LX7_DO(name) {                                                                                           \
        core->sar = (value);                                                                                 \
    }

SET_SAR(ssr, A(as) & 31)
SET_SAR(ssl, 32 - (A(as) & 31))
SET_SAR(ssa8l, 8 * (A(as) & 3))
SET_SAR(ssa8b, 32 - 8 * (A(as) & 3))
SET_SAR(ssai, IMM)

static uint32_t funnel(uint32_t high, uint32_t low, uint32_t count) {
    return (uint32_t)(((uint64_t)high << 32 | low) >> count);
}

// C leaves >> of negative numbers to the compiler.
static uint32_t shift_right_arithmetic(uint32_t value, uint32_t count) {
    return funnel(value >> 31 ? UINT32_MAX : 0, value, count < 32 ? count : 32);
}

RESULT(slli, ar, A(as) << (IMM & 31))
RESULT(srli, ar, A(at) >> IMM)
RESULT(srai, ar, shift_right_arithmetic(A(at), IMM))
RESULT(sll, ar, funnel(A(as), 0, core->sar))
RESULT(srl, ar, funnel(0, A(at), core->sar))
RESULT(sra, ar, shift_right_arithmetic(A(at), core->sar))
RESULT(src, ar, funnel(A(as), A(at), core->sar))

// Multiply, divide

RESULT(mull, ar, A(as) * A(at))
RESULT(muluh, ar, (uint64_t)A(as) * A(at) >> 32)
RESULT(mulsh, ar, (uint64_t)((int64_t)SIGNED(as) * SIGNED(at)) >> 32)
RESULT(mul16u, ar, (A(as) & 0xffff) * (A(at) & 0xffff))
RESULT(mul16s, ar, lx7_sign_extend(A(as), 15) * lx7_sign_extend(A(at), 15))

#define DIVISION(name, value)                                                                                \
    LX7_DO(name) {                                                                                           \
        if (A(at) == 0) {                                                                                    \
            lx7_stop_run(core, LX7_DIVIDE_BY_ZERO, NULL);                                                    \
            return;                                                                                          \
        }                                                                                                    \
        A(ar) = (uint32_t)(value);                                                                           \
    }

DIVISION(quou, A(as) / A(at))
DIVISION(remu, A(as) % A(at))
// -2^31 / -1 fits 64 bits; the result is its low half, as in the manual.
DIVISION(quos, (int64_t)SIGNED(as) / SIGNED(at))
DIVISION(rems, (int64_t)SIGNED(as) % SIGNED(at))

// Loads and stores

#define LOAD(name, to, address, load)                                                                        \
    LX7_DO(name) {                                                                                           \
        uint32_t value = load(core, address);                                                                \
        if (core->reason == LX7_RUNNING) {                                                                   \
            A(to) = value;                                                                                   \
        }                                                                                                    \
    }
#define STORE(name, store)                                                                                   \
    LX7_DO(name) {                                                                                           \
        store(core, A(as) + IMM, A(at));                                                                     \
    }

static uint32_t load_signed_16(lx7_core *core, uint32_t address) {
    return lx7_sign_extend(lx7_load_16(core, address), 15);
}

LOAD(l8ui, at, A(as) + IMM, lx7_load_8)
LOAD(l16ui, at, A(as) + IMM, lx7_load_16)
LOAD(l16si, at, A(as) + IMM, load_signed_16)
LOAD(l32i, at, A(as) + IMM, lx7_load_32)
LOAD(l32i_n, at, A(as) + IMM, lx7_load_32)
LOAD(l32ai, at, A(as) + IMM, lx7_load_32)
LOAD(l32e, at, A(as) + IMM, lx7_load_32)
LOAD(l32r, at, IMM, lx7_load_32)
STORE(s8i, lx7_store_8)
STORE(s16i, lx7_store_16)
STORE(s32i, lx7_store_32)
STORE(s32i_n, lx7_store_32)
STORE(s32ri, lx7_store_32)
STORE(s32e, lx7_store_32)

LX7_DO(s32c1i) {
    uint32_t address = A(as) + IMM, old = lx7_load_32(core, address);
    if (core->reason == LX7_RUNNING && old == core->scompare1) {
        lx7_store_32(core, address, A(at));
    }
    if (core->reason == LX7_RUNNING) {
        A(at) = old;
    }
}

// Booleans

static void set_boolean(lx7_core *core, unsigned number, uint32_t value) {
    core->br = (core->br & ~(1u << number)) | (value & 1) << number;
}

#define BOOLEAN(name, value)                                                                                 \
    LX7_DO(name) {                                                                                           \
        uint32_t s = core->br >> i->bs & 1, t = core->br >> i->bt & 1;                                       \
        set_boolean(core, i->br, value);                                                                     \
    }

BOOLEAN(andb, s &t)
BOOLEAN(andbc, s & ~t)
BOOLEAN(orb, s | t)
BOOLEAN(orbc, s | ~t)
BOOLEAN(xorb, s ^ t)

#define GROUP(name, size, test)                                                                              \
    LX7_DO(name) {                                                                                           \
        uint32_t all = (1u << (size)) - 1, group = core->br >> i->bs & all;                                  \
        if (i->bs % (size)) {                                                                                \
            lx7_stop_run(core, LX7_ILLEGAL, "a group of booleans must start at a multiple of its size");     \
            return;                                                                                          \
        }                                                                                                    \
        set_boolean(core, i->bt, test);                                                                      \
    }

GROUP(any4, 4, group != 0)
GROUP(all4, 4, group == all)
GROUP(any8, 8, group != 0)
GROUP(all8, 8, group == all)

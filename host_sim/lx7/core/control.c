// SPDX-License-Identifier: MIT
// The base ISA's branches, calls, register windows, loops and special registers (ISA 4, 6).
#include "semantics.h"
#include "special_registers.h"
#include "windows.h"

#define BRANCH(name, condition)                                                                              \
    LX7_DO(name) {                                                                                           \
        if (condition) {                                                                                     \
            core->next_pc = (uint32_t)i->imm;                                                                \
        }                                                                                                    \
    }

BRANCH(j, true)
BRANCH(beqz, A(as) == 0)
BRANCH(beqz_n, A(as) == 0)
BRANCH(bnez, A(as) != 0)
BRANCH(bnez_n, A(as) != 0)
BRANCH(bltz, SIGNED(as) < 0)
BRANCH(bgez, SIGNED(as) >= 0)
BRANCH(beqi, SIGNED(as) == i->imm2)
BRANCH(bnei, SIGNED(as) != i->imm2)
BRANCH(blti, SIGNED(as) < i->imm2)
BRANCH(bgei, SIGNED(as) >= i->imm2)
BRANCH(bltui, A(as) < (uint32_t)i->imm2)
BRANCH(bgeui, A(as) >= (uint32_t)i->imm2)
BRANCH(beq, A(as) == A(at))
BRANCH(bne, A(as) != A(at))
BRANCH(blt, SIGNED(as) < SIGNED(at))
BRANCH(bge, SIGNED(as) >= SIGNED(at))
BRANCH(bltu, A(as) < A(at))
BRANCH(bgeu, A(as) >= A(at))
BRANCH(bnone, (A(as) & A(at)) == 0)
BRANCH(bany, (A(as) & A(at)) != 0)
BRANCH(ball, (~A(as) & A(at)) == 0)
BRANCH(bnall, (~A(as) & A(at)) != 0)
BRANCH(bbc, !(A(as) >> (A(at) & 31) & 1))
BRANCH(bbs, A(as) >> (A(at) & 31) & 1)
BRANCH(bbci, !(A(as) >> i->imm2 & 1))
BRANCH(bbsi, A(as) >> i->imm2 & 1)
BRANCH(bf, !(core->br >> i->bs & 1))
BRANCH(bt, core->br >> i->bs & 1)

LX7_DO(jx) {
    core->next_pc = A(as);
}

// Calls. Bits 31:30 of a windowed return address: the call's window increment.

static void call(lx7_core *core, uint32_t target, uint32_t windows) {
    uint32_t back = core->next_pc;
    if (windows) {
        core->ps = (core->ps & ~(uint32_t)LX7_PS_CALLINC) | windows << LX7_PS_CALLINC_SHIFT;
        back = windows << 30 | (back & 0x3fffffff);
    }
    *lx7_a(core, 4 * windows) = back;
    core->next_pc = target;
}

#define CALL(size)                                                                                           \
    LX7_DO(call##size) {                                                                                     \
        call(core, (uint32_t)i->imm, (size) / 4);                                                            \
    }                                                                                                        \
    LX7_DO(callx##size) {                                                                                    \
        call(core, A(as), (size) / 4);                                                                       \
    }

CALL(0)
CALL(4)
CALL(8)
CALL(12)

LX7_DO(ret) {
    (void)i;
    core->next_pc = *lx7_a(core, 0);
}

LX7_DO(ret_n) {
    lx7_do_ret(core, i);
}

static bool windows_usable(lx7_core *core) {
    if (!lx7_windows_on(core)) {
        lx7_stop_run(core, LX7_ILLEGAL, "register windows are off (PS.WOE clear or PS.EXCM set)");
        return false;
    }
    return true;
}

LX7_DO(entry) {
    uint32_t windows = core->ps >> LX7_PS_CALLINC_SHIFT & 3;
    if (i->as > 3) {
        lx7_stop_run(core, LX7_ILLEGAL, "entry takes a0..a3");
    } else if (windows_usable(core) && !lx7_window_overflow(core, windows)) {
        uint32_t value = A(as) - (uint32_t)i->imm;
        core->window = (core->window + 4 * windows) & 63;
        core->windowstart |= 1u << (core->window / 4);
        A(as) = value;
    }
}

static bool owned(const lx7_core *core, uint32_t window) {
    return core->windowstart >> (window & 15) & 1;
}

LX7_DO(retw) {
    (void)i;
    uint32_t back = *lx7_a(core, 0), base = core->window / 4, distance = back >> 30, nearest = 0;
    for (uint32_t n = 1; n <= 3 && !nearest; n++) {
        nearest = owned(core, base - n) ? n : 0;
    }
    if (!windows_usable(core)) {
        return;
    }
    if (distance == 0 || (nearest && nearest != distance)) {
        lx7_stop_run(core, LX7_ILLEGAL, "a0 is not a return address of this frame");
    } else if (!nearest) {
        lx7_window_exception(core, (base - distance) & 15, 0x40 + 0x80 * (distance - 1));
    } else {
        core->windowstart &= ~(1u << base);
        core->window = 4 * ((base - distance) & 15);
        core->next_pc = (core->pc & 0xc0000000) | (back & 0x3fffffff);
    }
}

LX7_DO(retw_n) {
    lx7_do_retw(core, i);
}

LX7_DO(movsp) {
    uint32_t base = core->window / 4;
    if (windows_usable(core) && !owned(core, base - 1) && !owned(core, base - 2) && !owned(core, base - 3)) {
        lx7_stop_run(core, LX7_ILLEGAL,
                     "movsp with the caller's window spilled raises Alloca, which has no handler");
    } else if (core->reason == LX7_RUNNING) {
        A(at) = A(as);
    }
}

LX7_DO(rotw) {
    core->window = (core->window + 4 * (uint32_t)i->imm) & 63;
}

// Returns from a handler that has spilled (rfwo) or filled (rfwu) the current window.
static void leave_window_handler(lx7_core *core, bool filled) {
    if (!(core->ps & LX7_PS_EXCM)) {
        lx7_stop_run(core, LX7_ILLEGAL, "no window exception to return from");
        return;
    }
    uint32_t bit = 1u << (core->window / 4);
    core->windowstart = filled ? core->windowstart | bit : core->windowstart & ~bit;
    core->window = 4 * (core->ps >> LX7_PS_OWB_SHIFT & 15);
    core->ps &= ~(uint32_t)LX7_PS_EXCM;
    core->next_pc = core->epc1;
}

LX7_DO(rfwo) {
    (void)i;
    leave_window_handler(core, false);
}

LX7_DO(rfwu) {
    (void)i;
    leave_window_handler(core, true);
}

// Loops

#define LOOP(name, none)                                                                                     \
    LX7_DO(name) {                                                                                           \
        core->lcount = A(as) - 1;                                                                            \
        core->lbeg = core->next_pc;                                                                          \
        core->lend = (uint32_t)i->imm;                                                                       \
        if (none) {                                                                                          \
            core->next_pc = core->lend;                                                                      \
        }                                                                                                    \
    }

LOOP(loop, false)
LOOP(loopnez, A(as) == 0)
LOOP(loopgtz, SIGNED(as) <= 0)

// Special and user registers

// Special registers that are plain storage: where it is, and which bits exist.
#define SPECIAL(register, field, bits)                                                                       \
    {.number = LX7_SPECIAL_##register, .place = offsetof(lx7_core, field), .mask = bits}
static const struct {
    int32_t number;
    size_t place;
    uint32_t mask;
} specials[] = {
    SPECIAL(LBEG, lbeg, UINT32_MAX),
    SPECIAL(LEND, lend, UINT32_MAX),
    SPECIAL(LCOUNT, lcount, UINT32_MAX),
    SPECIAL(SAR, sar, 63),
    SPECIAL(BR, br, 0xffff),
    SPECIAL(SCOMPARE1, scompare1, UINT32_MAX),
    SPECIAL(WINDOWSTART, windowstart, 0xffff),
    SPECIAL(EPC1, epc1, UINT32_MAX),
    SPECIAL(DEPC, depc, UINT32_MAX),
    SPECIAL(EXCSAVE1, excsave1, UINT32_MAX),
    SPECIAL(CPENABLE, cpenable, 0xff),
    SPECIAL(PS, ps, 0x70fff),
    SPECIAL(VECBASE, vecbase, 0xfffffc00),
    SPECIAL(EXCCAUSE, exccause, 63),
    SPECIAL(EXCVADDR, excvaddr, UINT32_MAX),
};

// Storage and bits of a special register; NULL if there is none.
static uint32_t *special(lx7_core *core, int32_t number, uint32_t *mask) {
    for (size_t n = 0; n < sizeof(specials) / sizeof(*specials); n++) {
        if (specials[n].number == number) {
            *mask = specials[n].mask;
            return (uint32_t *)((uint8_t *)core + specials[n].place);
        }
    }
    return NULL;
}

static uint32_t read_special(lx7_core *core, int32_t number) {
    uint32_t mask, *kept = special(core, number, &mask);
    if (kept) {
        return *kept;
    }
    switch (number) {
    case LX7_SPECIAL_WINDOWBASE:
        return core->window / 4;
    case LX7_SPECIAL_CCOUNT:
        return (uint32_t)(core->now / LX7_CYCLE);
    case LX7_SPECIAL_PRID:
        return 0;
    default:
        lx7_stop_run(core, LX7_NO_SPECIAL, NULL);
        return 0;
    }
}

static void write_special(lx7_core *core, int32_t number, uint32_t value) {
    uint32_t mask, *kept = special(core, number, &mask);
    if (kept) {
        *kept = value & mask;
    } else if (number == LX7_SPECIAL_WINDOWBASE) {
        core->window = 4 * (value & 15);
    } else {
        lx7_stop_run(core, LX7_NO_SPECIAL, NULL);
    }
}

LX7_DO(rsr) {
    uint32_t value = read_special(core, i->imm);
    if (core->reason == LX7_RUNNING) {
        A(at) = value;
    }
}

LX7_DO(wsr) {
    write_special(core, i->imm, A(at));
}

LX7_DO(xsr) {
    uint32_t new = A(at), old = read_special(core, i->imm);
    if (core->reason == LX7_RUNNING) {
        write_special(core, i->imm, new);
    }
    if (core->reason == LX7_RUNNING) {
        A(at) = old;
    }
}

#define USER(name, bits)                                                                                     \
    LX7_DO(rur_##name) {                                                                                     \
        A(ar) = core->name;                                                                                  \
    }                                                                                                        \
    LX7_DO(wur_##name) {                                                                                     \
        core->name = A(at) & (bits);                                                                         \
    }

USER(threadptr, UINT32_MAX)

LX7_DO(rsil) {
    uint32_t old = core->ps;
    core->ps = (old & ~15u) | (uint32_t)i->imm;
    A(at) = old;
}

// Synchronisation has no effect: the core executes in order and has one view of memory.
#define NOTHING(name)                                                                                        \
    LX7_DO(name) {                                                                                           \
        (void)core;                                                                                          \
        (void)i;                                                                                             \
    }

NOTHING(isync)
NOTHING(rsync)
NOTHING(esync)
NOTHING(dsync)
NOTHING(memw)
NOTHING(extw)
NOTHING(nop)
NOTHING(nop_n)

#define ENDS(name, why)                                                                                      \
    LX7_DO(name) {                                                                                           \
        (void)i;                                                                                             \
        lx7_stop_run(core, why, NULL);                                                                       \
    }

ENDS(break, LX7_BREAK)
ENDS(break_n, LX7_BREAK)
ENDS(simcall, LX7_SIMCALL)
ENDS(not_executed, LX7_NOT_EXECUTED)

LX7_DO(ill) {
    (void)i;
    lx7_stop_run(core, LX7_ILLEGAL, "ill");
}

LX7_DO(ill_n) {
    lx7_do_ill(core, i);
}

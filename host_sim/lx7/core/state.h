// SPDX-License-Identifier: MIT
// State of the core, and how a run stops. References in this directory: ISA is Xtensa Instruction Set
// Architecture Reference Manual, TRM is ESP32-S3 Technical Reference Manual, chapter 1.

#ifndef LX7_STATE_H
#define LX7_STATE_H

#include <stdbool.h>
#include <string.h>

#include "core.h"

enum {
    LX7_PAGES = 1 << (32 - LX7_PAGE_BITS),
    LX7_BLOCK = 256, // bytes of code per block of decoded instructions
    LX7_CYCLE = 16,  // time is counted in 1/16 cycle
};

// PS (ISA 4.1)
enum {
    LX7_PS_EXCM = 1 << 4,
    LX7_PS_OWB_SHIFT = 8,
    LX7_PS_OWB = 15 << LX7_PS_OWB_SHIFT,
    LX7_PS_CALLINC_SHIFT = 16,
    LX7_PS_CALLINC = 3 << LX7_PS_CALLINC_SHIFT,
    LX7_PS_WOE = 1 << 18,
};

// Resources that interlocks track: address registers of the window, then the rest.
enum {
    LX7_RESOURCE_A = 0,
    LX7_RESOURCE_F = 16,
    LX7_RESOURCE_Q = 32,
    LX7_RESOURCE_BR = 40,
    LX7_RESOURCE_SAR,
    LX7_RESOURCE_SAR_BYTE,
    LX7_RESOURCE_ACCX,
    LX7_RESOURCE_QACC_L,
    LX7_RESOURCE_QACC_H,
    LX7_RESOURCE_UA_STATE,
    LX7_RESOURCE_FFT_BIT_WIDTH,
    LX7_RESOURCES,
};

typedef enum {
    LX7_UNIT_NONE,
    LX7_UNIT_BRANCH,
    LX7_UNIT_JUMP,
    LX7_UNIT_LOOP,
    LX7_UNIT_DIVIDE,
    LX7_UNIT_MAC,
    LX7_UNIT_DRAIN,
} lx7_unit;

typedef struct {
    uint8_t resource, stage;
} lx7_stage;

typedef struct lx7_insn lx7_insn;
typedef void (*lx7_execute)(lx7_core *core, const lx7_insn *i);

// A decoded instruction in memory; operands have their names in the table.
struct lx7_insn {
    lx7_execute execute; // NULL: not decoded yet
    int32_t imm, imm2, sar, sel, sel4, sel8, upd;
    uint8_t ad, ar, as, as0, at, au, ax, ay;
    uint8_t br, bs, bt;
    uint8_t fr, fs, ft, fu0, fu1, fu2, fu3, fv0, fv1, fv2, fv3;
    uint8_t qa, qa0, qa1, qm, qs, qs0, qs1, qu, qu1, qv, qx, qy, qz, qz1;
    uint8_t length, unit, macs;
    bool pie;
    uint8_t panes; // windows of 4 registers that it names, beyond the first
    uint16_t opcode;
    uint8_t use_count, def_count;
    lx7_stage uses[LX7_MAX_USES], defs[LX7_MAX_DEFS];
    uint64_t count;
    uint64_t stalls[LX7_STALLS];
    uint64_t bytes[LX7_MEMORIES];
};

typedef struct {
    uint8_t *data;
    uint32_t base, size;
    uint8_t memory;
    bool used, writable, executable;
    lx7_insn **decoded; // per block of executable memory, an entry for each byte; allocated on first fetch
} lx7_region;

typedef struct {
    uint32_t tag; // line number + 1; 0: empty
    bool dirty;
    uint8_t memory;
    uint64_t used;
} lx7_line;

typedef struct {
    uint32_t ways, sets, line_bits;
    uint64_t clock;
    lx7_line *lines; // [sets][ways]
} lx7_cache;

// Registers of the data cache's manual preload (ESP-IDF soc/esp32s3: reg_base.h, extmem_reg.h)
enum {
    LX7_PRELOAD_REGISTERS = 0x600c4040, // CTRL, ADDR and SIZE, 4 bytes each
    LX7_PRELOAD_ENA = 1 << 0,           // set to start; cleared when done
    LX7_PRELOAD_DONE = 1 << 1,          // read-only, 1 after reset
    LX7_PRELOAD_ORDER = 1 << 2,         // 0: ascending, 1: descending
    LX7_PRELOAD_LINES = 0xffff,         // mask of SIZE, in cache lines
};

// A preload, up to date as of the last lx7_advance_preload, which is called wherever its progress is visible.
typedef struct {
    uint32_t ctrl, address, size; // registers; ctrl as last stored or read
    bool busy;                    // lines are left, or one is in transfer
    uint8_t memory;
    uint32_t next, step, left; // next line number, its increment, lines not yet begun
    uint32_t coming;           // number + 1 of the line begun last
    uint64_t bus_free;         // 1/16 cycle; in the future only while a line is in transfer
} lx7_preload;

// A 16-byte register as lanes of each width (little endian).
typedef union {
    int8_t b[16];
    uint8_t ub[16];
    int16_t h[8];
    uint16_t uh[8];
    int32_t w[4];
    uint32_t uw[4];
    uint64_t d[2];
} lx7_q;

struct lx7_core {
    uint32_t ar[64];
    uint32_t window; // 4 * WindowBase
    uint32_t pc, next_pc;
    uint32_t windowstart, ps, sar, lbeg, lend, lcount, br;
    uint32_t scompare1, epc1, depc, excsave1, cpenable, vecbase, exccause, excvaddr;
    uint32_t threadptr, fcr, fsr;
    uint32_t f[16];

    // PIE. QACC has two views, 16 lanes of 20 bits and 8 of 40; qacc_by_40 says which is current
    // (pie_accumulators.c).
    lx7_q q[8];
    bool qacc_by_40;
    int32_t qacc_20[16];
    int64_t qacc_40[8];
    int64_t accx;
    uint32_t sar_byte, fft_bit_width;
    lx7_q ua_state;

    int32_t reason; // lx7_reason
    uint32_t fault_address, fault_size;
    const char *detail;

    uint8_t *pages; // [LX7_PAGES]: number + 1 of the page's region, or 0
    lx7_region regions[LX7_MAX_REGIONS];

    lx7_timing timing;
    lx7_cache data_cache, instruction_cache;
    lx7_insn *current;
    uint64_t now;        // when the next instruction may issue, 1/16 cycle
    uint64_t mac_issued; // issue time of the last instruction of LX7_UNIT_MAC, + 1 cycle
    uint64_t waiting;    // time that memory adds to the current instruction, 1/16 cycle
    uint64_t ready_a[64], ready[LX7_RESOURCES];
    uint32_t fetched_line;
    lx7_totals totals;
    lx7_preload preload;
};

static inline uint32_t *lx7_a(lx7_core *core, unsigned number) {
    return &core->ar[(core->window + number) & 63];
}

// Stops the run at the current instruction, which does not count as executed. The first reason is kept.
void lx7_stop_run(lx7_core *core, lx7_reason reason, const char *detail);

// lx7_stop_run for an access of `size` bytes at `address`.
void lx7_fault(lx7_core *core, lx7_reason reason, uint32_t address, uint32_t size);

// Sign-extends a value whose sign is bit `sign_bit`.
static inline uint32_t lx7_sign_extend(uint32_t value, int32_t sign_bit) {
    uint32_t sign = 1u << sign_bit;
    return ((value & (2 * sign - 1)) ^ sign) - sign;
}

// Adds to the stall counters of the current instruction and of the run; does not advance `now`.
static inline void lx7_book(lx7_core *core, lx7_stall cause, uint64_t time) {
    core->current->stalls[cause] += time;
    core->totals.stalls[cause] += time;
}

#endif

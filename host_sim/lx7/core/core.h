// SPDX-License-Identifier: MIT
// A simulated ESP32-S3 core: Xtensa LX7 with PIE. It executes machine code from mapped memory, as silicon
// does where that is known, and models cycles.
//
// host_sim/lx7/machine.py reads this file, without its preprocessor lines, as its declarations. Instructions
// are declared in host_sim/lx7/isa, from which instructions.h is generated.
//
// The files, lowest first: state, regions and cache, preload, memory, windows; the instructions in
// semantics.h, arithmetic, control, fpu, pie and pie_*; decode; run (the loop) and host (life, registers,
// counters).

#ifndef LX7_CORE_H
#define LX7_CORE_H

#include <stddef.h>
#include <stdint.h>

enum {
    LX7_PAGE_BITS = 12,
    LX7_PAGE_SIZE = 1 << LX7_PAGE_BITS,
    LX7_MAX_REGIONS = 250, // a page's entry is one byte
    LX7_MAX_USES = 12,
    LX7_MAX_DEFS = 8,
};

// Why a run ended.
typedef enum {
    LX7_RUNNING,
    LX7_LIMIT,      // the limit of instructions is reached
    LX7_RETURNED,   // pc is `halt`
    LX7_SIMCALL,    // the host must serve a simcall; pc is at the next instruction
    LX7_BREAK,      // break instruction
    LX7_UNKNOWN,    // not an instruction of the table
    LX7_NO_CODE,    // pc is outside executable memory
    LX7_NO_MEMORY,  // an access to `address` outside mapped memory
    LX7_READ_ONLY,  // a store to `address` in read-only memory
    LX7_CODE_WRITE, // a store to `address` in executable memory
    LX7_MISALIGNED, // a misaligned scalar access to `address`
    LX7_ILLEGAL,    // ill, or an instruction not allowed in this state (see `detail`)
    LX7_NO_VECTORS, // a window exception while VECBASE is 0
    LX7_DIVIDE_BY_ZERO,
    LX7_NO_SPECIAL,   // no such special register
    LX7_COPROCESSOR,  // the coprocessor is disabled in CPENABLE
    LX7_UNMEASURED,   // behaviour that neither a manual nor a measurement settles (see `detail`)
    LX7_WAITING,      // an instruction that waits for an interrupt
    LX7_NOT_EXECUTED, // an instruction of which the table has only the encoding
} lx7_reason;

// Kinds of memory. Flash and PSRAM are accessed through the caches.
typedef enum { LX7_SRAM, LX7_PSRAM, LX7_FLASH, LX7_MEMORIES } lx7_memory;

// Causes of cycles beyond one per instruction.
typedef enum {
    LX7_STALL_DATA,   // waiting for an operand
    LX7_STALL_UNIT,   // waiting for a shared functional unit
    LX7_STALL_BRANCH, // taken branches and jumps; targets that cross a fetch boundary
    LX7_STALL_DIVIDE, // iterations of the divider
    LX7_STALL_STORE,  // `store_extra`
    LX7_STALL_CACHE,  // external memory: lines read and written back by the data cache
    LX7_STALL_FETCH,  // external memory: lines read by the instruction cache
    LX7_STALLS,
} lx7_stall;

// A cache with least-recently-used replacement: size = ways * line * a power of two.
typedef struct {
    uint32_t size, ways, line;
} lx7_cache_shape;

// Constants of the cycle model; host_sim/lx7/timing.py cites a source for each.
typedef struct {
    uint32_t taken_branch;                        // cycles
    uint32_t crossing_target;                     // a branch target that crosses an aligned fetch word
    uint32_t divide;                              // beyond the first
    uint32_t preload;                             // 0: a preload completes at once and loads nothing
    uint32_t store_extra;                         // of a store, in 1/16 cycle
    uint32_t psram_read, psram_write, flash_read; // of a line of the data cache, in 1/16 cycle
    uint32_t psram_fetch, flash_fetch;            // of a line of the instruction cache, in 1/16 cycle
    lx7_cache_shape data_cache, instruction_cache;
} lx7_timing;

// Cost of one instruction in memory.
typedef struct {
    uint32_t pc;
    uint16_t opcode;
    uint64_t count;
    uint64_t stalls[LX7_STALLS];  // 1/16 cycle
    uint64_t bytes[LX7_MEMORIES]; // loaded and stored
} lx7_cost;

// Sums over the whole run.
typedef struct {
    uint64_t instructions;
    uint64_t cycles;             // 1/16 cycle
    uint64_t stalls[LX7_STALLS]; // 1/16 cycle
    uint64_t loads[LX7_MEMORIES], stores[LX7_MEMORIES];
    uint64_t bytes_loaded[LX7_MEMORIES], bytes_stored[LX7_MEMORIES];
    uint64_t lines_read[LX7_MEMORIES], lines_written[LX7_MEMORIES]; // by both caches
    uint64_t lines_preloaded[LX7_MEMORIES];                         // part of lines_read
    uint64_t macs;
} lx7_totals;

// Registers, as a host reads and writes them.
typedef struct {
    uint32_t ar[64];
    uint32_t pc, windowbase, windowstart, ps, sar, lbeg, lend, lcount, br;
    uint32_t scompare1, epc1, depc, excsave1, cpenable, vecbase, exccause, excvaddr;
    uint32_t threadptr, fcr, fsr;
    uint32_t f[16];
    uint8_t q[8][16];
    int32_t qacc[16]; // 20-bit lanes
    int64_t accx;     // 40 bits
    uint32_t sar_byte, fft_bit_width;
    uint8_t ua_state[16];
} lx7_state;

// How a run ended.
typedef struct {
    int32_t reason; // lx7_reason
    uint32_t pc, address, size;
    const char *detail;
} lx7_stop;

typedef struct lx7_core lx7_core;

// Returns NULL if memory runs out or a cache's shape is invalid.
lx7_core *lx7_new(const lx7_timing *timing);
void lx7_free(lx7_core *core);

// Maps `data` to [address, address + size). The caller keeps `data` alive; the core writes to it only if
// `writable`. Returns 0, or -1 if `address` is not a multiple of LX7_PAGE_SIZE, another region uses one of
// the pages, or all regions are used.
int32_t lx7_map(lx7_core *core, uint32_t address, uint8_t *data, uint32_t size, int32_t memory,
                int32_t writable, int32_t executable);
int32_t lx7_unmap(lx7_core *core, uint32_t address);

// Call after writing to executable memory.
void lx7_forget_code(lx7_core *core);

// Clears costs, totals and caches.
void lx7_reset_counters(lx7_core *core);

void lx7_get(const lx7_core *core, lx7_state *state);
void lx7_set(lx7_core *core, const lx7_state *state);

// Runs from pc until a stop reason occurs: at most `limit` instructions, and up to the address `halt`.
void lx7_run(lx7_core *core, uint64_t limit, uint32_t halt, lx7_stop *stop);

const lx7_totals *lx7_get_totals(const lx7_core *core);

// Fills `costs` with up to `room` costs of executed instructions, by region and address; returns how many
// there are.
size_t lx7_get_costs(const lx7_core *core, lx7_cost *costs, size_t room);

// Returns the table index of the first instruction in `count` bytes, or -1; writes its operands, at most 8,
// in assembly order.
int32_t lx7_decode(const uint8_t *bytes, size_t count, uint32_t pc, uint32_t *operands);

#endif

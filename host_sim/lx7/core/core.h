// SPDX-License-Identifier: MIT
// A simulated ESP32-S3 core: Xtensa LX7 with PIE. It runs machine code from mapped memory, as silicon does
// where that is known, and models its cycles. host_sim/lx7/machine.py reads this file, without its
// preprocessor lines, as its declarations; the instructions come from host_sim/lx7/isa through the generated
// instructions.h.

#ifndef LX7_CORE_H
#define LX7_CORE_H

#include <stddef.h>
#include <stdint.h>

enum {
    LX7_MAX_REGIONS = 250,
    LX7_MAX_USES = 12,
    LX7_MAX_DEFS = 8,
};

// Why a run ended.
typedef enum {
    LX7_RUNNING,
    LX7_LIMIT,      // as many instructions as were allowed
    LX7_RETURNED,   // to the address `halt`
    LX7_SIMCALL,    // the host is to serve a simcall; pc is behind it
    LX7_BREAK,      // break instruction
    LX7_UNKNOWN,    // bytes that are no instruction of the table
    LX7_NO_CODE,    // pc is in no executable memory
    LX7_NO_MEMORY,  // an access to `address` outside mapped memory
    LX7_READ_ONLY,  // a store to `address` in memory that cannot be written
    LX7_CODE_WRITE, // a store to `address` in executable memory
    LX7_MISALIGNED, // a scalar access to `address`
    LX7_ILLEGAL,    // ill, or an instruction that its state forbids; `detail` says what
    LX7_NO_VECTORS, // a window exception without vectors
    LX7_DIVIDE_BY_ZERO,
    LX7_NO_SPECIAL,   // a special register that the core does not have
    LX7_COPROCESSOR,  // CPENABLE forbids
    LX7_UNMEASURED,   // what no manual and no chip has settled; `detail` says what
    LX7_WAITING,      // an instruction that waits for an interrupt
    LX7_NOT_EXECUTED, // an instruction of which the table has the encoding alone
} lx7_reason;

// Memory that programs see; data caches stand before flash and psram.
typedef enum { LX7_SRAM, LX7_PSRAM, LX7_FLASH, LX7_MEMORIES } lx7_memory;

// What cycles beyond one for each instruction are spent on.
typedef enum {
    LX7_STALL_DATA,   // waiting for an operand
    LX7_STALL_UNIT,   // waiting for a shared functional unit
    LX7_STALL_BRANCH, // taken branches and jumps, targets across a fetch boundary
    LX7_STALL_DIVIDE, // iterations of the divider
    LX7_STALL_STORE,  // `store_extra`
    LX7_STALL_CACHE,  // external memory: lines read and written back for data
    LX7_STALL_FETCH,  // external memory: lines read for instructions
    LX7_STALLS,
} lx7_stall;

// A cache with least-recently-used replacement: size = ways * line * a power of two.
typedef struct {
    uint32_t size, ways, line;
} lx7_cache_shape;

// The cycle model's constants; host_sim/lx7/timing.py gives each its source. Cycles of external lines in
// 1/16.
typedef struct {
    uint32_t taken_branch;                        // cycles
    uint32_t crossing_target;                     // a branch target that crosses an aligned fetch word
    uint32_t divide;                              // beyond the first
    uint32_t preload;                             // 0: preloads are done at once and bring nothing
    uint32_t store_extra;                         // of a store, in 1/16 cycle
    uint32_t psram_read, psram_write, flash_read; // of a line of the data cache, in 1/16 cycle
    uint32_t psram_fetch, flash_fetch;            // of a line of the instruction cache, in 1/16 cycle
    lx7_cache_shape data_cache, instruction_cache;
} lx7_timing;

// What an instruction in memory has cost.
typedef struct {
    uint32_t pc;
    uint16_t opcode;
    uint64_t count;
    uint64_t stalls[7]; // by lx7_stall, in 1/16 cycle
    uint64_t bytes[3];  // read and written, by lx7_memory
} lx7_cost;

// Sums over the whole run.
typedef struct {
    uint64_t instructions;
    uint64_t cycles;              // in 1/16
    uint64_t stalls[7];           // in 1/16 cycle
    uint64_t loads[3], stores[3]; // by lx7_memory
    uint64_t bytes_loaded[3], bytes_stored[3];
    uint64_t lines_read[3], lines_written[3]; // of external memory, data and instructions
    uint64_t lines_preloaded[3];              // of lines_read, by a preload
    uint64_t macs;
} lx7_totals;

// Registers and special state, as a host reads and writes them.
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

// NULL without memory or if a cache has no valid shape.
lx7_core *lx7_new(const lx7_timing *timing);
void lx7_free(lx7_core *core);

// Let [address, address + size) be `data`, which the caller keeps alive and which the core writes only if
// `writable`. Addresses are handed out in pages of 4096 bytes, which one region has to itself. Returns 0, or
// -1 where another region lies, address is no multiple of 4096, or regions are used up.
int32_t lx7_map(lx7_core *core, uint32_t address, uint8_t *data, uint32_t size, int32_t memory,
                int32_t writable, int32_t executable);
int32_t lx7_unmap(lx7_core *core, uint32_t address);

// To call when the host has written executable memory.
void lx7_forget_code(lx7_core *core);

// Forget costs, totals and what caches hold.
void lx7_reset_counters(lx7_core *core);

void lx7_get(const lx7_core *core, lx7_state *state);
void lx7_set(lx7_core *core, const lx7_state *state);

// Run from pc until something ends it, `limit` instructions at most; `halt` is an address whose fetch ends
// it.
void lx7_run(lx7_core *core, uint64_t limit, uint32_t halt, lx7_stop *stop);

const lx7_totals *lx7_get_totals(const lx7_core *core);

// Costs of all instructions executed, in order of regions and addresses; returns how many there are, fills
// `room`.
size_t lx7_get_costs(const lx7_core *core, lx7_cost *costs, size_t room);

// The instruction that `count` bytes start with: its index in the table or -1; `operands` gets the values in
// assembly order (at most 8).
int32_t lx7_decode(const uint8_t *bytes, size_t count, uint32_t pc, uint32_t *operands);

#endif

// SPDX-License-Identifier: MIT
// The core as a whole: its life, its state for hosts, and the loop that runs instructions and counts their
// cycles.
#include <stdlib.h>

#include "state.h"

void lx7_stop_run(lx7_core *core, lx7_reason reason, const char *detail) {
    if (core->reason == LX7_RUNNING) {
        core->reason = (int32_t)reason;
        core->detail = detail;
    }
}

lx7_core *lx7_new(const lx7_timing *timing) {
    lx7_core *core = calloc(1, sizeof(*core));
    if (!core) {
        return NULL;
    }
    core->timing = *timing;
    core->pages = calloc(LX7_PAGES, 1);
    if (!core->pages || !lx7_cache_make(&core->data_cache, timing->data_cache) ||
        !lx7_cache_make(&core->instruction_cache, timing->instruction_cache)) {
        lx7_free(core);
        return NULL;
    }
    core->ps = LX7_PS_WOE;
    core->windowstart = 1;
    core->cpenable = 0xff; // reset value on silicon (espressif/qemu PR 155)
    core->fetched_line = UINT32_MAX;
    return core;
}

void lx7_free(lx7_core *core) {
    if (core) {
        lx7_forget_code(core);
        for (int n = 0; n < LX7_MAX_REGIONS; n++) {
            free(core->regions[n].decoded);
        }
        free(core->data_cache.lines);
        free(core->instruction_cache.lines);
        free(core->pages);
        free(core);
    }
}

// Registers with the same name and meaning on both sides.
#define SAME_FIELDS(FIELD)                                                                                   \
    FIELD(pc)                                                                                                \
    FIELD(windowstart)                                                                                       \
    FIELD(ps)                                                                                                \
    FIELD(sar)                                                                                               \
    FIELD(lbeg)                                                                                              \
    FIELD(lend)                                                                                              \
    FIELD(lcount)                                                                                            \
    FIELD(br)                                                                                                \
    FIELD(scompare1)                                                                                         \
    FIELD(epc1)                                                                                              \
    FIELD(depc)                                                                                              \
    FIELD(excsave1)                                                                                          \
    FIELD(cpenable)                                                                                          \
    FIELD(vecbase)                                                                                           \
    FIELD(exccause)                                                                                          \
    FIELD(excvaddr)                                                                                          \
    FIELD(threadptr)                                                                                         \
    FIELD(fcr)                                                                                               \
    FIELD(fsr)                                                                                               \
    FIELD(sar_byte)                                                                                          \
    FIELD(fft_bit_width)                                                                                     \
    FIELD(accx)

void lx7_get(const lx7_core *core, lx7_state *state) {
    memset(state, 0, sizeof(*state));
#define GET(name) state->name = core->name;
    SAME_FIELDS(GET)
#undef GET
    state->windowbase = core->window / 4;
    memcpy(state->ar, core->ar, sizeof(state->ar));
    memcpy(state->f, core->f, sizeof(state->f));
    memcpy(state->q, core->q, sizeof(state->q));
    memcpy(state->ua_state, &core->ua_state, sizeof(state->ua_state));
    lx7_get_qacc(core, state->qacc);
}

// Whatever a host sets, each register keeps only the bits that it has.
void lx7_set(lx7_core *core, const lx7_state *state) {
#define SET(name) core->name = state->name;
    SAME_FIELDS(SET)
#undef SET
    core->window = 4 * (state->windowbase & 15);
    core->windowstart &= 0xffff;
    core->br &= 0xffff;
    core->sar &= 63;
    core->sar_byte &= 15;
    core->fft_bit_width &= 15;
    core->accx = (int64_t)(((uint64_t)state->accx & 0xffffffffff) ^ 0x8000000000) - 0x8000000000;
    memcpy(core->ar, state->ar, sizeof(core->ar));
    memcpy(core->f, state->f, sizeof(core->f));
    memcpy(core->q, state->q, sizeof(core->q));
    memcpy(&core->ua_state, state->ua_state, sizeof(core->ua_state));
    lx7_set_qacc(core, state->qacc);
}

static void empty_caches(lx7_core *core) {
    lx7_cache_clear(&core->data_cache);
    lx7_cache_clear(&core->instruction_cache);
    core->preload.busy = false;
    core->fetched_line = UINT32_MAX;
}

// Calls `visit` for every decoded instruction, in order.
static void each_insn(const lx7_core *core, void (*visit)(uint32_t pc, lx7_insn *insn, void *context),
                      void *context) {
    for (int n = 0; n < LX7_MAX_REGIONS; n++) {
        const lx7_region *region = &core->regions[n];
        for (uint32_t block = 0; region->decoded && block < lx7_blocks(region->size); block++) {
            for (uint32_t byte = 0; region->decoded[block] && byte < LX7_BLOCK; byte++) {
                lx7_insn *insn = &region->decoded[block][byte];
                if (insn->execute) {
                    visit(region->base + block * LX7_BLOCK + byte, insn, context);
                }
            }
        }
    }
}

static void visit_clear(uint32_t pc, lx7_insn *insn, void *context) {
    (void)pc;
    (void)context;
    insn->count = 0;
    memset(insn->stalls, 0, sizeof(insn->stalls));
    memset(insn->bytes, 0, sizeof(insn->bytes));
}

void lx7_reset_counters(lx7_core *core) {
    each_insn(core, visit_clear, NULL);
    memset(&core->totals, 0, sizeof(core->totals));
    memset(core->ready, 0, sizeof(core->ready));
    memset(core->ready_a, 0, sizeof(core->ready_a));
    core->now = 0;
    core->mac_issued = 0;
    empty_caches(core);
}

const lx7_totals *lx7_get_totals(const lx7_core *core) {
    return &core->totals;
}

typedef struct {
    lx7_cost *costs;
    size_t count, room;
} collection;

static void visit_collect(uint32_t pc, lx7_insn *insn, void *context) {
    collection *c = context;
    if (insn->count == 0) {
        return;
    }
    if (c->count < c->room) {
        lx7_cost *cost = &c->costs[c->count];
        cost->pc = pc;
        cost->opcode = insn->opcode;
        cost->count = insn->count;
        memcpy(cost->stalls, insn->stalls, sizeof(cost->stalls));
        memcpy(cost->bytes, insn->bytes, sizeof(cost->bytes));
    }
    c->count++;
}

size_t lx7_get_costs(const lx7_core *core, lx7_cost *costs, size_t room) {
    collection c = {.costs = costs, .room = room};
    each_insn(core, visit_collect, &c);
    return c.count;
}

// The instruction at pc, decoded now or before; NULL after stopping the run.
static lx7_insn *fetch(lx7_core *core, const lx7_region **where) {
    uint32_t pc = core->pc;
    lx7_region *region = lx7_region_at(core, pc, 1);
    if (!region || !region->executable) {
        lx7_stop_run(core, LX7_NO_CODE, NULL);
        return NULL;
    }
    *where = region;
    uint32_t offset = pc - region->base;
    lx7_insn **block = &region->decoded[offset / LX7_BLOCK];
    if (!*block) {
        *block = calloc(LX7_BLOCK, sizeof(lx7_insn));
        if (!*block) {
            lx7_stop_run(core, LX7_NO_CODE, "no memory on the host");
            return NULL;
        }
    }
    lx7_insn *insn = &(*block)[offset % LX7_BLOCK];
    if (!insn->execute && !lx7_decode_insn(region->data + offset, region->size - offset, pc, insn)) {
        lx7_stop_run(core, LX7_UNKNOWN, NULL);
        return NULL;
    }
    return insn;
}

// When a resource is ready, seen from a window.
static uint64_t *ready_of(lx7_core *core, uint8_t resource, uint32_t window) {
    return resource < LX7_RESOURCE_F ? &core->ready_a[(window + resource) & 63] : &core->ready[resource];
}

static void stall(lx7_core *core, lx7_stall cause, uint64_t time) {
    lx7_book(core, cause, time);
    core->now += time;
}

// TRM 1.7.1: a source that is needed at stage SB and made at stage SA by an instruction issued at t lets this
// one issue at t + SA - SB + 1; ready_of holds t + SA + 1.
static void wait_for_operands(lx7_core *core, const lx7_insn *insn) {
    uint64_t earliest = core->now;
    for (int n = 0; n < insn->use_count; n++) {
        uint64_t ready = *ready_of(core, insn->uses[n].resource, core->window);
        uint64_t stage = (uint64_t)insn->uses[n].stage * LX7_CYCLE;
        if (ready > earliest + stage) {
            earliest = ready - stage;
        }
    }
    stall(core, LX7_STALL_DATA, earliest - core->now);
}

// OVL: a drain uses in stage 1 the adders that a mac in front of it still uses in stage 2.
static void wait_for_unit(lx7_core *core, const lx7_insn *insn) {
    if (insn->unit == LX7_UNIT_DRAIN && core->mac_issued && core->now < core->mac_issued + LX7_CYCLE) {
        stall(core, LX7_STALL_UNIT, core->mac_issued + LX7_CYCLE - core->now);
    }
}

// What an executed instruction leaves to those behind it.
static void charge_results(lx7_core *core, const lx7_insn *insn, uint64_t issued, uint32_t window) {
    for (int n = 0; n < insn->def_count; n++) {
        uint8_t resource = insn->defs[n].resource;
        *ready_of(core, resource, window) = issued + (uint64_t)(insn->defs[n].stage + 1) * LX7_CYCLE;
    }
    if (insn->unit == LX7_UNIT_MAC) {
        core->mac_issued = issued + LX7_CYCLE;
    } else if (insn->unit == LX7_UNIT_DIVIDE) {
        stall(core, LX7_STALL_DIVIDE, (uint64_t)core->timing.divide * LX7_CYCLE);
    }
}

static void charge_branch(lx7_core *core) {
    uint64_t cycles = core->timing.taken_branch;
    const lx7_region *region = lx7_region_at(core, core->next_pc, 1);
    if (region && region->executable) {
        uint32_t length = lx7_length(region->data[core->next_pc - region->base]);
        cycles += (core->next_pc & 3) + length > 4 ? core->timing.crossing_target : 0;
    }
    stall(core, LX7_STALL_BRANCH, cycles * LX7_CYCLE);
}

static bool is_transfer(const lx7_insn *insn) {
    return insn->unit == LX7_UNIT_BRANCH || insn->unit == LX7_UNIT_JUMP || insn->unit == LX7_UNIT_LOOP;
}

static bool windows_checked(const lx7_core *core) {
    return (core->ps & (LX7_PS_WOE | LX7_PS_EXCM)) == LX7_PS_WOE;
}

// ISA 4.7.1: an instruction that names registers of a window that another frame owns has that frame spilled
// first.
bool lx7_window_overflow(lx7_core *core, unsigned panes) {
    if (!windows_checked(core)) {
        return false;
    }
    uint32_t base = core->window / 4;
    uint32_t owners = (core->windowstart >> base | core->windowstart << (16 - base)) & 0xffff;
    for (unsigned pane = 1; pane <= panes; pane++) {
        if (!(owners >> pane & 1)) {
            continue;
        }
        uint32_t size = owners >> (pane + 1) & 1 ? 0 : owners >> (pane + 2) & 1 ? 1 : 2;
        lx7_window_exception(core, (base + pane) & 15, 0x80 * size);
        return true;
    }
    return false;
}

void lx7_window_exception(lx7_core *core, uint32_t base, uint32_t vector) {
    if (!core->vecbase) {
        lx7_stop_run(core, LX7_NO_VECTORS, NULL);
        return;
    }
    core->ps = (core->ps & ~(uint32_t)LX7_PS_OWB) | (core->window / 4) << LX7_PS_OWB_SHIFT | LX7_PS_EXCM;
    core->window = 4 * base;
    core->epc1 = core->pc;
    core->next_pc = core->vecbase + vector;
}

// ISA 4.3.2: the instruction before LEND is followed by LBEG, unless it transfers control itself.
static void close_loop(lx7_core *core, const lx7_insn *insn) {
    if (core->next_pc == core->lend && core->next_pc == core->pc + insn->length && core->lcount &&
        !(core->ps & LX7_PS_EXCM)) {
        core->lcount--;
        core->next_pc = core->lbeg;
    }
}

static void execute(lx7_core *core, lx7_insn *insn) {
    uint64_t issued = core->now;
    uint32_t window = core->window;
    core->waiting = 0;
    if (lx7_window_overflow(core, insn->panes)) {
        // The instruction itself comes again after the handler.
        stall(core, LX7_STALL_BRANCH, (1 + (uint64_t)core->timing.taken_branch) * LX7_CYCLE);
        return;
    }
    insn->execute(core, insn);
    if (core->reason != LX7_RUNNING && core->reason != LX7_SIMCALL) {
        return;
    }
    insn->count++;
    core->totals.instructions++;
    core->totals.macs += insn->macs;
    core->now = issued + LX7_CYCLE + core->waiting;
    charge_results(core, insn, issued + core->waiting, window);
    bool taken = core->next_pc != core->pc + insn->length;
    if (taken && is_transfer(insn)) {
        charge_branch(core);
    } else if (!taken) {
        close_loop(core, insn);
    }
}

static void step(lx7_core *core) {
    const lx7_region *region = NULL;
    lx7_insn *insn = fetch(core, &region);
    if (!insn) {
        return;
    }
    core->current = insn;
    core->next_pc = core->pc + insn->length;
    if (insn->pie && !(core->cpenable & 8)) {
        lx7_stop_run(core, LX7_COPROCESSOR, "PIE is coprocessor 3: CPENABLE bit 3 is clear");
        return;
    }
    if (region->memory != LX7_SRAM) {
        lx7_fetch_lines(core, region, insn);
    }
    wait_for_operands(core, insn);
    wait_for_unit(core, insn);
    execute(core, insn);
    if (core->reason == LX7_RUNNING || core->reason == LX7_SIMCALL) {
        core->pc = core->next_pc;
    }
}

void lx7_run(lx7_core *core, uint64_t limit, uint32_t halt, lx7_stop *stop) {
    core->reason = LX7_RUNNING;
    core->detail = NULL;
    core->fault_address = core->fault_size = 0;
    for (uint64_t n = 0; core->reason == LX7_RUNNING; n++) {
        if (core->pc == halt) {
            lx7_stop_run(core, LX7_RETURNED, NULL);
        } else if (n == limit) {
            lx7_stop_run(core, LX7_LIMIT, NULL);
        } else {
            step(core);
        }
    }
    if (core->preload.busy) {
        lx7_advance_preload(core, core->now);
    }
    core->totals.cycles = core->now;
    *stop = (lx7_stop){
        .reason = core->reason,
        .pc = core->pc,
        .address = core->fault_address,
        .size = core->fault_size,
        .detail = core->detail,
    };
}

// SPDX-License-Identifier: MIT
// The loop that executes instructions, and the pipeline's part of the cycle model.
#include <stdlib.h>

#include "decode.h"
#include "memory.h"
#include "preload.h"
#include "regions.h"
#include "windows.h"

// The decoded instruction at pc, or NULL if the run stopped.
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

// When a resource is ready; `window` maps address registers.
static uint64_t *ready_of(lx7_core *core, uint8_t resource, uint32_t window) {
    return resource < LX7_RESOURCE_F ? &core->ready_a[(window + resource) & 63] : &core->ready[resource];
}

static void stall(lx7_core *core, lx7_stall cause, uint64_t time) {
    lx7_book(core, cause, time);
    core->now += time;
}

// TRM 1.7.1: a source needed at stage SB, produced at stage SA by an instruction issued at t, delays the
// issue to t + SA - SB + 1; ready_of holds t + SA + 1.
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

// OVL (timing.py): a drain uses adders in stage 1 that a preceding MAC still uses in stage 2.
static void wait_for_unit(lx7_core *core, const lx7_insn *insn) {
    if (insn->unit == LX7_UNIT_DRAIN && core->mac_issued && core->now < core->mac_issued + LX7_CYCLE) {
        stall(core, LX7_STALL_UNIT, core->mac_issued + LX7_CYCLE - core->now);
    }
}

// Marks the results of an executed instruction as ready after their stages.
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

// ISA 4.3.2: LBEG follows the instruction before LEND, unless that one transfers control.
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
        // The instruction is executed after the handler returns.
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

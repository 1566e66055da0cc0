// SPDX-License-Identifier: MIT
// The core as its host sees it: creation, registers and counters.
#include <stdlib.h>

#include "cache.h"
#include "pie.h"
#include "regions.h"

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
    core->cpenable = 0xff; // reset value on a chip (espressif/qemu PR 155)
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

// Registers with the same name and meaning in lx7_core and lx7_state.
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

// A register keeps only the bits that it has.
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

// Calls `visit` for every decoded instruction, by region and address.
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

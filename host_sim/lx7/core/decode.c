// SPDX-License-Identifier: MIT
// The decoder: the generated table of instructions, and how its operands are encoded.
#include "decode.h"
#include "semantics.h"

// Forms of operands: a register of a file, or an immediate (host_sim/lx7/isa).
typedef enum {
    REGISTER_A,
    REGISTER_B,
    REGISTER_F,
    REGISTER_Q,
    LINEAR,
    FROM32,
    ADDI_N,
    MOVI_N,
    B4CONST,
    B4CONSTU,
    PC,
    PC_CALL,
    PC_LITERAL,
    SPECIAL,
} form;

typedef struct {
    uint8_t to, from, width;
} piece;

typedef struct {
    uint16_t place;
    uint8_t form, bits;
    bool is_signed;
    int16_t scale, offset;
    uint8_t piece_count;
    piece pieces[6];
} operand;

typedef struct {
    uint8_t resource;
    bool by_operand; // resource is the first of a register file; the operand at `place` is added to it
    uint16_t place;
    uint8_t stage;
} stage;

typedef struct {
    lx7_execute execute;
    uint32_t mask, match;
    uint8_t length, unit, macs;
    bool pie;
    uint8_t operand_count;
    operand operands[8];
    uint8_t use_count;
    stage uses[LX7_MAX_USES];
    uint8_t def_count;
    stage defs[LX7_MAX_DEFS];
} instruction;

#include "instructions.h"

enum { INSTRUCTIONS = sizeof(instructions) / sizeof(*instructions) };

static uint32_t field_of(const operand *o, uint32_t word) {
    uint32_t field = 0;
    for (int n = 0; n < o->piece_count; n++) {
        const piece *p = &o->pieces[n];
        field |= (word >> p->from & ((1u << p->width) - 1)) << p->to;
    }
    return field;
}

static uint32_t value_of(const operand *o, uint32_t field, uint32_t pc) {
    static const uint32_t small[16] = {0, 0, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 32, 64, 128, 256};
    uint32_t number = o->is_signed ? lx7_sign_extend(field, o->bits - 1) : field;
    switch (o->form) {
    case LINEAR:
        return number * (uint32_t)o->scale + (uint32_t)o->offset;
    case FROM32:
        return 32 - number;
    case ADDI_N:
        return number ? number : UINT32_MAX;
    case MOVI_N:
        return number >= 96 ? number - 128 : number;
    case B4CONST:
        return field < 2 ? (field ? 1 : UINT32_MAX) : small[field];
    case B4CONSTU:
        return field < 2 ? 32768u << field : small[field];
    case PC:
        return pc + 4 + number;
    case PC_CALL:
        return (pc & ~3u) + 4 + 4 * number;
    case PC_LITERAL:
        return ((pc + 3) & ~3u) + 4 * (number - 65536);
    default:
        return number;
    }
}

static const instruction *find(const uint8_t *bytes, uint32_t count, uint32_t *word) {
    if (count == 0) {
        return NULL;
    }
    uint32_t length = lx7_length(bytes[0]);
    if (count < length) {
        return NULL;
    }
    *word = 0;
    memcpy(word, bytes, length); // the host is little endian
    for (int n = 0; n < INSTRUCTIONS; n++) {
        if (instructions[n].length == length && (*word & instructions[n].mask) == instructions[n].match) {
            return &instructions[n];
        }
    }
    return NULL;
}

static void put_stages(const stage *from, int count, lx7_stage *to, const lx7_insn *insn) {
    for (int n = 0; n < count; n++) {
        uint8_t number = from[n].by_operand ? ((const uint8_t *)insn)[from[n].place] : 0;
        to[n].resource = (uint8_t)(from[n].resource + number);
        to[n].stage = from[n].stage;
    }
}

static uint8_t panes_of(const lx7_stage *stages, int count, uint8_t panes) {
    for (int n = 0; n < count; n++) {
        if (stages[n].resource < LX7_RESOURCE_F && stages[n].resource >> 2 > panes) {
            panes = stages[n].resource >> 2;
        }
    }
    return panes;
}

bool lx7_decode_insn(const uint8_t *bytes, uint32_t count, uint32_t pc, lx7_insn *insn) {
    uint32_t word;
    const instruction *in = find(bytes, count, &word);
    if (!in) {
        return false;
    }
    memset(insn, 0, sizeof(*insn));
    for (int n = 0; n < in->operand_count; n++) {
        const operand *o = &in->operands[n];
        uint32_t field = field_of(o, word);
        if (o->form <= REGISTER_Q) {
            ((uint8_t *)insn)[o->place] = (uint8_t)field;
        } else {
            uint32_t value = value_of(o, field, pc);
            memcpy((uint8_t *)insn + o->place, &value, sizeof(value));
        }
    }
    insn->execute = in->execute;
    insn->opcode = (uint16_t)(in - instructions);
    insn->length = in->length;
    insn->unit = in->unit;
    insn->macs = in->macs;
    insn->pie = in->pie;
    insn->use_count = in->use_count;
    insn->def_count = in->def_count;
    put_stages(in->uses, in->use_count, insn->uses, insn);
    put_stages(in->defs, in->def_count, insn->defs, insn);
    insn->panes = panes_of(insn->uses, in->use_count, panes_of(insn->defs, in->def_count, 0));
    return true;
}

int32_t lx7_decode(const uint8_t *bytes, size_t count, uint32_t pc, uint32_t *operands) {
    uint32_t word;
    const instruction *in = find(bytes, count < 4 ? (uint32_t)count : 4, &word);
    if (!in) {
        return -1;
    }
    for (int n = 0; n < in->operand_count; n++) {
        const operand *o = &in->operands[n];
        uint32_t field = field_of(o, word);
        operands[n] = o->form <= REGISTER_Q ? field : value_of(o, field, pc);
    }
    return (int32_t)(in - instructions);
}

// SPDX-License-Identifier: MIT
// PIE: the accumulators QACC (16 lanes of 20 bits, or 8 of 40) and ACCX (40 bits), and multiply-accumulate
// (TRM 1.8). The run stops where an accumulator saturates in a way that was not measured on a chip.
#include "pie.h"

enum { LANES_20 = 16, LANES_40 = 8 };

static const int32_t RAIL_20 = 1 << 19;
static const int64_t RAIL_40 = (int64_t)1 << 39;
static const uint64_t MASK_20 = (1 << 20) - 1, MASK_40 = ((uint64_t)1 << 40) - 1;

static int64_t extend(uint64_t bits, uint64_t mask) {
    uint64_t sign = (mask >> 1) + 1;
    return (int64_t)(((bits & mask) ^ sign) - sign);
}

// Views of QACC: a lane of 40 bits is two lanes of 20, the low one first.

static void split_lanes(const int64_t from[LANES_40], int32_t to[LANES_20]) {
    for (int n = 0; n < LANES_40; n++) {
        to[2 * n] = (int32_t)extend((uint64_t)from[n], MASK_20);
        to[2 * n + 1] = (int32_t)extend((uint64_t)from[n] >> 20, MASK_20);
    }
}

static void view_by_20(lx7_core *core) {
    if (core->qacc_by_40) {
        split_lanes(core->qacc_40, core->qacc_20);
        core->qacc_by_40 = false;
    }
}

static void view_by_40(lx7_core *core) {
    for (int n = 0; !core->qacc_by_40 && n < LANES_40; n++) {
        uint64_t low = (uint32_t)core->qacc_20[2 * n] & MASK_20, high = (uint32_t)core->qacc_20[2 * n + 1];
        core->qacc_40[n] = extend(high << 20 | low, MASK_40);
    }
    core->qacc_by_40 = true;
}

void lx7_get_qacc(const lx7_core *core, int32_t lanes[16]) {
    if (core->qacc_by_40) {
        split_lanes(core->qacc_40, lanes);
    } else {
        memcpy(lanes, core->qacc_20, sizeof(core->qacc_20));
    }
}

void lx7_set_qacc(lx7_core *core, const int32_t lanes[16]) {
    core->qacc_by_40 = false;
    for (int n = 0; n < LANES_20; n++) {
        core->qacc_20[n] = (int32_t)extend((uint32_t)lanes[n], MASK_20);
    }
}

// Half of QACC as five words.

static void half_words(lx7_core *core, int half, uint32_t words[5]) {
    view_by_40(core);
    const int64_t *lanes = core->qacc_40 + 4 * half;
    memset(words, 0, 5 * sizeof(*words));
    for (int n = 0; n < 4; n++) {
        uint64_t lane = (uint64_t)lanes[n] & MASK_40;
        int word = 40 * n / 32, bit = 40 * n % 32;
        words[word] |= (uint32_t)(lane << bit);
        words[word + 1] |= (uint32_t)(lane >> (32 - bit));
    }
}

static void set_half_words(lx7_core *core, int half, const uint32_t words[5]) {
    view_by_40(core);
    for (int n = 0; n < 4; n++) {
        int word = 40 * n / 32, bit = 40 * n % 32;
        uint64_t lane = words[word] >> bit | (uint64_t)words[word + 1] << (32 - bit);
        core->qacc_40[4 * half + n] = extend(lane, MASK_40);
    }
}

static bool unmeasured_rail(lx7_core *core, bool reached) {
    if (reached) {
        lx7_stop_run(core, LX7_UNMEASURED,
                     "an accumulator saturates in a way that was not measured on a chip");
    }
    return reached;
}

// Multiply-accumulate into QACC. `strict`: this instruction's saturation was not measured. The run then stops
// at either limit; the negative one counts as soon as it is reached, since readings of the manual differ by
// one.

static bool add_products_s8(lx7_core *core, const int8_t *x, const int8_t *y, int step, bool strict) {
    view_by_20(core);
    int32_t sums[LANES_20], bad = 0;
    for (int n = 0; n < LANES_20; n++) {
        sums[n] = core->qacc_20[n] + x[n] * y[n * step];
        bad |= (sums[n] > RAIL_20 - 1) | (sums[n] <= -RAIL_20);
    }
    if (bad && strict) {
        return !unmeasured_rail(core, true);
    }
    for (int n = 0; n < LANES_20; n++) {
        int32_t low = sums[n] < -RAIL_20 ? -RAIL_20 : sums[n];
        core->qacc_20[n] = low > RAIL_20 - 1 ? RAIL_20 - 1 : low;
    }
    return true;
}

static bool add_products_s16(lx7_core *core, const int16_t *x, const int16_t *y, int step) {
    view_by_40(core);
    int64_t sums[LANES_40];
    bool bad = false;
    for (int n = 0; n < LANES_40; n++) {
        sums[n] = core->qacc_40[n] + (int64_t)x[n] * y[n * step];
        bad |= sums[n] > RAIL_40 - 1 || sums[n] <= -RAIL_40;
    }
    if (unmeasured_rail(core, bad)) {
        return false;
    }
    memcpy(core->qacc_40, sums, sizeof(sums));
    return true;
}

static bool add_products_u8(lx7_core *core, const lx7_q *x, const lx7_q *y) {
    view_by_20(core);
    for (int n = 0; n < LANES_20; n++) {
        uint64_t sum = ((uint32_t)core->qacc_20[n] & MASK_20) + (uint64_t)x->ub[n] * y->ub[n];
        core->qacc_20[n] = (int32_t)extend(sum > MASK_20 ? MASK_20 : sum, MASK_20);
    }
    return true;
}

static bool add_products_u16(lx7_core *core, const lx7_q *x, const lx7_q *y) {
    view_by_40(core);
    uint64_t sums[LANES_40];
    bool bad = false;
    for (int n = 0; n < LANES_40; n++) {
        sums[n] = ((uint64_t)core->qacc_40[n] & MASK_40) + (uint64_t)x->uh[n] * y->uh[n];
        bad |= sums[n] > MASK_40;
    }
    if (unmeasured_rail(core, bad)) {
        return false;
    }
    for (int n = 0; n < LANES_40; n++) {
        core->qacc_40[n] = extend(sums[n], MASK_40);
    }
    return true;
}

// Multiply-accumulate into ACCX: products are summed, then added, then clamped once. Its positive saturation
// was measured.

static bool add_to_accx(lx7_core *core, int64_t products) {
    int64_t sum = core->accx + products;
    if (unmeasured_rail(core, sum <= -RAIL_40)) {
        return false;
    }
    core->accx = sum > RAIL_40 - 1 ? RAIL_40 - 1 : sum;
    return true;
}

static bool add_to_accx_unsigned(lx7_core *core, uint64_t products) {
    uint64_t sum = ((uint64_t)core->accx & MASK_40) + products;
    if (unmeasured_rail(core, sum > MASK_40)) {
        return false;
    }
    core->accx = extend(sum, MASK_40);
    return true;
}

typedef bool (*mac)(lx7_core *core, const lx7_q *x, const lx7_q *y);

static bool mac_s8_qacc(lx7_core *core, const lx7_q *x, const lx7_q *y) {
    return add_products_s8(core, x->b, y->b, 1, false);
}

static bool mac_s16_qacc(lx7_core *core, const lx7_q *x, const lx7_q *y) {
    return add_products_s16(core, x->h, y->h, 1);
}

static bool mac_u8_qacc(lx7_core *core, const lx7_q *x, const lx7_q *y) {
    return add_products_u8(core, x, y);
}

static bool mac_u16_qacc(lx7_core *core, const lx7_q *x, const lx7_q *y) {
    return add_products_u16(core, x, y);
}

#define SUM_OF_PRODUCTS(name, lane, count, type, add)                                                        \
    static bool mac_##name##_accx(lx7_core *core, const lx7_q *x, const lx7_q *y) {                          \
        type sum = 0;                                                                                        \
        for (int n = 0; n < (count); n++) {                                                                  \
            sum += (type)x->lane[n] * y->lane[n];                                                            \
        }                                                                                                    \
        return add(core, sum);                                                                               \
    }

SUM_OF_PRODUCTS(s8, b, 16, int32_t, add_to_accx)
SUM_OF_PRODUCTS(s16, h, 8, int64_t, add_to_accx)
SUM_OF_PRODUCTS(u8, ub, 16, uint32_t, add_to_accx_unsigned)
SUM_OF_PRODUCTS(u16, uh, 8, uint64_t, add_to_accx_unsigned)

// A MAC fused with a load uses the old registers. The load comes first here: if it fails, nothing changes.

typedef struct {
    lx7_q loaded;
    uint32_t next;
} fused;

static bool finish(lx7_core *core, const lx7_insn *i, fused f, mac multiply) {
    if (core->reason != LX7_RUNNING || !multiply(core, &core->q[i->qx], &core->q[i->qy])) {
        return false;
    }
    core->q[i->qu] = f.loaded;
    A(as) = f.next;
    return true;
}

static void finish_qup(lx7_core *core, const lx7_insn *i, fused f, mac multiply) {
    lx7_q value = lx7_window(core, i->qs0, i->qs1);
    if (lx7_apart(core, i->qu, i->qs0) && finish(core, i, f, multiply)) {
        core->q[i->qs0] = value;
    }
}

static fused load_next(lx7_core *core, const lx7_insn *i, uint32_t step) {
    uint32_t address = A(as);
    return (fused){.loaded = lx7_load_128(core, address & ~15u), .next = address + step};
}

static fused load_bytes(lx7_core *core, const lx7_insn *i) {
    uint32_t address = A(as);
    return (fused){.loaded = lx7_broadcast_8(lx7_load_8(core, address)), .next = address + 1};
}

static fused load_halfwords(lx7_core *core, const lx7_insn *i) {
    uint32_t address = A(as);
    return (fused){.loaded = lx7_broadcast_16(lx7_load_16(core, address & ~1u)), .next = address + 2};
}

#define VMULAS(name, multiply)                                                                               \
    LX7_DO(ee_vmulas_##name) {                                                                               \
        multiply(core, &core->q[i->qx], &core->q[i->qy]);                                                    \
    }                                                                                                        \
    LX7_DO(ee_vmulas_##name##_ld_ip) {                                                                       \
        finish(core, i, load_next(core, i, IMM), multiply);                                                  \
    }                                                                                                        \
    LX7_DO(ee_vmulas_##name##_ld_xp) {                                                                       \
        finish(core, i, load_next(core, i, A(ad)), multiply);                                                \
    }                                                                                                        \
    LX7_DO(ee_vmulas_##name##_ld_ip_qup) {                                                                   \
        finish_qup(core, i, load_next(core, i, IMM), multiply);                                              \
    }                                                                                                        \
    LX7_DO(ee_vmulas_##name##_ld_xp_qup) {                                                                   \
        finish_qup(core, i, load_next(core, i, A(ad)), multiply);                                            \
    }
#define VMULAS_BROADCAST(name, load, multiply)                                                               \
    LX7_DO(ee_vmulas_##name##_ldbc_incp) {                                                                   \
        finish(core, i, load(core, i), multiply);                                                            \
    }                                                                                                        \
    LX7_DO(ee_vmulas_##name##_ldbc_incp_qup) {                                                               \
        finish_qup(core, i, load(core, i), multiply);                                                        \
    }

VMULAS(s8_qacc, mac_s8_qacc)
VMULAS(s16_qacc, mac_s16_qacc)
VMULAS(u8_qacc, mac_u8_qacc)
VMULAS(u16_qacc, mac_u16_qacc)
VMULAS(s8_accx, mac_s8_accx)
VMULAS(s16_accx, mac_s16_accx)
VMULAS(u8_accx, mac_u8_accx)
VMULAS(u16_accx, mac_u16_accx)
VMULAS_BROADCAST(s8_qacc, load_bytes, mac_s8_qacc)
VMULAS_BROADCAST(u8_qacc, load_bytes, mac_u8_qacc)
VMULAS_BROADCAST(s16_qacc, load_halfwords, mac_s16_qacc)
VMULAS_BROADCAST(u16_qacc, load_halfwords, mac_u16_qacc)

// qx is the vector; the scalar is a lane of qy.

static bool vsmulas_s8(lx7_core *core, const lx7_insn *i) {
    int8_t scalar[1] = {core->q[i->qy].b[i->sel]};
    return add_products_s8(core, core->q[i->qx].b, scalar, 0, true);
}

static bool vsmulas_s16(lx7_core *core, const lx7_insn *i) {
    int16_t scalar[1] = {core->q[i->qy].h[i->sel]};
    return add_products_s16(core, core->q[i->qx].h, scalar, 0);
}

#define VSMULAS(name, multiply)                                                                              \
    LX7_DO(ee_vsmulas_##name##_qacc) {                                                                       \
        multiply(core, i);                                                                                   \
    }                                                                                                        \
    LX7_DO(ee_vsmulas_##name##_qacc_ld_incp) {                                                               \
        fused f = load_next(core, i, 16);                                                                    \
        if (core->reason == LX7_RUNNING && multiply(core, i)) {                                              \
            core->q[i->qu] = f.loaded;                                                                       \
            A(as) = f.next;                                                                                  \
        }                                                                                                    \
    }

VSMULAS(s8, vsmulas_s8)
VSMULAS(s16, vsmulas_s16)

// Clearing and filling QACC

LX7_DO(ee_zero_qacc) {
    (void)i;
    core->qacc_by_40 = false;
    memset(core->qacc_20, 0, sizeof(core->qacc_20));
}

LX7_DO(ee_zero_accx) {
    (void)i;
    core->accx = 0;
}

static void fill_20(lx7_core *core, const lx7_q *q, bool is_signed) {
    core->qacc_by_40 = false;
    for (int n = 0; n < LANES_20; n++) {
        core->qacc_20[n] = is_signed ? q->b[n] : q->ub[n];
    }
}

static void fill_40(lx7_core *core, const lx7_q *q, bool is_signed) {
    core->qacc_by_40 = true;
    for (int n = 0; n < LANES_40; n++) {
        core->qacc_40[n] = is_signed ? q->h[n] : q->uh[n];
    }
}

#define FILL_LOADED(name, step, fill, is_signed)                                                             \
    LX7_DO(ee_ldqa_##name) {                                                                                 \
        fused f = load_next(core, i, step);                                                                  \
        if (core->reason == LX7_RUNNING) {                                                                   \
            fill(core, &f.loaded, is_signed);                                                                \
            A(as) = f.next;                                                                                  \
        }                                                                                                    \
    }
#define FILL(kind, fill, is_signed)                                                                          \
    LX7_DO(ee_mov_##kind##_qacc) {                                                                           \
        fill(core, &core->q[i->qs], is_signed);                                                              \
    }                                                                                                        \
    FILL_LOADED(kind##_128_ip, IMM, fill, is_signed)                                                         \
    FILL_LOADED(kind##_128_xp, A(ad), fill, is_signed)

FILL(s8, fill_20, true)
FILL(u8, fill_20, false)
FILL(s16, fill_40, true)
FILL(u16, fill_40, false)

// Draining: shift right (rounding down), write back unclamped, clamp to the result.

static bool second_operand_known(lx7_core *core, const lx7_insn *i) {
    if (i->sel) {
        lx7_stop_run(core, LX7_UNMEASURED, "the last operand of srcmb or srs is not 0");
        return false;
    }
    return true;
}

LX7_DO(ee_srcmb_s8_qacc) {
    uint32_t count = A(as) & 31;
    if (!second_operand_known(core, i)) {
        return;
    }
    view_by_20(core);
    for (int n = 0; n < LANES_20; n++) {
        core->qacc_20[n] = (int32_t)lx7_shift_right(core->qacc_20[n], count);
        core->q[i->qu].b[n] = (int8_t)lx7_clamp(core->qacc_20[n], INT8_MIN, INT8_MAX);
    }
}

LX7_DO(ee_srcmb_s16_qacc) {
    uint32_t count = A(as) & 63;
    if (!second_operand_known(core, i)) {
        return;
    }
    view_by_40(core);
    for (int n = 0; n < LANES_40; n++) {
        core->qacc_40[n] = lx7_shift_right(core->qacc_40[n], count);
        core->q[i->qu].h[n] = (int16_t)lx7_clamp(core->qacc_40[n], INT16_MIN, INT16_MAX);
    }
}

LX7_DO(ee_srs_accx) {
    uint32_t count = A(as) & 63;
    if (second_operand_known(core, i)) {
        core->accx = lx7_shift_right(core->accx, count);
        A(au) = (uint32_t)lx7_clamp(core->accx, INT32_MIN, INT32_MAX);
    }
}

// Raw bits of the accumulators, in memory and user registers.

static void load_half(lx7_core *core, const lx7_insn *i, int half, bool top) {
    uint32_t words[5], address = A(as);
    lx7_q value = {{0}};
    if (top) {
        value.uw[0] = lx7_load_32(core, address & ~3u);
    } else {
        value = lx7_load_128(core, address & ~15u);
    }
    if (core->reason == LX7_RUNNING) {
        half_words(core, half, words);
        memcpy(words + (top ? 4 : 0), &value, top ? 4 : 16);
        set_half_words(core, half, words);
        A(as) = address + IMM;
    }
}

static void store_half(lx7_core *core, const lx7_insn *i, int half, bool top) {
    uint32_t words[5], address = A(as);
    lx7_q value;
    half_words(core, half, words);
    memcpy(&value, words, sizeof(value));
    if (top) {
        lx7_store_32(core, address & ~3u, words[4]);
    } else {
        lx7_store_128(core, address & ~15u, value);
    }
    if (core->reason == LX7_RUNNING) {
        A(as) = address + IMM;
    }
}

#define HALVES(name, half, top)                                                                              \
    LX7_DO(ee_ld_qacc_##name##_ip) {                                                                         \
        load_half(core, i, half, top);                                                                       \
    }                                                                                                        \
    LX7_DO(ee_st_qacc_##name##_ip) {                                                                         \
        store_half(core, i, half, top);                                                                      \
    }

HALVES(l_l_128, 0, false)
HALVES(l_h_32, 0, true)
HALVES(h_l_128, 1, false)
HALVES(h_h_32, 1, true)

LX7_DO(ee_ld_accx_ip) {
    uint32_t address = A(as);
    uint64_t value = lx7_load_64(core, address & ~7u);
    if (core->reason == LX7_RUNNING) {
        core->accx = extend(value, MASK_40);
        A(as) = address + IMM;
    }
}

LX7_DO(ee_st_accx_ip) {
    uint32_t address = A(as);
    lx7_store_64(core, address & ~7u, (uint64_t)core->accx & MASK_40);
    if (core->reason == LX7_RUNNING) {
        A(as) = address + IMM;
    }
}

#define USER(name, read, write)                                                                              \
    LX7_DO(rur_##name) {                                                                                     \
        uint32_t value;                                                                                      \
        read;                                                                                                \
        A(ar) = value;                                                                                       \
    }                                                                                                        \
    LX7_DO(wur_##name) {                                                                                     \
        uint32_t value = A(at);                                                                              \
        write;                                                                                               \
    }

static uint32_t read_word(lx7_core *core, int half, int word) {
    uint32_t words[5];
    half_words(core, half, words);
    return words[word];
}

static void write_word(lx7_core *core, int half, int word, uint32_t value) {
    uint32_t words[5];
    half_words(core, half, words);
    words[word] = value;
    set_half_words(core, half, words);
}

#define QACC_WORD(name, half, word)                                                                          \
    USER(name, value = read_word(core, half, word), write_word(core, half, word, value))

QACC_WORD(qacc_l_0, 0, 0)
QACC_WORD(qacc_l_1, 0, 1)
QACC_WORD(qacc_l_2, 0, 2)
QACC_WORD(qacc_l_3, 0, 3)
QACC_WORD(qacc_l_4, 0, 4)
QACC_WORD(qacc_h_0, 1, 0)
QACC_WORD(qacc_h_1, 1, 1)
QACC_WORD(qacc_h_2, 1, 2)
QACC_WORD(qacc_h_3, 1, 3)
QACC_WORD(qacc_h_4, 1, 4)

USER(accx_0, value = (uint32_t)core->accx,
     core->accx = extend(((uint64_t)core->accx & ~(uint64_t)UINT32_MAX) | value, MASK_40))
USER(accx_1, value = (uint32_t)((uint64_t)core->accx >> 32 & 0xff),
     core->accx = extend((uint64_t)(value & 0xff) << 32 | (uint32_t)core->accx, MASK_40))
USER(sar_byte, value = core->sar_byte, core->sar_byte = value & 15)
USER(fft_bit_width, value = core->fft_bit_width, core->fft_bit_width = value & 15)
USER(ua_state_0, value = core->ua_state.uw[0], core->ua_state.uw[0] = value)
USER(ua_state_1, value = core->ua_state.uw[1], core->ua_state.uw[1] = value)
USER(ua_state_2, value = core->ua_state.uw[2], core->ua_state.uw[2] = value)
USER(ua_state_3, value = core->ua_state.uw[3], core->ua_state.uw[3] = value)

// SPDX-License-Identifier: MIT
// PIE: lane-wise arithmetic, comparisons, logic and shifts on q registers (TRM 1.8), some fused with a load
// or store.
#include "pie.h"

typedef lx7_q (*binary)(const lx7_core *core, const lx7_q *x, const lx7_q *y);

#define LANES(name, lane, count, value)                                                                      \
    static lx7_q name(const lx7_core *core, const lx7_q *x, const lx7_q *y) {                                \
        lx7_q result;                                                                                        \
        (void)core;                                                                                          \
        for (int n = 0; n < (count); n++) {                                                                  \
            int64_t a = x->lane[n], b = y->lane[n];                                                          \
            result.lane[n] = (__typeof__(result.lane[0]))(value);                                            \
        }                                                                                                    \
        return result;                                                                                       \
    }

// One operation on lanes of each width.
#define SIGNED_LANES(name, value_8, value_16, value_32)                                                      \
    LANES(name##_s8, b, 16, value_8)                                                                         \
    LANES(name##_s16, h, 8, value_16)                                                                        \
    LANES(name##_s32, w, 4, value_32)

SIGNED_LANES(vadds, lx7_clamp(a + b, INT8_MIN, INT8_MAX), lx7_clamp(a + b, INT16_MIN, INT16_MAX),
             lx7_clamp(a + b, INT32_MIN, INT32_MAX))
SIGNED_LANES(vsubs, lx7_clamp(a - b, INT8_MIN, INT8_MAX), lx7_clamp(a - b, INT16_MIN, INT16_MAX),
             lx7_clamp(a - b, INT32_MIN, INT32_MAX))
SIGNED_LANES(vmax, a > b ? a : b, a > b ? a : b, a > b ? a : b)
SIGNED_LANES(vmin, a < b ? a : b, a < b ? a : b, a < b ? a : b)
SIGNED_LANES(vcmp_eq, -(a == b), -(a == b), -(a == b))
SIGNED_LANES(vcmp_gt, -(a > b), -(a > b), -(a > b))
SIGNED_LANES(vcmp_lt, -(a < b), -(a < b), -(a < b))
LANES(vmul_s8, b, 16, lx7_shift_right(a *b, core->sar))
LANES(vmul_u8, ub, 16, lx7_shift_right(a *b, core->sar))
LANES(vmul_s16, h, 8, lx7_shift_right(a *b, core->sar))
LANES(vmul_u16, uh, 8, lx7_shift_right(a *b, core->sar))

// SAR above 31: an unsigned product gives 0 in every reading of the manual. Signed bytes give 0 at 32 on a
// chip (QEMU#163), which the manual does not explain. Everything else is unknown.
static bool shift_known(lx7_core *core, bool is_signed, bool bytes) {
    if (core->sar < 32 || !is_signed || (bytes && core->sar == 32)) {
        return true;
    }
    lx7_stop_run(core, LX7_UNMEASURED, "vmul with SAR above 31");
    return false;
}

static lx7_q vmul_s8_known(const lx7_core *core, const lx7_q *x, const lx7_q *y) {
    lx7_q zero = {{0}};
    return core->sar == 32 ? zero : vmul_s8(core, x, y);
}

static void with_load(lx7_core *core, const lx7_insn *i, binary f, uint8_t to) {
    uint32_t address = A(as);
    lx7_q result = f(core, &core->q[i->qx], &core->q[i->qy]);
    if (!lx7_apart(core, i->qu, to)) {
        return;
    }
    lx7_q value = lx7_load_128(core, address & ~15u);
    if (core->reason == LX7_RUNNING) {
        core->q[to] = result;
        core->q[i->qu] = value;
        A(as) = address + 16;
    }
}

static void with_store(lx7_core *core, const lx7_insn *i, binary f, uint8_t to) {
    uint32_t address = A(as);
    lx7_q result = f(core, &core->q[i->qx], &core->q[i->qy]);
    lx7_store_128(core, address & ~15u, core->q[i->qv]);
    if (core->reason == LX7_RUNNING) {
        core->q[to] = result;
        A(as) = address + 16;
    }
}

#define PLAIN(name, f, to, allowed)                                                                          \
    LX7_DO(ee_##name) {                                                                                      \
        if (allowed) {                                                                                       \
            core->q[i->to] = f(core, &core->q[i->qx], &core->q[i->qy]);                                      \
        }                                                                                                    \
    }
#define WITH_MEMORY(name, f, to, allowed)                                                                    \
    PLAIN(name, f, to, allowed)                                                                              \
    LX7_DO(ee_##name##_ld_incp) {                                                                            \
        if (allowed) {                                                                                       \
            with_load(core, i, f, i->to);                                                                    \
        }                                                                                                    \
    }                                                                                                        \
    LX7_DO(ee_##name##_st_incp) {                                                                            \
        if (allowed) {                                                                                       \
            with_store(core, i, f, i->to);                                                                   \
        }                                                                                                    \
    }

WITH_MEMORY(vadds_s8, vadds_s8, qa, true)
WITH_MEMORY(vadds_s16, vadds_s16, qa, true)
WITH_MEMORY(vadds_s32, vadds_s32, qa, true)
WITH_MEMORY(vsubs_s8, vsubs_s8, qa, true)
WITH_MEMORY(vsubs_s16, vsubs_s16, qa, true)
WITH_MEMORY(vsubs_s32, vsubs_s32, qa, true)
WITH_MEMORY(vmax_s8, vmax_s8, qa, true)
WITH_MEMORY(vmax_s16, vmax_s16, qa, true)
WITH_MEMORY(vmax_s32, vmax_s32, qa, true)
WITH_MEMORY(vmin_s8, vmin_s8, qa, true)
WITH_MEMORY(vmin_s16, vmin_s16, qa, true)
WITH_MEMORY(vmin_s32, vmin_s32, qa, true)
WITH_MEMORY(vmul_s8, vmul_s8_known, qz, shift_known(core, true, true))
WITH_MEMORY(vmul_u8, vmul_u8, qz, shift_known(core, false, true))
WITH_MEMORY(vmul_s16, vmul_s16, qz, shift_known(core, true, false))
WITH_MEMORY(vmul_u16, vmul_u16, qz, shift_known(core, false, false))
PLAIN(vcmp_eq_s8, vcmp_eq_s8, qa, true)
PLAIN(vcmp_eq_s16, vcmp_eq_s16, qa, true)
PLAIN(vcmp_eq_s32, vcmp_eq_s32, qa, true)
PLAIN(vcmp_gt_s8, vcmp_gt_s8, qa, true)
PLAIN(vcmp_gt_s16, vcmp_gt_s16, qa, true)
PLAIN(vcmp_gt_s32, vcmp_gt_s32, qa, true)
PLAIN(vcmp_lt_s8, vcmp_lt_s8, qa, true)
PLAIN(vcmp_lt_s16, vcmp_lt_s16, qa, true)
PLAIN(vcmp_lt_s32, vcmp_lt_s32, qa, true)

// Lanes that are not positive are scaled: by a register's low bits (in place), or by the lanes of qy. The
// shift is ay[4:0] or ay[5:0] (TRM); what one above 31 gives is as open as for vmul.

static bool relu_shift_known(lx7_core *core, uint32_t shift) {
    if (shift < 32) {
        return true;
    }
    lx7_stop_run(core, LX7_UNMEASURED, "vrelu or vprelu with a shift above 31");
    return false;
}

#define RELU(bits, lane, count, shifts)                                                                      \
    LX7_DO(ee_vrelu_s##bits) {                                                                               \
        int##bits##_t slope = (int##bits##_t)A(ax);                                                          \
        uint32_t shift = A(ay) & ((shifts) - 1);                                                             \
        lx7_q *q = &core->q[i->qs];                                                                          \
        if (!relu_shift_known(core, shift)) {                                                                \
            return;                                                                                          \
        }                                                                                                    \
        for (int n = 0; n < (count); n++) {                                                                  \
            int64_t scaled = lx7_shift_right((int64_t)q->lane[n] * slope, shift);                            \
            q->lane[n] = q->lane[n] <= 0 ? (int##bits##_t)scaled : q->lane[n];                               \
        }                                                                                                    \
    }                                                                                                        \
    LX7_DO(ee_vprelu_s##bits) {                                                                              \
        lx7_q x = core->q[i->qx], y = core->q[i->qy], *z = &core->q[i->qz];                                  \
        uint32_t shift = A(ay) & ((shifts) - 1);                                                             \
        if (!relu_shift_known(core, shift)) {                                                                \
            return;                                                                                          \
        }                                                                                                    \
        for (int n = 0; n < (count); n++) {                                                                  \
            int64_t scaled = lx7_shift_right((int64_t)x.lane[n] * y.lane[n], shift);                         \
            z->lane[n] = x.lane[n] <= 0 ? (int##bits##_t)scaled : x.lane[n];                                 \
        }                                                                                                    \
    }

RELU(8, b, 16, 32)
RELU(16, h, 8, 64)

// At SAR = 32 a chip saturates left shifts and gives 0 for right shifts, even of negative lanes (QEMU#163).

static uint32_t shift_left(uint32_t value, uint32_t count) {
    if (count < 32) {
        return value << count;
    }
    return value == 0 ? 0 : value >> 31 ? 0x80000000u : 0x7fffffffu;
}

static uint32_t shift_right(uint32_t value, uint32_t count) {
    return count < 32 ? (uint32_t)lx7_shift_right((int32_t)value, count) : 0;
}

static void shift_words(lx7_core *core, const lx7_insn *i, uint32_t (*shift)(uint32_t, uint32_t)) {
    if (core->sar > 32) {
        lx7_stop_run(core, LX7_UNMEASURED, "vsl or vsr with SAR above 32");
        return;
    }
    for (int n = 0; n < 4; n++) {
        core->q[i->qa].uw[n] = shift(core->q[i->qs].uw[n], core->sar);
    }
}

LX7_DO(ee_vsl_32) {
    shift_words(core, i, shift_left);
}

LX7_DO(ee_vsr_32) {
    shift_words(core, i, shift_right);
}

#define LOGIC(name, operator)                                                                                \
    LX7_DO(ee_##name) {                                                                                      \
        lx7_q x = core->q[i->qx], y = core->q[i->qy];                                                        \
        for (int n = 0; n < 2; n++) {                                                                        \
            core->q[i->qa].d[n] = x.d[n] operator y.d[n];                                                    \
        }                                                                                                    \
    }

LOGIC(andq, &)
LOGIC(orq, |)
LOGIC(xorq, ^)

LX7_DO(ee_notq) {
    for (int n = 0; n < 2; n++) {
        core->q[i->qa].d[n] = ~core->q[i->qx].d[n];
    }
}

// SPDX-License-Identifier: MIT
// PIE: loads, stores and moves of q registers and floats, and the q registers' permutations (TRM 1.8).
#include "pie.h"

static uint32_t aligned(uint32_t address, uint32_t size) {
    return address & ~(size - 1);
}

// Post-increments: .ip adds an immediate, .xp a register, .incp the size.

#define MEMORY(name, access, step)                                                                           \
    LX7_DO(name) {                                                                                           \
        uint32_t address = A(as), next = address + (step);                                                   \
        access;                                                                                              \
        if (core->reason == LX7_RUNNING) {                                                                   \
            A(as) = next;                                                                                    \
        }                                                                                                    \
    }
#define MEMORY_BOTH(name, access)                                                                            \
    MEMORY(name##_ip, access, IMM)                                                                           \
    MEMORY(name##_xp, access, A(ad))

static void load_q(lx7_core *core, uint8_t q, uint32_t address) {
    lx7_q value = lx7_load_128(core, aligned(address, 16));
    if (core->reason == LX7_RUNNING) {
        core->q[q] = value;
    }
}

static void load_half(lx7_core *core, uint8_t q, int half, uint32_t address) {
    uint64_t value = lx7_load_64(core, aligned(address, 8));
    if (core->reason == LX7_RUNNING) {
        core->q[q].d[half] = value;
    }
}

static void load_lanes_8(lx7_core *core, uint8_t q, uint32_t address) {
    uint32_t value = lx7_load_8(core, address);
    if (core->reason == LX7_RUNNING) {
        core->q[q] = lx7_broadcast_8(value);
    }
}

static void load_lanes_16(lx7_core *core, uint8_t q, uint32_t address) {
    uint32_t value = lx7_load_16(core, aligned(address, 2));
    if (core->reason == LX7_RUNNING) {
        core->q[q] = lx7_broadcast_16(value);
    }
}

static void load_lanes_32(lx7_core *core, uint8_t q, uint32_t address) {
    uint32_t value = lx7_load_32(core, aligned(address, 4));
    for (int n = 0; n < 4 && core->reason == LX7_RUNNING; n++) {
        core->q[q].uw[n] = value;
    }
}

MEMORY_BOTH(ee_vld_128, load_q(core, i->qu, address))
MEMORY_BOTH(ee_vld_l_64, load_half(core, i->qu, 0, address))
MEMORY_BOTH(ee_vld_h_64, load_half(core, i->qu, 1, address))
MEMORY_BOTH(ee_vst_128, lx7_store_128(core, aligned(address, 16), core->q[i->qv]))
MEMORY_BOTH(ee_vst_l_64, lx7_store_64(core, aligned(address, 8), core->q[i->qv].d[0]))
MEMORY_BOTH(ee_vst_h_64, lx7_store_64(core, aligned(address, 8), core->q[i->qv].d[1]))
MEMORY(ee_vldbc_8, load_lanes_8(core, i->qu, address), 0)
MEMORY(ee_vldbc_16, load_lanes_16(core, i->qu, address), 0)
MEMORY(ee_vldbc_32, load_lanes_32(core, i->qu, address), 0)
MEMORY_BOTH(ee_vldbc_8, load_lanes_8(core, i->qu, address))
MEMORY_BOTH(ee_vldbc_16, load_lanes_16(core, i->qu, address))
MEMORY_BOTH(ee_vldbc_32, load_lanes_32(core, i->qu, address))

static void load_halfword_pairs(lx7_core *core, const lx7_insn *i, uint32_t address) {
    lx7_q value = lx7_load_128(core, aligned(address, 16));
    if (core->reason != LX7_RUNNING || !lx7_apart(core, i->qu, i->qu1)) {
        return;
    }
    for (int n = 0; n < 8; n++) {
        core->q[i->qu].h[n] = value.h[n / 2];
        core->q[i->qu1].h[n] = value.h[4 + n / 2];
    }
}

MEMORY(ee_vldhbc_16_incp, load_halfword_pairs(core, i, address), 16)

LX7_DO(ld_qr) {
    load_q(core, i->qu, A(as) + IMM);
}

LX7_DO(st_qr) {
    lx7_store_128(core, aligned(A(as) + IMM, 16), core->q[i->qs]);
}

LX7_DO(mv_qr) {
    core->q[i->qu] = core->q[i->qs];
}

// The manual does not say whether the index is signed.
static bool indexed(lx7_core *core, const lx7_insn *i, uint32_t *address) {
    int32_t index = core->q[i->qs].h[i->sel8];
    if (index < 0) {
        lx7_stop_run(core, LX7_UNMEASURED, "a negative index of ldxq or stxq");
        return false;
    }
    *address = aligned(A(as) + 4 * (uint32_t)index, 4);
    return true;
}

LX7_DO(ee_ldxq_32) {
    uint32_t address;
    if (indexed(core, i, &address)) {
        uint32_t value = lx7_load_32(core, address);
        if (core->reason == LX7_RUNNING) {
            core->q[i->qu].uw[i->sel4] = value;
        }
    }
}

LX7_DO(ee_stxq_32) {
    uint32_t address;
    if (indexed(core, i, &address)) {
        lx7_store_32(core, address, core->q[i->qv].uw[i->sel4]);
    }
}

// Floats: fu0 is the lowest word.

static void load_floats_4(lx7_core *core, const lx7_insn *i, uint32_t address) {
    const uint8_t to[4] = {i->fu0, i->fu1, i->fu2, i->fu3};
    for (int n = 0; n < 4; n++) {
        for (int m = 0; m < n; m++) {
            if (!lx7_apart(core, to[n], to[m])) {
                return;
            }
        }
    }
    lx7_q value = lx7_load_128(core, aligned(address, 16));
    for (int n = 0; n < 4 && core->reason == LX7_RUNNING; n++) {
        core->f[to[n]] = value.uw[n];
    }
}

static void store_floats_4(lx7_core *core, const lx7_insn *i, uint32_t address) {
    lx7_q value = {.uw = {core->f[i->fv0], core->f[i->fv1], core->f[i->fv2], core->f[i->fv3]}};
    lx7_store_128(core, aligned(address, 16), value);
}

static void load_floats_2(lx7_core *core, const lx7_insn *i, uint32_t address) {
    if (!lx7_apart(core, i->fu0, i->fu1)) {
        return;
    }
    uint64_t value = lx7_load_64(core, aligned(address, 8));
    if (core->reason == LX7_RUNNING) {
        core->f[i->fu0] = (uint32_t)value;
        core->f[i->fu1] = (uint32_t)(value >> 32);
    }
}

static void store_floats_2(lx7_core *core, const lx7_insn *i, uint32_t address) {
    lx7_store_64(core, aligned(address, 8), core->f[i->fv0] | (uint64_t)core->f[i->fv1] << 32);
}

MEMORY_BOTH(ee_ldf_128, load_floats_4(core, i, address))
MEMORY_BOTH(ee_stf_128, store_floats_4(core, i, address))
MEMORY_BOTH(ee_ldf_64, load_floats_2(core, i, address))
MEMORY_BOTH(ee_stf_64, store_floats_2(core, i, address))

static void load_usar(lx7_core *core, const lx7_insn *i, uint32_t address) {
    load_q(core, i->qu, address);
    if (core->reason == LX7_RUNNING) {
        core->sar_byte = address & 15;
    }
}

MEMORY_BOTH(ee_ld_128_usar, load_usar(core, i, address))

static void load_ua_state(lx7_core *core, uint32_t address) {
    lx7_q value = lx7_load_128(core, aligned(address, 16));
    if (core->reason == LX7_RUNNING) {
        core->ua_state = value;
    }
}

MEMORY(ee_ld_ua_state_ip, load_ua_state(core, address), IMM)
MEMORY(ee_st_ua_state_ip, lx7_store_128(core, aligned(address, 16), core->ua_state), IMM)

LX7_DO(ee_src_q) {
    core->q[i->qa] = lx7_window(core, i->qs0, i->qs1);
}

LX7_DO(ee_src_q_qup) {
    lx7_q value = lx7_window(core, i->qs0, i->qs1), high = core->q[i->qs1];
    if (lx7_apart(core, i->qa, i->qs0)) {
        core->q[i->qa] = value;
        core->q[i->qs0] = high;
    }
}

static void shift_and_load(lx7_core *core, const lx7_insn *i, uint32_t address) {
    lx7_q value = lx7_window(core, i->qs0, i->qs1);
    if (lx7_apart(core, i->qu, i->qs0)) {
        load_q(core, i->qu, address);
        if (core->reason == LX7_RUNNING) {
            core->q[i->qs0] = value;
        }
    }
}

MEMORY_BOTH(ee_src_q_ld, shift_and_load(core, i, address))
MEMORY(ee_srcq_128_st_incp, lx7_store_128(core, aligned(address, 16), lx7_window(core, i->qs0, i->qs1)), 16)

// Shifts {qs1, qs0} left by `bytes`, or right if negative, filling with zeros.
static void shift_pair(lx7_core *core, const lx7_insn *i, int bytes) {
    if (!lx7_apart(core, i->qs0, i->qs1)) {
        return;
    }
    lx7_bytes r = lx7_bytes_of(core, i->qs0, i->qs1);
    core->q[i->qs0] = lx7_bytes_from(&r, -bytes);
    core->q[i->qs1] = lx7_bytes_from(&r, 16 - bytes);
}

LX7_DO(ee_slci_2q) {
    shift_pair(core, i, i->sel + 1);
}

LX7_DO(ee_srci_2q) {
    shift_pair(core, i, -(i->sel + 1));
}

static void shift_pair_by_register(lx7_core *core, const lx7_insn *i, int sign) {
    uint32_t next = A(as) + A(ad);
    shift_pair(core, i, sign * ((int)(A(as) & 15) + 1));
    if (core->reason == LX7_RUNNING) {
        A(as) = next;
    }
}

LX7_DO(ee_slcxxp_2q) {
    shift_pair_by_register(core, i, 1);
}

LX7_DO(ee_srcxxp_2q) {
    shift_pair_by_register(core, i, -1);
}

static void put_pair(lx7_core *core, const lx7_insn *i, lx7_q low, lx7_q high) {
    if (lx7_apart(core, i->qs0, i->qs1)) {
        core->q[i->qs0] = low;
        core->q[i->qs1] = high;
    }
}

#define ZIP(bits, lane, count)                                                                               \
    LX7_DO(ee_vzip_##bits) {                                                                                 \
        lx7_q x = core->q[i->qs0], y = core->q[i->qs1], both[2];                                             \
        for (int n = 0; n < (count); n++) {                                                                  \
            both[2 * n / (count)].lane[2 * n % (count)] = x.lane[n];                                         \
            both[2 * n / (count)].lane[2 * n % (count) + 1] = y.lane[n];                                     \
        }                                                                                                    \
        put_pair(core, i, both[0], both[1]);                                                                 \
    }                                                                                                        \
    LX7_DO(ee_vunzip_##bits) {                                                                               \
        lx7_q x = core->q[i->qs0], y = core->q[i->qs1], even, odd;                                           \
        for (int n = 0; n < (count) / 2; n++) {                                                              \
            even.lane[n] = x.lane[2 * n];                                                                    \
            even.lane[(count) / 2 + n] = y.lane[2 * n];                                                      \
            odd.lane[n] = x.lane[2 * n + 1];                                                                 \
            odd.lane[(count) / 2 + n] = y.lane[2 * n + 1];                                                   \
        }                                                                                                    \
        put_pair(core, i, even, odd);                                                                        \
    }

ZIP(8, ub, 16)
ZIP(16, uh, 8)
ZIP(32, uw, 4)

LX7_DO(ee_movi_32_a) {
    A(au) = core->q[i->qs].uw[i->sel];
}

LX7_DO(ee_movi_32_q) {
    core->q[i->qu].uw[i->sel] = A(as);
}

LX7_DO(ee_zero_q) {
    memset(&core->q[i->qa], 0, sizeof(lx7_q));
}

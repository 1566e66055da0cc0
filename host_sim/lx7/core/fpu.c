// SPDX-License-Identifier: MIT
// The single-precision FPU (ISA 4.3.11). The host computes, in the rounding mode of FCR; NaNs are chosen
// here, since hosts differ in them.
#include <fenv.h>
#include <math.h>

#include "semantics.h"

#define F(name) (core->f[i->name])

enum {
    SIGN = (int32_t)0x80000000,
    DEFAULT_NAN = 0x7fc00000,
    QUIET = 0x00400000,
    INFINITE = 0x7f800000,
    // FSR
    INEXACT = 1 << 7,
    UNDERFLOW = 1 << 8,
    OVERFLOW = 1 << 9,
    BY_ZERO = 1 << 10,
    INVALID = 1 << 11,
    FLAGS = 31 << 7,
};

static float as_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static uint32_t as_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    return bits;
}

static bool is_nan(uint32_t bits) {
    return (bits & 0x7fffffff) > 0x7f800000;
}

static bool is_signalling(uint32_t bits) {
    return is_nan(bits) && !(bits & QUIET);
}

static void begin(const lx7_core *core) {
    static const int modes[4] = {FE_TONEAREST, FE_TOWARDZERO, FE_UPWARD, FE_DOWNWARD};
    feclearexcept(FE_ALL_EXCEPT);
    if (core->fcr & 3) {
        fesetround(modes[core->fcr & 3]);
    }
}

static void end(lx7_core *core) {
    int flags = fetestexcept(FE_ALL_EXCEPT);
    if (core->fcr & 3) {
        fesetround(FE_TONEAREST);
    }
    core->fsr |= (flags & FE_INEXACT ? INEXACT : 0u) | (flags & FE_UNDERFLOW ? UNDERFLOW : 0u) |
                 (flags & FE_OVERFLOW ? OVERFLOW : 0u) | (flags & FE_DIVBYZERO ? BY_ZERO : 0u) |
                 (flags & FE_INVALID ? INVALID : 0u);
}

// The resulting NaN if an operand is NaN: the first NaN in the order given, made quiet.
static uint32_t choose_nan(lx7_core *core, uint32_t a, uint32_t b, uint32_t c) {
    if (is_signalling(a) || is_signalling(b) || is_signalling(c)) {
        core->fsr |= INVALID;
    }
    return (is_nan(a) ? a : is_nan(b) ? b : c) | QUIET;
}

static uint32_t result_of(float value) {
    return isnan(value) ? DEFAULT_NAN : as_bits(value);
}

#define BINARY(name, operator)                                                                               \
    LX7_DO(name) {                                                                                           \
        uint32_t s = F(fs), t = F(ft);                                                                       \
        if (is_nan(s) || is_nan(t)) {                                                                        \
            F(fr) = choose_nan(core, t, s, 0);                                                               \
            return;                                                                                          \
        }                                                                                                    \
        begin(core);                                                                                         \
        volatile float value = as_float(s) operator as_float(t);                                             \
        end(core);                                                                                           \
        F(fr) = result_of(value);                                                                            \
    }

BINARY(add_s, +)
BINARY(sub_s, -)
BINARY(mul_s, *)

// fr + s * t, rounded once.
static void multiply_add(lx7_core *core, const lx7_insn *i, uint32_t s) {
    uint32_t t = F(ft), r = F(fr);
    if (is_nan(s) || is_nan(t) || is_nan(r)) {
        uint32_t s_size = s & ~(uint32_t)SIGN, t_size = t & ~(uint32_t)SIGN;
        if ((s_size == INFINITE && !t_size) || (!s_size && t_size == INFINITE)) {
            core->fsr |= INVALID; // as in QEMU's model; IEEE 754 (7.2) leaves this open
        }
        F(fr) = choose_nan(core, r, t, s);
        return;
    }
    begin(core);
    volatile float value = fmaf(as_float(s), as_float(t), as_float(r));
    end(core);
    F(fr) = result_of(value);
}

LX7_DO(madd_s) {
    multiply_add(core, i, F(fs));
}

LX7_DO(msub_s) {
    uint32_t s = F(fs);
    multiply_add(core, i, is_nan(s) ? s : s ^ (uint32_t)SIGN);
}

#define SET_F(name, to, value)                                                                               \
    LX7_DO(name) {                                                                                           \
        F(to) = (value);                                                                                     \
    }

SET_F(mov_s, fr, F(fs))
SET_F(abs_s, fr, F(fs) & ~(uint32_t)SIGN)
SET_F(neg_s, fr, F(fs) ^ (uint32_t)SIGN)
SET_F(wfr, fr, A(as))

LX7_DO(rfr) {
    A(ar) = F(fs);
}

LX7_DO(const_s) {
    static const float constants[4] = {0.0f, 1.0f, 2.0f, 0.5f};
    if (i->imm > 3) {
        lx7_stop_run(core, LX7_UNMEASURED, "const.s has four constants");
        return;
    }
    F(fr) = as_bits(constants[i->imm]);
}

// Conversions: float * 2^imm to an integer, an integer * 2^-imm to float

static void to_int(lx7_core *core, const lx7_insn *i, double (*rounded)(double), bool is_unsigned) {
    uint32_t s = F(fs);
    if (is_nan(s)) {
        core->fsr |= INVALID;
        A(ar) = is_unsigned ? UINT32_MAX : INT32_MAX;
        return;
    }
    // QEMU's model of this FPU converts negative numbers as the signed conversion does.
    bool negative = is_unsigned && s >> 31;
    double scaled = ldexp((double)as_float(s), i->imm), whole = rounded(scaled); // exact in double
    double low = is_unsigned && !negative ? 0.0 : -2147483648.0;
    double high = is_unsigned ? 4294967295.0 : 2147483647.0;
    double kept = whole < low ? low : whole > high ? high : whole;
    core->fsr |= kept != whole || (negative && whole != 0) ? INVALID : kept != scaled ? INEXACT : 0u;
    A(ar) = kept < 0 ? (uint32_t)(int32_t)kept : (uint32_t)kept;
}

#define TO_INT(name, rounded, is_unsigned)                                                                   \
    LX7_DO(name) {                                                                                           \
        to_int(core, i, rounded, is_unsigned);                                                               \
    }

TO_INT(round_s, nearbyint, false) // outside begin and end the host rounds to nearest, ties to even
TO_INT(trunc_s, trunc, false)
TO_INT(floor_s, floor, false)
TO_INT(ceil_s, ceil, false)
TO_INT(utrunc_s, trunc, true)

static uint32_t from_number(lx7_core *core, double number, int32_t scale) {
    begin(core);
    volatile float value = (float)ldexp(number, -scale); // exact in double
    end(core);
    return as_bits(value);
}

LX7_DO(float_s) {
    F(fr) = from_number(core, (double)(int32_t)A(as), i->imm);
}

LX7_DO(ufloat_s) {
    F(fr) = from_number(core, (double)A(as), i->imm);
}

// Comparisons: unordered ones are true for NaN; only olt.s and ole.s signal a quiet NaN as invalid.

typedef enum { LESS, EQUAL, GREATER, UNORDERED } order;

static order compare(lx7_core *core, uint32_t s, uint32_t t, bool objects) {
    if (is_nan(s) || is_nan(t)) {
        if (objects || is_signalling(s) || is_signalling(t)) {
            core->fsr |= INVALID;
        }
        return UNORDERED;
    }
    float a = as_float(s), b = as_float(t);
    return a < b ? LESS : a > b ? GREATER : EQUAL;
}

#define COMPARE(name, objects, test)                                                                         \
    LX7_DO(name) {                                                                                           \
        order o = compare(core, F(fs), F(ft), objects);                                                      \
        core->br = (core->br & ~(1u << i->br)) | (uint32_t)(test) << i->br;                                  \
    }

COMPARE(un_s, false, o == UNORDERED)
COMPARE(oeq_s, false, o == EQUAL)
COMPARE(ueq_s, false, o == EQUAL || o == UNORDERED)
COMPARE(olt_s, true, o == LESS)
COMPARE(ult_s, false, o == LESS || o == UNORDERED)
COMPARE(ole_s, true, o == LESS || o == EQUAL)
COMPARE(ule_s, false, o != GREATER)

#define MOVE_IF(name, condition)                                                                             \
    LX7_DO(name) {                                                                                           \
        if (condition) {                                                                                     \
            F(fr) = F(fs);                                                                                   \
        }                                                                                                    \
    }

MOVE_IF(moveqz_s, A(at) == 0)
MOVE_IF(movnez_s, A(at) != 0)
MOVE_IF(movltz_s, (int32_t)A(at) < 0)
MOVE_IF(movgez_s, (int32_t)A(at) >= 0)
MOVE_IF(movf_s, !(core->br >> i->bt & 1))
MOVE_IF(movt_s, core->br >> i->bt & 1)

// Loads and stores

#define MOVE_F(name, to, address, update)                                                                    \
    LX7_DO(l##name) {                                                                                        \
        uint32_t value = lx7_load_32(core, address);                                                         \
        if (core->reason == LX7_RUNNING) {                                                                   \
            F(to) = value;                                                                                   \
            update;                                                                                          \
        }                                                                                                    \
    }                                                                                                        \
    LX7_DO(s##name) {                                                                                        \
        lx7_store_32(core, address, F(to));                                                                  \
        if (core->reason == LX7_RUNNING) {                                                                   \
            update;                                                                                          \
        }                                                                                                    \
    }

MOVE_F(si, ft, A(as) + (uint32_t)i->imm, )
MOVE_F(sip, ft, A(as), A(as) += (uint32_t)i->imm)
MOVE_F(sx, fr, A(as) + A(at), )
MOVE_F(sxp, fr, A(as), A(as) += A(at))

// FCR and FSR

LX7_DO(rur_fcr) {
    A(ar) = core->fcr;
}

LX7_DO(wur_fcr) {
    core->fcr = A(at) & 0x7f;
}

LX7_DO(rur_fsr) {
    A(ar) = core->fsr;
}

LX7_DO(wur_fsr) {
    core->fsr = A(at) & FLAGS;
}

// Steps of the manual's division and square root sequences; their lookup tables are unpublished.
#define UNPUBLISHED(name)                                                                                    \
    LX7_DO(name) {                                                                                           \
        (void)i;                                                                                             \
        lx7_stop_run(core, LX7_UNMEASURED,                                                                   \
                     "a step of division or square root, whose tables are unpublished");                     \
    }

UNPUBLISHED(div0_s)
UNPUBLISHED(recip0_s)
UNPUBLISHED(sqrt0_s)
UNPUBLISHED(rsqrt0_s)
UNPUBLISHED(nexp01_s)
UNPUBLISHED(mksadj_s)
UNPUBLISHED(mkdadj_s)
UNPUBLISHED(addexp_s)
UNPUBLISHED(addexpm_s)
UNPUBLISHED(maddn_s)
UNPUBLISHED(divn_s)

// SPDX-License-Identifier: MIT
// TernaryLayerNorm (SPEC 6) of a row. Contract: kernels.h.

#include "kernels.inc"

#define X 0
#define GAMMA 4
#define BETA 8
#define Y 12
#define PAIRS 16
#define MEAN 20
#define FACTOR 24
#define SHIFT 28

    // a2 x, a3 vectors -> a2; |sum| <= 2^27
    function pie_sum
    entry a1, 32
    movi a4, 1
    s16i a4, a1, 0
    ee.vldbc.16 q7, a1
    ee.zero.accx
    ee.vld.128.ip q0, a2, 16
    addi a3, a3, -1
    loopgtz a3, .Lsum
    ee.vmulas.s16.accx.ld.ip q0, a2, 16, q0, q7
.Lsum:
    ee.vmulas.s16.accx q0, q7
    rur.accx_0 a2
    retw
    end_function pie_sum

    // a2 x, a3 vectors, a4 mean, a5 sum (8 bytes)
    function pie_squares
    entry a1, 32
    s16i a4, a1, 0
    ee.vldbc.16 q7, a1
    ee.zero.accx
    ee.vld.128.ip q0, a2, 16
    addi a3, a3, -1
    loopgtz a3, .Lsquares
    ee.vsubs.s16.ld.incp q0, a2, q1, q0, q7
    ee.vmulas.s16.accx q1, q1
.Lsquares:
    ee.vsubs.s16 q1, q0, q7
    ee.vmulas.s16.accx q1, q1
    ee.st.accx.ip a5, 0
    retw
    end_function pie_squares

    // 8 outputs of 16 bits to \out. gamma * factor fits 16 bits; its product with e is exact in QACC.
    .macro normed out
    ee.vld.128.ip q0, a3, 16
    ee.vld.128.ip q1, a4, 16
    ee.vsubs.s16 q0, q0, q6
    ee.vmul.s16 q1, q1, q7
    ee.zero.qacc
    ee.vmulas.s16.qacc q0, q1
    ee.vld.128.ip q2, a5, 16
    ee.srcmb.s16.qacc \out, a8, 0
    ee.vadds.s16 \out, \out, q2
    .endm

    // a3 x, a4 gamma, a5 beta, a6 y, a7 pairs, a8 shift; q6 mean, q7 factor
    function pie_norm
    entry a1, 32
    l32i a8, a2, MEAN
    l32i a9, a2, FACTOR
    s16i a8, a1, 0
    s16i a9, a1, 2
    l32i a3, a2, X
    l32i a4, a2, GAMMA
    l32i a5, a2, BETA
    l32i a6, a2, Y
    l32i a7, a2, PAIRS
    l32i a8, a2, SHIFT
    mov a9, a1
    ee.vldbc.16.ip q6, a9, 2
    ee.vldbc.16.ip q7, a9, 2
    ssai 0
    loopgtz a7, .Lnorm
    normed q3
    normed q4
    ee.vunzip.8 q3, q4
    ee.vst.128.ip q4, a6, 16
.Lnorm:
    retw
    end_function pie_norm

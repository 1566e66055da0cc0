// SPDX-License-Identifier: MIT
// Elementwise operations, and reductions of rows for softmax. Contract: kernels.h.

#include "kernels.inc"

    // One of four rounds after which all lanes of q0 are the most extreme one: combines even and odd lanes.
    .macro meet choose
    mv.qr q1, q0
    ee.vunzip.8 q0, q1
    \choose q0, q0, q1
    .endm

    // a2 x, a3 vectors -> a2
    function pie_least
    entry a1, 32
    ee.vld.128.ip q0, a2, 16
    addi a3, a3, -1
    loopgtz a3, .Lleast
    ee.vld.128.ip q1, a2, 16
    ee.vmin.s8 q0, q0, q1
.Lleast:
    meet ee.vmin.s8
    meet ee.vmin.s8
    meet ee.vmin.s8
    meet ee.vmin.s8
    ee.movi.32.a q0, a2, 0
    sext a2, a2, 7
    retw
    end_function pie_least

    // a2 x, a3 vectors -> a2
    function pie_total
    entry a1, 32
    movi a4, 1
    s8i a4, a1, 0
    ee.vldbc.8 q7, a1
    ee.zero.accx
    ee.vld.128.ip q0, a2, 16
    addi a3, a3, -1
    loopgtz a3, .Lsum
    ee.vmulas.s8.accx.ld.ip q0, a2, 16, q0, q7
.Lsum:
    ee.vmulas.s8.accx q0, q7
    rur.accx_0 a2
    retw
    end_function pie_total

    // a2 x, a3 vectors, a4 halvings -> a2
    function pie_halve
    entry a1, 32
    movi a5, 1
    s8i a5, a1, 0
    ee.vldbc.8 q7, a1
    ee.zero.accx
    wsr.sar a4
    loopgtz a3, .Lhalve
    ee.vld.128.ip q0, a2, 0
    ee.vmul.u8 q0, q0, q7
    ee.vst.128.ip q0, a2, 16
    ee.vmulas.s8.accx q0, q7
.Lhalve:
    rur.accx_0 a2
    retw
    end_function pie_halve

    // a2 int16 [16], a3 accumulators. With a sum's low byte b and high byte h it is 256 h + (b & 0x7f) - (b as int8 &
    // -128): four products with 64, one with 1, one with -1.
    function pie_pack
    entry a1, 32
    ee.vld.128.ip q0, a2, 16
    ee.vld.128.ip q1, a2, 16
    movi a4, 64
    movi a5, 127
    s8i a4, a1, 0
    s8i a5, a1, 1
    ee.zero.qacc
    ee.vunzip.8 q0, q1
    mov a4, a1
    ee.vldbc.8.ip q2, a4, 1
    ee.vldbc.8.ip q3, a4, 1
    ee.vcmp.eq.s8 q4, q3, q3
    ee.vmulas.s8.qacc q1, q2
    ee.vmulas.s8.qacc q1, q2
    ee.vmulas.s8.qacc q1, q2
    ee.vmulas.s8.qacc q1, q2
    ee.zero.q q5
    ee.vsubs.s8 q5, q5, q4
    ee.andq q6, q0, q3
    ee.notq q3, q3
    ee.vmulas.s8.qacc q6, q5
    ee.andq q0, q0, q3
    ee.vmulas.s8.qacc q0, q4
    nop
    ee.st.qacc_l.l.128.ip a3, 16
    ee.st.qacc_h.l.128.ip a3, 16
    ee.st.qacc_l.h.32.ip a3, 4
    ee.st.qacc_h.h.32.ip a3, 4
    retw
    end_function pie_pack

    // a2 table of 256 bytes, a3 words
    function pie_widen
    entry a1, 32
    movi a4, 16
    loopgtz a4, .Lwiden
    ee.vld.128.ip q0, a2, 16
    ee.zero.q q1
    ee.zero.q q2
    ee.vzip.8 q0, q1
    ee.zero.q q3
    ee.vzip.16 q0, q2
    ee.vzip.16 q1, q3
    ee.vst.128.ip q0, a3, 16
    ee.vst.128.ip q2, a3, 16
    ee.vst.128.ip q1, a3, 16
    ee.vst.128.ip q3, a3, 16
.Lwiden:
    retw
    end_function pie_widen

    // Loads the words of the table for four halfwords of \index, from lane \from on.
    .macro gather_4 to, index, from
    ee.ldxq.32 \to, \index, a4, 0, \from
    ee.ldxq.32 \to, \index, a4, 1, \from + 1
    ee.ldxq.32 \to, \index, a4, 2, \from + 2
    ee.ldxq.32 \to, \index, a4, 3, \from + 3
    .endm

    // a2 x, a3 vectors, a4 words, a5 flip, a6 out. Indices: bytes of x ^ flip, as halfwords in q4 and q5.
    function pie_lookup
    entry a1, 32
    s8i a5, a1, 0
    ee.vldbc.8 q7, a1
    loopgtz a3, .Llookup
    ee.vld.128.ip q4, a2, 16
    ee.zero.q q5
    ee.xorq q4, q4, q7
    ee.vzip.8 q4, q5
    gather_4 q0, q4, 0
    gather_4 q1, q4, 4
    gather_4 q2, q5, 0
    gather_4 q3, q5, 4
    ee.vunzip.16 q0, q1
    ee.vunzip.16 q2, q3
    ee.vunzip.8 q0, q2
    ee.vst.128.ip q0, a6, 16
.Llookup:
    retw
    end_function pie_lookup

    // 16 weights to q0: q4 scores, q7 0x7f, a4 words.
    .macro weights_16
    ee.zero.q q5
    ee.xorq q4, q4, q7
    ee.vzip.8 q4, q5
    gather_4 q0, q4, 0
    gather_4 q1, q4, 4
    gather_4 q2, q5, 0
    gather_4 q3, q5, 4
    ee.vunzip.16 q0, q1
    ee.vunzip.16 q2, q3
    ee.vunzip.8 q0, q2
    .endm

    // a2 x, a3 weights, a4 row (kernels.h: words, vectors, 8 bytes, keep, least) -> a2. a5 vectors - 1, a6 the last
    // vector, a7 and a8 constants. The table's index is top - x = top - 127 + (x ^ 0x7f).
    function pie_softmax
    entry a1, 32
    l32i a5, a4, 4
    movi a7, 1
    movi a8, 127
    s8i a7, a1, 0
    s8i a8, a1, 1
    addi a7, a4, 16
    addi a5, a5, -1
    slli a6, a5, 4
    add a6, a2, a6
    ee.vld.128.ip q0, a6, 0
    ee.vld.128.ip q6, a7, 16
    ee.vld.128.ip q7, a7, -16
    mov a8, a2
    ee.vld.128.ip q1, a8, 16
    ee.andq q0, q0, q6
    ee.orq q0, q0, q7
    loopgtz a5, .Ltop
    ee.vmax.s8.ld.incp q1, a8, q0, q0, q1
.Ltop:
    meet ee.vmax.s8
    meet ee.vmax.s8
    meet ee.vmax.s8
    meet ee.vmax.s8
    ee.movi.32.a q0, a8, 0
    sext a8, a8, 7
    l32i a4, a4, 0
    addi a8, a8, -127
    addx4 a4, a8, a4
    mov a8, a1
    ee.vldbc.8.ip q6, a8, 1
    ee.vldbc.8.ip q7, a8, 1
    ee.zero.accx
    loopgtz a5, .Lweights
    ee.vld.128.ip q4, a2, 16
    weights_16
    ee.vmulas.s8.accx q0, q6
    ee.vst.128.ip q0, a3, 16
.Lweights:
    ee.vld.128.ip q4, a2, 16
    ee.vld.128.ip q1, a7, 16
    ee.vld.128.ip q2, a7, -16
    ee.andq q4, q4, q1
    ee.orq q4, q4, q2
    weights_16
    ee.vld.128.ip q1, a7, 0
    nop
    ee.andq q0, q0, q1
    ee.vmulas.s8.accx q0, q6
    ee.vst.128.ip q0, a3, 16
    rur.accx_0 a2
    retw
    end_function pie_softmax

    // The next 16 of y, times 2^shift, to q0 and q1: y << 8 in 16 bits, times q7 = 2^shift, >> 8.
    .macro widened
    ee.vld.128.ip q1, a3, 16
    ee.zero.q q0
    ee.vzip.8 q0, q1
    ee.vmul.s16 q0, q0, q7
    ee.vmul.s16 q1, q1, q7
    .endm

    // a2 residual, a3 y, a4 vectors of y, a5 shift: q7 = 2^shift, SAR = 8
    .macro residual_begin
    entry a1, 32
    movi a6, 1
    ssl a5
    sll a6, a6
    s16i a6, a1, 0
    ee.vldbc.16 q7, a1
    ssai 8
    .endm

    function pie_residual_start
    residual_begin
    loopgtz a4, .Lstart
    widened
    ee.vst.128.ip q0, a2, 16
    ee.vst.128.ip q1, a2, 16
.Lstart:
    retw
    end_function pie_residual_start

    function pie_residual_add
    residual_begin
    loopgtz a4, .Ladd
    ld.qr q2, a2, 0
    ld.qr q3, a2, 16
    widened
    ee.vadds.s16 q2, q2, q0
    ee.vadds.s16 q3, q3, q1
    ee.vst.128.ip q2, a2, 16
    ee.vst.128.ip q3, a2, 16
.Ladd:
    retw
    end_function pie_residual_add

    // a2 to, a3 vectors
    function pie_clear
    entry a1, 32
    ee.zero.q q0
    loopgtz a3, .Lclear
    ee.vst.128.ip q0, a2, 16
.Lclear:
    retw
    end_function pie_clear

    // a2 to, a3 from, a4 vectors, a5 rows, a6 skip
    function pie_copy
    entry a1, 32
    srli a7, a4, 1
.Lcopy_row:
    loopgtz a7, .Lcopy
    ee.vld.128.ip q0, a3, 16
    ee.vld.128.ip q1, a3, 16
    ee.vst.128.ip q0, a2, 16
    ee.vst.128.ip q1, a2, 16
.Lcopy:
    addi a5, a5, -1
    bbci a4, 0, .Leven
    ee.vld.128.ip q0, a3, 16
    ee.vst.128.ip q0, a2, 16
.Leven:
    add a3, a3, a6
    bnez a5, .Lcopy_row
    retw
    end_function pie_copy

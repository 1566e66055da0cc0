// SPDX-License-Identifier: MIT
// Panels of trits, keys and values; and the bound of rows of queries. Contract: kernels.h.

#include "kernels.inc"

    // Decodes the vector in q0 to five, of which the last stays in q4 until the next call, and loads the next vector.
    // Digit i of a byte is (byte * 3^i mod 256) * 3 >> 8 (SPEC 2.3): first the low halves of products (SAR = 0), then
    // the high halves (SAR = 8).
    .macro digits first, last
    ssai 0
    .if \first
    ee.vmul.u8 q1, q0, q7
    .else
    ee.vmul.u8.st.incp q4, a4, q1, q0, q7
    .endif
    ee.vmul.u8 q2, q0, q6
    ee.vmul.u8 q3, q1, q6
    ee.vmul.u8 q4, q2, q6
    ssai 8
    ee.vmul.u8 q0, q0, q7
    ee.vmul.u8 q1, q1, q7
    ee.vsubs.s8 q0, q0, q5
    ee.vsubs.s8.st.incp q0, a4, q1, q1, q5
    .if \last
    ee.vmul.u8 q2, q2, q7
    .else
    ee.vmul.u8.ld.incp q0, a2, q2, q2, q7
    .endif
    ee.vmul.u8 q3, q3, q7
    ee.vsubs.s8.st.incp q1, a4, q2, q2, q5
    ee.vmul.u8 q4, q4, q7
    ee.vsubs.s8.st.incp q2, a4, q3, q3, q5
    ee.vsubs.s8.st.incp q3, a4, q4, q4, q5
    .endm

    // a2 packed, a3 vectors, a4 trits; q0..q4 digits, q5 1, q6 9, q7 3
    function pie_decode
    entry a1, 32
    movi a5, 1
    movi a6, 9
    movi a7, 3
    s8i a5, a1, 0
    s8i a6, a1, 1
    s8i a7, a1, 2
    mov a5, a1
    ee.vldbc.8.ip q5, a5, 1
    ee.vldbc.8.ip q6, a5, 1
    ee.vldbc.8.ip q7, a5, 1
    ee.vld.128.ip q0, a2, 16
    addi a3, a3, -2
    bltz a3, .Lone
    digits 1, 0
    loopgtz a3, .Lvectors
    digits 0, 0
.Lvectors:
    digits 0, 1
    ee.vst.128.ip q4, a4, 16
    retw
.Lone:
    digits 1, 1
    ee.vst.128.ip q4, a4, 16
    retw
    end_function pie_decode

    // a2 keys, a3 stride, a4 chunks of 16 bytes, a5 panel. Three rounds of zips interleave the bytes of 8 keys.
    function pie_transpose
    entry a1, 32
    movi a6, 7
    mull a6, a6, a3
    neg a6, a6
    addi a6, a6, 16
    loopgtz a4, .Lchunks
    ee.vld.128.xp q0, a2, a3
    ee.vld.128.xp q1, a2, a3
    ee.vld.128.xp q2, a2, a3
    ee.vld.128.xp q3, a2, a3
    ee.vld.128.xp q4, a2, a3
    ee.vld.128.xp q5, a2, a3
    ee.vld.128.xp q6, a2, a3
    ee.vld.128.xp q7, a2, a6
    ee.vzip.8 q0, q1
    ee.vzip.8 q2, q3
    ee.vzip.8 q4, q5
    ee.vzip.8 q6, q7
    ee.vzip.16 q0, q2
    ee.vzip.16 q1, q3
    ee.vzip.16 q4, q6
    ee.vzip.16 q5, q7
    ee.vzip.32 q0, q4
    ee.vzip.32 q2, q6
    ee.vzip.32 q1, q5
    ee.vzip.32 q3, q7
    ee.vst.l.64.ip q0, a5, 16
    ee.vst.h.64.ip q0, a5, 16
    ee.vst.l.64.ip q4, a5, 16
    ee.vst.h.64.ip q4, a5, 16
    ee.vst.l.64.ip q2, a5, 16
    ee.vst.h.64.ip q2, a5, 16
    ee.vst.l.64.ip q6, a5, 16
    ee.vst.h.64.ip q6, a5, 16
    ee.vst.l.64.ip q1, a5, 16
    ee.vst.h.64.ip q1, a5, 16
    ee.vst.l.64.ip q5, a5, 16
    ee.vst.h.64.ip q5, a5, 16
    ee.vst.l.64.ip q3, a5, 16
    ee.vst.h.64.ip q3, a5, 16
    ee.vst.l.64.ip q7, a5, 16
    ee.vst.h.64.ip q7, a5, 16
.Lchunks:
    retw
    end_function pie_transpose

    // a2 in, a3 stride, a4 rows, a5 panel
    function pie_gather
    entry a1, 32
    srli a6, a4, 1
    loopgtz a6, .Lpairs
    ee.vld.128.xp q0, a2, a3
    ee.vld.128.xp q1, a2, a3
    ee.vst.128.ip q0, a5, 16
    ee.vst.128.ip q1, a5, 16
.Lpairs:
    bbci a4, 0, .Leven
    ee.vld.128.xp q0, a2, a3
    ee.vst.128.ip q0, a5, 16
.Leven:
    retw
    end_function pie_gather

    // a2 x, a3 stride, a4 rows, a5 groups -> a2. |x| = max(x, sat8(0 - x)); ACCX sums a row.
    //   q0 x, q1 -x or |x|, q6 0, q7 1
    function pie_magnitude
    entry a1, 32
    movi a6, 1
    s8i a6, a1, 0
    ee.vldbc.8 q7, a1
    ee.zero.q q6
    movi a6, 0
.Lrow:
    mov a7, a2
    ee.zero.accx
    loopgtz a5, .Lgroups
    ee.vld.128.ip q0, a7, 16
    ee.vsubs.s8 q1, q6, q0
    ee.vmax.s8 q1, q0, q1
    ee.vmulas.s8.accx q1, q7
.Lgroups:
    add a2, a2, a3
    addi a4, a4, -1
    rur.accx_0 a7
    maxu a6, a6, a7
    bnez a4, .Lrow
    mov a2, a6
    retw
    end_function pie_magnitude

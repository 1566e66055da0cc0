// SPDX-License-Identifier: MIT
// Products of rows of int8 with a panel of 16 columns, accumulated in QACC: 16 lanes of 20 bits, one for each
// column. Contract: kernels.h.
//
// A group is 16 values of a row: 16 vsmulas, each fused with the load of the weights two products ahead, and one load
// of the next 16 values. That is 17 cycles for 256 products, without stalls.
//
//   q0 q1  weights, in turn          a3  x                a9  bytes from output to output
//   q2 q3  16 values of x, in turn   a4  panel            a10 begin
//   q4     outputs                   a5  out              a11 shift
//   q5     multipliers               a6  rows left        a12 scratch
//                                    a7  pairs of groups  a13 next weights
//                                    a8  x_skip
//
// No load goes beyond x or the panel: the last group of a row loads the first weights again, for the next row.

#include "kernels.inc"

#define X 0
#define PANEL 4
#define OUT 8
#define ROWS 12
#define GROUPS 16
#define X_SKIP 20
#define OUT_STRIDE 24
#define BEGIN 28
#define SHIFT 32
#define MULTIPLIER 36

    .macro first_14 x
    ee.vsmulas.s8.qacc.ld.incp q1, a13, q1, \x, 1
    ee.vsmulas.s8.qacc.ld.incp q0, a13, q0, \x, 2
    ee.vsmulas.s8.qacc.ld.incp q1, a13, q1, \x, 3
    ee.vsmulas.s8.qacc.ld.incp q0, a13, q0, \x, 4
    ee.vsmulas.s8.qacc.ld.incp q1, a13, q1, \x, 5
    ee.vsmulas.s8.qacc.ld.incp q0, a13, q0, \x, 6
    ee.vsmulas.s8.qacc.ld.incp q1, a13, q1, \x, 7
    ee.vsmulas.s8.qacc.ld.incp q0, a13, q0, \x, 8
    ee.vsmulas.s8.qacc.ld.incp q1, a13, q1, \x, 9
    ee.vsmulas.s8.qacc.ld.incp q0, a13, q0, \x, 10
    ee.vsmulas.s8.qacc.ld.incp q1, a13, q1, \x, 11
    ee.vsmulas.s8.qacc.ld.incp q0, a13, q0, \x, 12
    ee.vsmulas.s8.qacc.ld.incp q1, a13, q1, \x, 13
    .endm

    .macro group x, next
    ee.vsmulas.s8.qacc.ld.incp q0, a13, q0, \x, 0
    ee.vld.128.ip \next, a3, 16
    first_14 \x
    ee.vsmulas.s8.qacc.ld.incp q0, a13, q0, \x, 14
    ee.vsmulas.s8.qacc.ld.incp q1, a13, q1, \x, 15
    .endm

    .macro last_group x
    ee.vsmulas.s8.qacc.ld.incp q0, a13, q0, \x, 0
    first_14 \x
    mov a13, a4
    ee.vsmulas.s8.qacc.ld.incp q0, a13, q0, \x, 14
    ee.vsmulas.s8.qacc.ld.incp q1, a13, q1, \x, 15
    .endm

    // All rows. `finish` must not read QACC in its first instruction (a stall).
    .macro all_rows begin, finish, odd
.Lrow\@:
    ee.vld.128.ip q2, a3, 16
    \begin
    loopgtz a7, .Lpairs\@
    group q2, q3
    group q3, q2
.Lpairs\@:
    .if \odd
    last_group q2
    .else
    group q2, q3
    last_group q3
    .endif
    \finish
    bnez a6, .Lrow\@
    .endm

    .macro product name, begin, finish
    function \name
    entry a1, 32
    l32i a3, a2, X
    l32i a4, a2, PANEL
    l32i a5, a2, OUT
    l32i a6, a2, ROWS
    l32i a7, a2, GROUPS
    l32i a8, a2, X_SKIP
    l32i a9, a2, OUT_STRIDE
    l32i a10, a2, BEGIN
    l32i a11, a2, SHIFT
    l32i a12, a2, MULTIPLIER
    ssai 7
    mov a13, a4
    ee.vld.128.ip q5, a12, 0
    ee.vld.128.ip q0, a13, 16
    ee.vld.128.ip q1, a13, 16
    extui a12, a7, 0, 1
    srli a7, a7, 1
    bnez a12, .Lodd\@
    addi a7, a7, -1
    all_rows \begin, \finish, 0
    retw
.Lodd\@:
    all_rows \begin, \finish, 1
    retw
    end_function \name
    .endm

    .macro from_zero
    ee.zero.qacc
    .endm

    // `step`: bytes from the fifth word of QACC_H to the next row's accumulators.
    .macro from_memory step
    ee.ld.qacc_l.l.128.ip a10, 16
    ee.ld.qacc_h.l.128.ip a10, 16
    ee.ld.qacc_l.h.32.ip a10, 4
    ee.ld.qacc_h.h.32.ip a10, \step
    .endm

    .macro from_bias
    from_memory -36
    .endm

    .macro from_slice
    from_memory 28
    .endm

    .macro scale_by_layer
    addi a6, a6, -1
    ee.srcmb.s8.qacc q4, a11, 0
    ee.vmul.s8 q4, q4, q5
    add a3, a3, a8
    ee.vst.128.xp q4, a5, a9
    .endm

    .macro shift_only
    addi a6, a6, -1
    ee.srcmb.s8.qacc q4, a11, 0
    add a3, a3, a8
    ee.vst.128.xp q4, a5, a9
    .endm

    .macro scale_by_row
    l8ui a11, a10, 0
    addi a10, a10, 1
    ee.vldbc.8.ip q5, a10, 1
    ee.srcmb.s8.qacc q4, a11, 0
    addi a6, a6, -1
    ee.vmul.s8 q4, q4, q5
    add a3, a3, a8
    ee.vst.128.xp q4, a5, a9
    .endm

    .macro keep step
    addi a6, a6, -1
    ee.st.qacc_l.l.128.ip a5, 16
    ee.st.qacc_h.l.128.ip a5, 16
    ee.st.qacc_l.h.32.ip a5, 4
    ee.st.qacc_h.h.32.ip a5, \step
    .endm

    .macro keep_sums
    keep 4
    .endm

    .macro keep_slice
    keep 28
    add a3, a3, a8
    .endm

    product pie_linear, from_bias, scale_by_layer
    product pie_first_slice, from_bias, keep_slice
    product pie_slice, from_slice, keep_slice
    product pie_last_slice, from_slice, scale_by_layer
    product pie_scores, from_zero, shift_only
    product pie_values, from_zero, scale_by_row
    product pie_sums, from_zero, keep_sums

// Patches in a picture (kernels.h): the products of each run, without their zeros outside of it. Registers as above,
// and a2 x_next, a12 panel_skip, a14 runs left, a15 runs - 1.

#define PATCHES 12
#define REGION_GROUPS 16
#define RUNS 20
#define REGION_X_SKIP 24
#define X_NEXT 28
#define PANEL_SKIP 32
#define REGION_OUT 36
#define REGION_BEGIN 40
#define REGION_SHIFT 44
#define REGION_MULTIPLIER 48

    // The last group of a run, which is not its patch's last.
    .macro run_end x, next
    ee.vsmulas.s8.qacc.ld.incp q0, a13, q0, \x, 0
    add a3, a3, a8
    ee.vld.128.ip \next, a3, 16
    first_14 \x
    add a13, a13, a12
    ee.vsmulas.s8.qacc.ld.incp q0, a13, q0, \x, 14
    ee.vsmulas.s8.qacc.ld.incp q1, a13, q1, \x, 15
    .endm

    .macro pairs
    loopgtz a7, .Lpairs\@
    group q2, q3
    group q3, q2
.Lpairs\@:
    .endm

    .macro all_patches odd
.Lpatch\@:
    ee.vld.128.ip q2, a3, 16
    from_bias
    mov a14, a15
    beqz a15, .Llast\@
.Lrun\@:
    pairs
    addi a14, a14, -1
    .if \odd
    run_end q2, q3
    mv.qr q2, q3
    .else
    group q2, q3
    run_end q3, q2
    .endif
    bnez a14, .Lrun\@
.Llast\@:
    pairs
    .if \odd
    last_group q2
    .else
    group q2, q3
    last_group q3
    .endif
    addi a6, a6, -1
    ee.srcmb.s8.qacc q4, a11, 0
    ee.vmul.s8 q4, q4, q5
    add a3, a3, a2
    ee.vst.128.xp q4, a5, a9
    bnez a6, .Lpatch\@
    .endm

    function pie_region
    entry a1, 32
    l32i a3, a2, X
    l32i a4, a2, PANEL
    l32i a5, a2, OUT
    l32i a6, a2, PATCHES
    l32i a7, a2, REGION_GROUPS
    l32i a15, a2, RUNS
    l32i a8, a2, REGION_X_SKIP
    l32i a12, a2, REGION_MULTIPLIER
    l32i a9, a2, REGION_OUT
    l32i a10, a2, REGION_BEGIN
    l32i a11, a2, REGION_SHIFT
    ee.vld.128.ip q5, a12, 0
    l32i a12, a2, PANEL_SKIP
    l32i a2, a2, X_NEXT
    ssai 7
    addi a15, a15, -1
    mov a13, a4
    ee.vld.128.ip q0, a13, 16
    ee.vld.128.ip q1, a13, 16
    extui a14, a7, 0, 1
    srli a7, a7, 1
    bnez a14, .Lodd_groups
    addi a7, a7, -1
    all_patches 0
    retw
.Lodd_groups:
    all_patches 1
    retw
    end_function pie_region

// SPDX-License-Identifier: MIT
// int32_t dot(const int8_t *a, const int8_t *b, int32_t chunks): sum of a[k] * b[k] for k < 16 * chunks. a and b are
// aligned to 16 bytes. To experiment, change the loop; `just lx7 profile host_sim/lx7/examples/dot.c host_sim/lx7/examples/dot.S
// --function dot` shows what each instruction costs.

    .text
    .global dot
    .align 4
dot:
    entry a1, 32
    ee.zero.accx
    loopgtz a4, .Ldot_end
    ee.vld.128.ip q0, a2, 16
    ee.vld.128.ip q1, a3, 16
    ee.vmulas.s8.accx q0, q1
.Ldot_end:
    rur.accx_0 a2
    retw.n

// The same for an even number of chunks, without stalls: operands are loaded two instructions before their product.
// Reads 16 bytes beyond a and 32 beyond b.
    .global dot_without_stalls
    .align 4
dot_without_stalls:
    entry a1, 32
    ee.zero.accx
    ee.vld.128.ip q0, a2, 16
    ee.vld.128.ip q1, a3, 16
    ee.vld.128.ip q2, a3, 16
    srai a4, a4, 1
    loopgtz a4, .Lwithout_end
    ee.vmulas.s8.accx.ld.ip q0, a2, 16, q0, q1
    ee.vld.128.ip q1, a3, 16
    ee.vmulas.s8.accx.ld.ip q0, a2, 16, q0, q2
    ee.vld.128.ip q2, a3, 16
.Lwithout_end:
    rur.accx_0 a2
    retw.n

// SPDX-License-Identifier: MIT
// Exception vectors at the ESP32-S3's offsets from VECBASE. The first six spill and fill register windows. Stack
// layout of the windowed ABI: a frame's a0..a3 are below the stack pointer of the function that it called, a4 and up
// below the stack pointer of its caller.

#define VECTOR(offset, name)                                                                                           \
    .org offset;                                                                                                       \
    .type name, @function;                                                                                             \
    name:

#define SIMCALL .byte 0x00, 0x51, 0x00 // llvm-mc has no simcall
#define SIMCALL_EXIT 1
#define CAUSE_ALLOCA 5

    .section .vectors, "ax"
    .balign 1024
    .global _lx7_vectors
_lx7_vectors:

VECTOR(0x000, _lx7_overflow4)
    s32e a0, a5, -16
    s32e a1, a5, -12
    s32e a2, a5, -8
    s32e a3, a5, -4
    rfwo

VECTOR(0x040, _lx7_underflow4)
    l32e a0, a5, -16
    l32e a1, a5, -12
    l32e a2, a5, -8
    l32e a3, a5, -4
    rfwu

VECTOR(0x080, _lx7_overflow8)
    s32e a0, a9, -16
    l32e a0, a1, -12
    s32e a1, a9, -12
    s32e a2, a9, -8
    s32e a3, a9, -4
    s32e a4, a0, -32
    s32e a5, a0, -28
    s32e a6, a0, -24
    s32e a7, a0, -20
    rfwo

VECTOR(0x0c0, _lx7_underflow8)
    l32e a0, a9, -16
    l32e a1, a9, -12
    l32e a2, a9, -8
    l32e a3, a9, -4
    l32e a7, a1, -12
    l32e a4, a7, -32
    l32e a5, a7, -28
    l32e a6, a7, -24
    l32e a7, a7, -20
    rfwu

VECTOR(0x100, _lx7_overflow12)
    s32e a0, a13, -16
    l32e a0, a1, -12
    s32e a1, a13, -12
    s32e a2, a13, -8
    s32e a3, a13, -4
    s32e a4, a0, -48
    s32e a5, a0, -44
    s32e a6, a0, -40
    s32e a7, a0, -36
    s32e a8, a0, -32
    s32e a9, a0, -28
    s32e a10, a0, -24
    s32e a11, a0, -20
    rfwo

VECTOR(0x140, _lx7_underflow12)
    l32e a0, a13, -16
    l32e a1, a13, -12
    l32e a2, a13, -8
    l32e a3, a13, -4
    l32e a11, a1, -12
    l32e a4, a11, -48
    l32e a5, a11, -44
    l32e a6, a11, -40
    l32e a7, a11, -36
    l32e a8, a11, -32
    l32e a9, a11, -28
    l32e a10, a11, -24
    l32e a11, a11, -20
    rfwu

VECTOR(0x300, _lx7_kernel_exception)
    j _lx7_user_exception

// Alloca exception: movsp in a frame whose caller's registers are spilled. Fills them as retw would; then movsp runs
// again. Every other exception ends the program with status 128 + EXCCAUSE.
VECTOR(0x340, _lx7_user_exception)
    wsr.excsave1 a0
    rsr.exccause a0
    beqi a0, CAUSE_ALLOCA, alloca
    movi a3, 128
    add a3, a3, a0
    movi a2, SIMCALL_EXIT
    SIMCALL
alloca:
    // The caller's window is empty, so the window before this one is free; a0 becomes a4.
    rsr.windowbase a0
    rotw -1
    rsr.ps a2
    extui a3, a2, 8, 4 // set PS.OWB, to which rfwu returns, to this frame
    xor a3, a3, a4
    slli a3, a3, 8
    xor a2, a2, a3
    wsr.ps a2
    rsync
    rsr.excsave1 a4
    // The top bits of a return address hold the distance to the caller's window, in units of 4 registers.
    bbsi a4, 31, 1f
    j _lx7_underflow4
1:  rotw -1
    bbsi a8, 30, 2f
    j _lx7_underflow8
2:  rotw -1
    j _lx7_underflow12

    .org 0x400

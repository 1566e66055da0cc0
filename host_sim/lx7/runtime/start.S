// SPDX-License-Identifier: MIT
// Start of a program: sets up registers and stack, zeroes .bss, calls main(0, NULL) and exits with its result.

#define PS_WOE (1 << 18) // windowed calls, interrupts off
#define PS_UM (1 << 5)
#define FRAME 64
#define ALL_COPROCESSORS 0xff

    .text
    .weak main
    .global _start
    .type _start, @function
_start:
    movi a0, 0
    wsr.windowbase a0
    rsync
    movi a0, 1
    wsr.windowstart a0
    rsync
    movi a0, _lx7_vectors
    wsr.vecbase a0
    movi a0, ALL_COPROCESSORS
    wsr.cpenable a0
    movi a0, 0
    wsr.lcount a0
    movi a2, PS_WOE | PS_UM
    wsr.ps a2
    rsync

    // This frame has no caller, but a window overflow stores a4 and up below the caller's stack pointer.
    movi a2, _lx7_stack_top
    movi a1, -FRAME
    add a1, a2, a1
    addi a3, a1, -12
    s32i a2, a3, 0

    movi a2, _lx7_bss_start
    movi a3, _lx7_bss_end
    bgeu a2, a3, 2f
1:  s32i a0, a2, 0
    addi a2, a2, 4
    bltu a2, a3, 1b

2:  movi a8, main
    beqz a8, no_main
    movi a10, 0
    movi a11, 0
    callx8 a8
    call8 lx7_exit
no_main:
    movi a10, message
    call8 lx7_write
    movi a10, 1
    call8 lx7_exit
    .size _start, .-_start

    // Arguments are already where a simcall expects them: a2 the number, a3..a5; the result is in a2.
    .balign 4
    .global lx7_simcall
    .type lx7_simcall, @function
lx7_simcall:
    entry a1, 32
    .byte 0x00, 0x51, 0x00 // simcall, which llvm-mc does not have
    retw
    .size lx7_simcall, .-lx7_simcall

    .section .rodata
message:
    .asciz "this program has no main\n"

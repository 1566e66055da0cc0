// SPDX-License-Identifier: MIT
// MicroPython's unix port as the esp32 port is: a heap that has areas, threads under a global lock.

#define MICROPY_CONFIG_ROM_LEVEL (MICROPY_CONFIG_ROM_LEVEL_EXTRA_FEATURES)
#define MICROPY_DEBUG_PRINTERS (1) // main.c
#define MICROPY_FLOAT_IMPL (MICROPY_FLOAT_IMPL_DOUBLE)
#define MICROPY_EMIT_X64 (0)
#define MICROPY_EMIT_ARM (0)
#define MICROPY_EMIT_THUMB (0)
#define MICROPY_GC_SPLIT_HEAP (1)
#define MICROPY_GC_SPLIT_HEAP_AUTO (1)
#undef MICROPY_PY_THREAD_GIL // Makefile
#define MICROPY_PY_THREAD_GIL (1)
#define MICROPY_PY_THREAD_RECURSIVE_MUTEX (1) // mpthreadport.c
#define MICROPY_PY_THREAD_GIL_VM_DIVISOR (32)

#include <stdlib.h> // py/gc.c

// heap/heap.c
#define TERNARY_ARENA_HEAP
void ternary_heap_give(void *memory);
#define MP_PLAT_FREE_HEAP(memory) ternary_heap_give(memory)

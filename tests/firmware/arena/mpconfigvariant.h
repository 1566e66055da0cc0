// SPDX-License-Identifier: MIT
// MicroPython's unix port configured like the esp32 port: a split heap, threads with a GIL.

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

// As malloc and free are ESP-IDF's on the chip: heap/chip_heap.c.
void heap_caps_free(void *ptr);
#define MP_PLAT_FREE_HEAP(memory) heap_caps_free(memory)

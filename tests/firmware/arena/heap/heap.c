// SPDX-License-Identifier: MIT
// A heap of HEAP_SIZE bytes for arenas (mpy_module/modternary.c), and the module `heap`: count() returns the
// number of allocated blocks; reset() does a board's soft reset, prints the result and ends the process.

#include <stdlib.h>
#include <string.h>

#include "py/gc.h"
#include "py/runtime.h"

#include "parallel.h"

enum { HEAP_SIZE = 1 << 20, MAX_BLOCKS = 64 };

static struct {
    uint8_t *memory;
    size_t size;
} blocks[MAX_BLOCKS];

static size_t taken(void) {
    size_t sum = 0;
    for (size_t i = 0; i < MAX_BLOCKS; i++) {
        sum += blocks[i].memory ? blocks[i].size : 0;
    }
    return sum;
}

static size_t count(void) {
    size_t number = 0;
    for (size_t i = 0; i < MAX_BLOCKS; i++) {
        number += blocks[i].memory != NULL;
    }
    return number;
}

void *ternary_heap_take(size_t alignment, size_t size) {
    for (size_t i = 0; i < MAX_BLOCKS; i++) {
        if (blocks[i].memory == NULL && size <= HEAP_SIZE - taken()) {
            void *memory;
            if (posix_memalign(&memory, alignment, size) != 0) {
                return NULL;
            }
            memset(memory, 0xa5, size);
            blocks[i].memory = memory;
            blocks[i].size = size;
            return memory;
        }
    }
    return NULL;
}

size_t ternary_heap_largest(void) {
    return HEAP_SIZE - taken();
}

// Overwrites freed memory, so that a remaining view is noticed.
void ternary_heap_give(void *memory) {
    for (size_t i = 0; i < MAX_BLOCKS; i++) {
        if (blocks[i].memory == memory) {
            memset(memory, 0x5a, blocks[i].size);
            free(memory);
            blocks[i].memory = NULL;
            return;
        }
    }
    abort();
}

// Python's own heap does not grow.
size_t gc_get_max_new_split(void) {
    return 0;
}

static mp_obj_t heap_count(void) {
    return mp_obj_new_int((mp_int_t)count());
}
static MP_DEFINE_CONST_FUN_OBJ_0(heap_count_obj, heap_count);

// The steps of a soft reset in ports/esp32/main.c.
static mp_obj_t heap_reset(void) {
    static size_t memory[1 << 14];
    gc_sweep_all();
    mp_printf(&mp_plat_print, "after reset: %d blocks", (int)count());
    mp_deinit();
    gc_init(memory, memory + MP_ARRAY_SIZE(memory));
    mp_init();
    mp_import_name(MP_QSTR_ternary, mp_const_none, MP_OBJ_NEW_SMALL_INT(0));
    mp_printf(&mp_plat_print, ", %d cores\n", (int)ternary_cores());
    exit(0);
}
static MP_DEFINE_CONST_FUN_OBJ_0(heap_reset_obj, heap_reset);

static const mp_rom_map_elem_t heap_globals_table[] = {
    {MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR_heap)},
    {MP_ROM_QSTR(MP_QSTR_count), MP_ROM_PTR(&heap_count_obj)},
    {MP_ROM_QSTR(MP_QSTR_reset), MP_ROM_PTR(&heap_reset_obj)},
    {MP_ROM_QSTR(MP_QSTR_SIZE), MP_ROM_INT(HEAP_SIZE)},
};
static MP_DEFINE_CONST_DICT(heap_globals, heap_globals_table);

const mp_obj_module_t heap_module = {
    .base = {&mp_type_module},
    .globals = (mp_obj_dict_t *)&heap_globals,
};

MP_REGISTER_MODULE(MP_QSTR_heap, heap_module);

// SPDX-License-Identifier: MIT
// The module `heap`: what the chip's heap (chip_heap.h) has and who else takes of it; and reset(), which does
// what a soft reset of a board does, prints and ends the process.

#include <stdlib.h>

#include "py/gc.h"
#include "py/runtime.h"

#include "chip_heap.h"
#include "parallel.h"

enum { INTERNAL = MALLOC_CAP_INTERNAL | MALLOC_CAP_8BIT };

// Python's own heap does not grow.
size_t gc_get_max_new_split(void) {
    return 0;
}

// Blocks that are taken.
static mp_obj_t heap_count(void) {
    return mp_obj_new_int((mp_int_t)chip_heap_blocks());
}
static MP_DEFINE_CONST_FUN_OBJ_0(heap_count_obj, heap_count);

// What ESP-IDF reports: the largest free block, and the sum of free bytes.
static mp_obj_t heap_largest(void) {
    return mp_obj_new_int((mp_int_t)heap_caps_get_largest_free_block(INTERNAL));
}
static MP_DEFINE_CONST_FUN_OBJ_0(heap_largest_obj, heap_largest);

static mp_obj_t heap_free(void) {
    return mp_obj_new_int((mp_int_t)heap_caps_get_free_size(INTERNAL));
}
static MP_DEFINE_CONST_FUN_OBJ_0(heap_free_obj, heap_free);

// A list of (free, largest) of each region.
static mp_obj_t heap_regions(void) {
    mp_obj_t list = mp_obj_new_list(0, NULL);
    for (size_t i = 0; i < chip_heap_regions(); i++) {
        mp_obj_t sizes[] = {mp_obj_new_int((mp_int_t)chip_heap_free(i)),
                            mp_obj_new_int((mp_int_t)chip_heap_largest(i))};
        mp_obj_list_append(list, mp_obj_new_tuple(2, sizes));
    }
    return list;
}
static MP_DEFINE_CONST_FUN_OBJ_0(heap_regions_obj, heap_regions);

// Forgets all regions. Nobody may have a block.
static mp_obj_t heap_clear(void) {
    chip_heap_clear();
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_0(heap_clear_obj, heap_clear);

// Adds a region of so many bytes, in one block but for its header; returns whether there is room for it.
static mp_obj_t heap_add(mp_obj_t size) {
    size_t bytes = (size_t)mp_obj_get_int(size);
    return mp_obj_new_bool(chip_heap_add(bytes, bytes - 4, INTERNAL) == 0);
}
static MP_DEFINE_CONST_FUN_OBJ_1(heap_add_obj, heap_add);

// Takes a block as Wi-Fi or a camera would; returns its address, or None.
static mp_obj_t heap_take(mp_obj_t size) {
    void *memory = heap_caps_malloc((size_t)mp_obj_get_int(size), INTERNAL);
    return memory ? mp_obj_new_int((mp_int_t)memory) : mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_1(heap_take_obj, heap_take);

static mp_obj_t heap_give(mp_obj_t address) {
    heap_caps_free((void *)(uintptr_t)mp_obj_get_int(address));
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_1(heap_give_obj, heap_give);

// As ports/esp32/main.c goes from one life to the next.
static mp_obj_t heap_reset(void) {
    static size_t memory[1 << 14];
    gc_sweep_all();
    mp_printf(&mp_plat_print, "after reset: %d blocks", (int)chip_heap_blocks());
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
    {MP_ROM_QSTR(MP_QSTR_largest), MP_ROM_PTR(&heap_largest_obj)},
    {MP_ROM_QSTR(MP_QSTR_free), MP_ROM_PTR(&heap_free_obj)},
    {MP_ROM_QSTR(MP_QSTR_regions), MP_ROM_PTR(&heap_regions_obj)},
    {MP_ROM_QSTR(MP_QSTR_clear), MP_ROM_PTR(&heap_clear_obj)},
    {MP_ROM_QSTR(MP_QSTR_add), MP_ROM_PTR(&heap_add_obj)},
    {MP_ROM_QSTR(MP_QSTR_take), MP_ROM_PTR(&heap_take_obj)},
    {MP_ROM_QSTR(MP_QSTR_give), MP_ROM_PTR(&heap_give_obj)},
    {MP_ROM_QSTR(MP_QSTR_reset), MP_ROM_PTR(&heap_reset_obj)},
};
static MP_DEFINE_CONST_DICT(heap_globals, heap_globals_table);

const mp_obj_module_t heap_module = {
    .base = {&mp_type_module},
    .globals = (mp_obj_dict_t *)&heap_globals,
};

MP_REGISTER_MODULE(MP_QSTR_heap, heap_module);

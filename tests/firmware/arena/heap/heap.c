// SPDX-License-Identifier: MIT
// A stand-in for ESP-IDF's heap of internal memory, for arenas (mpy_module/modternary.c): spans of free
// memory in some regions, at first one of HEAP_SIZE bytes. As the chip's allocator does, it looks for a block
// among those that are a sixteenth larger, and takes the first region that has one.
//
// The module `heap`: count() of the blocks that are taken; regions([[bytes, ..], ..]), which sets the spans
// of each region; take(bytes), memory that somebody else keeps; largest(), the bytes of the largest block
// that can be had; and reset(), which does what a soft reset of a board does, prints and ends the process.

#include <stdlib.h>
#include <string.h>

#include "py/gc.h"
#include "py/runtime.h"

#include "parallel.h"

enum { HEAP_SIZE = 1 << 20, MAX_BLOCKS = 64, MAX_SPANS = 8, BLOCK_HEADER = 16 };

static struct {
    size_t region, size;
} spans[MAX_SPANS] = {{0, HEAP_SIZE}};
static size_t span_count = 1;

static struct {
    uint8_t *memory;
    size_t span, start, size; // with its header
} blocks[MAX_BLOCKS];

static size_t count(void) {
    size_t number = 0;
    for (size_t i = 0; i < MAX_BLOCKS; i++) {
        number += blocks[i].memory != NULL;
    }
    return number;
}

// Where the first gap of at least `size` bytes begins, or the largest if there is none; its bytes.
static size_t gap(size_t span, size_t size, size_t *start) {
    size_t largest = 0, from = 0;
    while (from < spans[span].size) {
        size_t end = spans[span].size, next = end;
        for (size_t i = 0; i < MAX_BLOCKS; i++) {
            if (blocks[i].memory && blocks[i].span == span && blocks[i].start >= from &&
                blocks[i].start < end) {
                end = blocks[i].start;
                next = end + blocks[i].size;
            }
        }
        if (end - from > largest) {
            largest = end - from;
            *start = from;
            if (largest >= size) {
                break;
            }
        }
        from = next;
    }
    return largest;
}

static size_t step(size_t size) {
    size_t unit = 1;
    while (size / unit >= 32) {
        unit *= 2;
    }
    return unit;
}

void *ternary_heap_take(size_t alignment, size_t size) {
    size_t asked = size + (alignment > sizeof(void *) ? alignment + BLOCK_HEADER : 0);
    asked = (asked + step(asked) - 1) / step(asked) * step(asked);
    for (size_t span = 0; span < span_count; span++) {
        size_t start, found = gap(span, asked, &start);
        for (size_t i = 0; i < MAX_BLOCKS && found >= asked; i++) {
            if (blocks[i].memory == NULL) {
                void *memory;
                if (posix_memalign(&memory, alignment, size) != 0) {
                    return NULL;
                }
                memset(memory, 0xa5, size);
                blocks[i].memory = memory;
                blocks[i].span = span;
                blocks[i].start = start;
                blocks[i].size = MIN(found, (size + BLOCK_HEADER + 15) / 16 * 16);
                return memory;
            }
        }
    }
    return NULL;
}

size_t ternary_heap_largest(void) {
    size_t largest = 0, start;
    for (size_t span = 0; span < span_count; span++) {
        largest = MAX(largest, gap(span, SIZE_MAX, &start));
    }
    return largest / step(largest) * step(largest);
}

size_t ternary_heap_regions(size_t *largest, size_t most) {
    size_t regions = 0, start;
    for (size_t span = 0; span < span_count && spans[span].region < most; span++) {
        size_t region = spans[span].region, found = gap(span, SIZE_MAX, &start);
        largest[region] = region < regions ? MAX(largest[region], found) : found;
        regions = region + 1;
    }
    return regions;
}

// Overwrites what it takes back: a view of it would show that.
void ternary_heap_give(void *memory) {
    for (size_t i = 0; i < MAX_BLOCKS; i++) {
        if (blocks[i].memory == memory) {
            memset(memory, 0x5a, blocks[i].size - BLOCK_HEADER);
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

static mp_obj_t heap_regions(mp_obj_t regions) {
    size_t region_count, size_count;
    mp_obj_t *items, *sizes;
    mp_obj_get_array(regions, &region_count, &items);
    span_count = 0;
    for (size_t region = 0; region < region_count; region++) {
        mp_obj_get_array(items[region], &size_count, &sizes);
        for (size_t i = 0; i < size_count && span_count < MAX_SPANS; i++) {
            spans[span_count].region = region;
            spans[span_count++].size = (size_t)mp_obj_get_int(sizes[i]);
        }
    }
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_1(heap_regions_obj, heap_regions);

static mp_obj_t heap_take(mp_obj_t size) {
    if (ternary_heap_take(sizeof(void *), (size_t)mp_obj_get_int(size)) == NULL) {
        mp_raise_type(&mp_type_MemoryError);
    }
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_1(heap_take_obj, heap_take);

static mp_obj_t heap_largest(void) {
    return mp_obj_new_int((mp_int_t)ternary_heap_largest());
}
static MP_DEFINE_CONST_FUN_OBJ_0(heap_largest_obj, heap_largest);

// As ports/esp32/main.c goes from one life to the next.
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
    {MP_ROM_QSTR(MP_QSTR_largest), MP_ROM_PTR(&heap_largest_obj)},
    {MP_ROM_QSTR(MP_QSTR_regions), MP_ROM_PTR(&heap_regions_obj)},
    {MP_ROM_QSTR(MP_QSTR_take), MP_ROM_PTR(&heap_take_obj)},
    {MP_ROM_QSTR(MP_QSTR_reset), MP_ROM_PTR(&heap_reset_obj)},
    {MP_ROM_QSTR(MP_QSTR_SIZE), MP_ROM_INT(HEAP_SIZE)},
};
static MP_DEFINE_CONST_DICT(heap_globals, heap_globals_table);

const mp_obj_module_t heap_module = {
    .base = {&mp_type_module},
    .globals = (mp_obj_dict_t *)&heap_globals,
};

MP_REGISTER_MODULE(MP_QSTR_heap, heap_module);

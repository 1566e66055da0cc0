// SPDX-License-Identifier: MIT
// MicroPython's module `ternary`: converts Python objects, calls ternary_call, raises exceptions. Contains no
// code for single operations.

#include <string.h>

#include "py/binary.h"
#include "py/gc.h"
#include "py/mpthread.h"
#include "py/objarray.h"
#include "py/objstr.h"
#include "py/runtime.h"

// ESP-IDF's own ESP_PLATFORM reaches only its components: micropython.cmake says why.
#ifdef TERNARY_ESP32
#include "esp_heap_caps.h"
#elif defined(CONFIG_IDF_TARGET) && !defined(NO_QSTR)
#error "build for ESP-IDF with micropython.cmake, which defines TERNARY_ESP32"
#endif

#include "operations.h"
#include "parallel.h"

// Room for the arguments of any operation, checked at compile time.
enum { MAX_PARAMETERS = 13 };
#define NOTHING(name, type, use)
#define FITS(name, has_result, doc, parameters)                                                              \
    typedef char                                                                                             \
        name##_fits[sizeof(ternary_##name##_arguments) <= MAX_PARAMETERS * sizeof(ternary_arg) ? 1 : -1];
TERNARY_OPERATIONS(FITS, NOTHING)

typedef struct {
    mp_obj_base_t base;
    const ternary_operation *operation;
} operation_obj_t;

static __attribute__((noreturn)) void raise_error(const ternary_operation *operation,
                                                  const ternary_arg *arguments, const ternary_error *error) {
    const mp_obj_type_t *type = error->code <= TERNARY_ERR_COUNT    ? &mp_type_TypeError
                                : error->code == TERNARY_ERR_MEMORY ? &mp_type_MemoryError
                                                                    : &mp_type_ValueError;
    char text[TERNARY_MESSAGE_SIZE];
    ternary_error_message(operation, arguments, error, text, sizeof(text));
    mp_raise_msg_varg(type, MP_ERROR_TEXT("%s"), text);
}

static __attribute__((noreturn)) void raise_code(const ternary_operation *operation,
                                                 const ternary_arg *arguments, size_t index, int32_t code) {
    ternary_error error = {.code = code, .argument = arguments + index};
    raise_error(operation, arguments, &error);
}

static void check_count(const ternary_operation *operation, size_t given, size_t low) {
    if (given < low || given > operation->parameter_count) {
        ternary_error error = {.code = TERNARY_ERR_COUNT, .value = (int32_t)given};
        raise_error(operation, NULL, &error);
    }
}

static void fill_number(const ternary_operation *operation, ternary_arg *arguments, size_t index,
                        mp_obj_t object) {
    if (!mp_obj_is_int(object) && !mp_obj_is_bool(object)) {
        raise_code(operation, arguments, index, TERNARY_ERR_TYPE);
    }
    // Where small ints have 31 bits, a big int may still fit int32: it does if conversion loses nothing.
    mp_int_t number = mp_obj_is_int(object) ? mp_obj_int_get_truncated(object) : mp_obj_get_int(object);
    bool lost = mp_obj_is_int(object) && !mp_obj_equal(mp_obj_new_int(number), object);
    if (lost || number != (int32_t)number) {
        raise_code(operation, arguments, index, TERNARY_ERR_RANGE);
    }
    arguments[index].value = (int32_t)number;
}

static void fill_buffer(const ternary_operation *operation, ternary_arg *arguments, size_t index,
                        mp_obj_t object) {
    const ternary_parameter *parameter = operation->parameters + index;
    mp_buffer_info_t buffer;
    // MicroPython reads a str as a buffer, CPython does not.
    if (mp_obj_is_str(object) || !mp_get_buffer(object, &buffer, MP_BUFFER_READ)) {
        raise_code(operation, arguments, index, TERNARY_ERR_TYPE);
    }
    int typecode = buffer.typecode == BYTEARRAY_TYPECODE ? 'B' : buffer.typecode;
    size_t item_size = typecode == 'h'   ? sizeof(short)
                       : typecode == 'i' ? sizeof(int)
                       : typecode == 'l' ? sizeof(long)
                                         : 1;
    if (!ternary_accepts(parameter->type, typecode, item_size)) {
        raise_code(operation, arguments, index, TERNARY_ERR_TYPE);
    }
    if (parameter->use != TERNARY_IN && !mp_get_buffer(object, &buffer, MP_BUFFER_WRITE)) {
        raise_code(operation, arguments, index, TERNARY_ERR_READONLY);
    }
    arguments[index].data = buffer.buf;
    arguments[index].size = buffer.len;
}

static mp_obj_t operation_call(mp_obj_t self, size_t count, size_t keywords, const mp_obj_t *objects) {
    const ternary_operation *operation = ((const operation_obj_t *)MP_OBJ_TO_PTR(self))->operation;
    mp_arg_check_num(count, keywords, 0, MP_OBJ_FUN_ARGS_MAX, false); // refuses keywords
    check_count(operation, count, operation->parameter_count);
    ternary_arg arguments[MAX_PARAMETERS];
    memset(arguments, 0, sizeof(arguments));
    for (size_t i = 0; i < count; i++) {
        if (operation->parameters[i].type == TERNARY_INT) {
            fill_number(operation, arguments, i, objects[i]);
        } else {
            fill_buffer(operation, arguments, i, objects[i]);
        }
    }
    ternary_error error;
    // Other Python threads run meanwhile. `objects` keeps the buffers alive; the caller must not resize one
    // (bytearray.extend).
    MP_THREAD_GIL_EXIT();
    int32_t result = ternary_call(operation, arguments, &error);
    MP_THREAD_GIL_ENTER();
    if (result < 0) {
        raise_error(operation, arguments, &error);
    }
    return operation->has_result ? mp_obj_new_int(result) : mp_const_none;
}

static void operation_print(const mp_print_t *print, mp_obj_t self, mp_print_kind_t kind) {
    const ternary_operation *operation = ((const operation_obj_t *)MP_OBJ_TO_PTR(self))->operation;
    char text[TERNARY_MESSAGE_SIZE];
    ternary_signature(operation, text, sizeof(text));
    if (kind == PRINT_STR) { // help(ternary) prints members this way
        mp_printf(print, "%s: %s", text, operation->doc);
    } else {
        mp_printf(print, "<function ternary.%s>", text);
    }
}

static void operation_attr(mp_obj_t self, qstr attribute, mp_obj_t *destination) {
    const ternary_operation *operation = ((const operation_obj_t *)MP_OBJ_TO_PTR(self))->operation;
    const char *text = attribute == MP_QSTR___name__  ? operation->name
                       : attribute == MP_QSTR___doc__ ? operation->doc
                                                      : NULL;
    if (destination[0] == MP_OBJ_NULL && text) {
        destination[0] = mp_obj_new_str(text, strlen(text));
    }
}

static MP_DEFINE_CONST_OBJ_TYPE(operation_type, MP_QSTR_function, MP_TYPE_FLAG_NONE, call, operation_call,
                                print, operation_print, attr, operation_attr);

static size_t heap_largest(void) {
    gc_info_t info;
    gc_info(&info);
    return info.max_free * MICROPY_BYTES_PER_GC_BLOCK;
}

#ifdef TERNARY_ESP32
// Arenas lie outside MicroPython's heap, in internal memory, which is far faster than the PSRAM that the heap
// grows into. MP_PLAT_FREE_HEAP takes it back.
//
// A memoryview and all that is sliced from it point at the first byte of what they show, and the garbage
// collector follows that pointer alone. So an arena is made a heap area (gc_add) whose first bytes are an
// object like any other: the collector marks it while a view is left, and returns an area without objects
// (MICROPY_GC_SPLIT_HEAP_AUTO), also on a soft reset. The area ends after the four blocks that its smallest
// table describes: neither is the rest of the arena searched for pointers, nor anything else put there.
//
//     mp_state_mem_area_t, tables | four blocks: one object | rest
//                                 ^ the arena, on a multiple of a block
#if !MICROPY_GC_SPLIT_HEAP_AUTO
#error "arenas outside MicroPython's heap need MICROPY_GC_SPLIT_HEAP_AUTO"
#endif

enum {
    BLOCK = MICROPY_BYTES_PER_GC_BLOCK,
    AREA_BLOCKS = 4,
    TABLES = 3, // bytes: allocations, a gap, finalisers
    HEADER = (sizeof(mp_state_mem_area_t) + TABLES + BLOCK - 1) / BLOCK * BLOCK,
    // py/gc.c: two bits a block, that of the lowest address first; 1 begins an object, 2 continues it.
    ONE_OBJECT = 2 << 6 | 2 << 4 | 2 << 2 | 1,
};
typedef char blocks_are_aligned[BLOCK % TERNARY_LANES ? -1 : 1];

enum { INTERNAL = MALLOC_CAP_INTERNAL | MALLOC_CAP_8BIT, MAX_REGIONS = 8 };

typedef struct {
    size_t largest[MAX_REGIONS], count; // largest: free block of each region
    intptr_t start;                     // of the region that was met last
} regions_t;

static bool note_block(walker_heap_into_t region, walker_block_info_t block, void *data) {
    regions_t *regions = data;
    if (regions->count == 0 || regions->start != region.start) {
        if (regions->count == MAX_REGIONS) {
            return false;
        }
        regions->start = region.start;
        regions->largest[regions->count++] = 0;
    }
    size_t *largest = regions->largest + regions->count - 1;
    *largest = block.used ? *largest : MAX(*largest, block.size);
    return true;
}

// While it looks for memory it holds a block of the size to be left free, so that such a block remains
// wherever the memory comes from.
static void *take_beside(size_t whole, size_t leave) {
    void *left = leave ? heap_caps_malloc(leave, INTERNAL) : NULL;
    void *memory = leave && left == NULL ? NULL : heap_caps_aligned_alloc(BLOCK, whole, INTERNAL);
    heap_caps_free(left);
    return memory;
}

static void *arena_memory(size_t size, size_t leave) {
    size_t whole = HEADER + MAX(size, (size_t)AREA_BLOCKS * BLOCK);
    uint8_t *memory = take_beside(whole, leave);
    if (memory == NULL) {
        gc_collect(); // arenas without views
        memory = take_beside(whole, leave);
    }
    if (memory == NULL) {
        return NULL;
    }
    uint8_t *object = memory + HEADER;
    gc_add(memory, object + AREA_BLOCKS * BLOCK);
    mp_state_mem_area_t *area = (mp_state_mem_area_t *)memory;
    area->gc_alloc_table_start[0] = ONE_OBJECT;
    area->gc_last_used_block = AREA_BLOCKS - 1;
    area->gc_last_free_atb_index = 1;
    if (area->gc_pool_start != object || gc_nbytes(object) != AREA_BLOCKS * BLOCK) {
        mp_raise_NotImplementedError(MP_ERROR_TEXT("arena: this MicroPython has another kind of heap"));
    }
    return object;
}

// ESP-IDF cuts an aligned block out of one that also has room for the alignment and for a smallest block of
// 16 bytes.
static size_t arena_largest(void) {
    size_t largest = heap_caps_get_largest_free_block(INTERNAL) / BLOCK * BLOCK;
    return largest > HEADER + 2 * BLOCK ? largest - HEADER - 2 * BLOCK : 0;
}

static mp_obj_t internal(void) {
    regions_t regions = {.count = 0};
    heap_caps_walk(INTERNAL, note_block, &regions);
    mp_obj_t list = mp_obj_new_list(0, NULL);
    for (size_t i = 0; i < regions.count; i++) {
        mp_obj_list_append(list, mp_obj_new_int_from_uint(regions.largest[i]));
    }
    return list;
}
#else
static void *arena_memory(size_t size, size_t leave) {
    (void)leave;
    return m_malloc_maybe(size);
}

static size_t arena_largest(void) {
    return heap_largest();
}

static mp_obj_t internal(void) {
    return mp_const_none;
}
#endif
static MP_DEFINE_CONST_FUN_OBJ_0(internal_obj, internal);

// What `arena` and `heap` have in common. MicroPython's heap has blocks that begin on multiples of 16 on the
// ports that we know.
static mp_obj_t new_memory(const ternary_operation *operation, size_t count, const mp_obj_t *objects) {
    ternary_arg arguments[3] = {{0}, {.value = 'b'}, {0}};
    check_count(operation, count, 1);
    fill_number(operation, arguments, 0, objects[0]);
    if (count > 1) {
        size_t length = 0;
        const char *typecode = mp_obj_is_str(objects[1]) ? mp_obj_str_get_data(objects[1], &length) : "";
        arguments[1].value = length == 1 ? typecode[0] : 0;
    }
    if (count > 2) {
        fill_number(operation, arguments, 2, objects[2]);
    }
    ternary_error error;
    int32_t unit = ternary_call(operation, arguments, &error);
    if (unit < 0) {
        raise_error(operation, arguments, &error);
    }
    size_t size = (size_t)arguments[0].value;
    bool inside = operation == ternary_arena;
    void *memory = inside ? arena_memory(size, (size_t)arguments[2].value) : m_malloc_maybe(size);
    if (memory == NULL || (uintptr_t)memory % TERNARY_LANES) {
        error.code = TERNARY_ERR_MEMORY;
        error.argument = arguments;
        error.value = arguments[2].value;
        error.needed = inside ? arena_largest() : heap_largest();
        raise_error(operation, arguments, &error);
    }
    memset(memory, 0, size);
    byte typecode = (byte)(arguments[1].value | MP_OBJ_ARRAY_TYPECODE_FLAG_RW);
    return mp_obj_new_memoryview(typecode, size / (size_t)unit, memory);
}

static mp_obj_t arena(size_t count, const mp_obj_t *objects) {
    return new_memory(ternary_arena, count, objects);
}
static MP_DEFINE_CONST_FUN_OBJ_VAR(arena_obj, 0, arena);

static mp_obj_t heap(size_t count, const mp_obj_t *objects) {
    return new_memory(ternary_heap, count, objects);
}
static MP_DEFINE_CONST_FUN_OBJ_VAR(heap_obj, 0, heap);

// Chooses a backend by name.
static mp_obj_t use(size_t count, const mp_obj_t *objects) {
    ternary_arg arguments[1] = {{0}};
    check_count(ternary_use_function, count, 1);
    if (!mp_obj_is_str(objects[0])) {
        raise_code(ternary_use_function, arguments, 0, TERNARY_ERR_TYPE);
    }
    size_t length;
    const char *wanted = mp_obj_str_get_data(objects[0], &length);
    for (size_t number = 0; ternary_backend_name(number); number++) {
        const char *name = ternary_backend_name(number);
        if (strlen(name) == length && memcmp(name, wanted, length) == 0) {
            ternary_use_backend(number);
            return mp_const_none;
        }
    }
    vstr_t text;
    vstr_init(&text, 64);
    for (size_t number = 0; ternary_backend_name(number); number++) {
        vstr_add_str(&text, number ? ", " : "");
        vstr_add_str(&text, ternary_backend_name(number));
    }
    mp_raise_msg_varg(&mp_type_ValueError, MP_ERROR_TEXT("use: name is not one of %s"),
                      vstr_null_terminated_str(&text));
}
static MP_DEFINE_CONST_FUN_OBJ_VAR(use_obj, 0, use);

// Number of cores that operations use; with an argument, sets it first.
static mp_obj_t cores(size_t count, const mp_obj_t *objects) {
    ternary_arg arguments[1] = {{0}};
    check_count(ternary_cores_function, count, 0);
    if (count) {
        fill_number(ternary_cores_function, arguments, 0, objects[0]);
    }
    return mp_obj_new_int(count ? ternary_use_cores(arguments[0].value) : ternary_cores());
}
static MP_DEFINE_CONST_FUN_OBJ_VAR(cores_obj, 0, cores);

// help(ternary) for the functions that are not operations.
static const MP_DEFINE_STR_OBJ(
    doc_obj, "Integer kernels of fully ternary vision transformers.\n"
             "    arena(bytes, typecode='b', leave=0): zeroed memory aligned to 16 bytes, as a memoryview of "
             "typecode b, B, h or i; on an ESP32-S3 internal memory, of which a block of `leave` bytes stays "
             "free.\n"
             "    heap(bytes, typecode='b'): the same, from MicroPython's heap.\n"
             "    internal(): largest free block of each region of internal memory, None where arenas are in "
             "MicroPython's heap.\n"
             "    cores(count=None): number of cores that operations use; with a count, sets "
             "it first.\n"
             "    use(name): selects the backend for later calls.\n"
             "    All others write to the buffers that they are given. ValueError or TypeError name the "
             "argument that is wrong.");

#if MICROPY_ENABLE_FINALISER
// Lives as long as MicroPython's heap, and shows that `initialise` ran. A soft reset deletes Python's
// threads, whatever they do, then ends all objects, then frees memory: time for a part to end that such a
// thread gave to the worker.
typedef struct {
    mp_obj_base_t base;
} guard_obj_t;

static mp_obj_t guard_end(mp_obj_t self) {
    (void)self;
    ternary_worker_settle();
    MP_STATE_VM(ternary_guard) = MP_OBJ_NULL;
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_1(guard_end_obj, guard_end);

static const mp_rom_map_elem_t guard_locals_table[] = {
    {MP_ROM_QSTR(MP_QSTR___del__), MP_ROM_PTR(&guard_end_obj)},
};
static MP_DEFINE_CONST_DICT(guard_locals, guard_locals_table);
static MP_DEFINE_CONST_OBJ_TYPE(guard_type, MP_QSTR_ternary, MP_TYPE_FLAG_NONE, locals_dict, &guard_locals);

MP_REGISTER_ROOT_POINTER(mp_obj_t ternary_guard);

// Runs at every import (MICROPY_MODULE_BUILTIN_INIT). The first import after a reset or soft reset selects
// one core and the default backend.
static mp_obj_t initialise(void) {
    if (MP_STATE_VM(ternary_guard) == MP_OBJ_NULL) {
        MP_STATE_VM(ternary_guard) = MP_OBJ_FROM_PTR(mp_obj_malloc_with_finaliser(guard_obj_t, &guard_type));
        ternary_use_cores(1);
        ternary_use_backend(0);
    }
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_0(initialise_obj, initialise);
#endif

#define FUNCTION_INDEX(name, has_result, doc, parameters) name##_index,
enum { TERNARY_OPERATIONS(FUNCTION_INDEX, NOTHING) };

#define FUNCTION_OBJECT(name, has_result, doc, parameters)                                                   \
    static const operation_obj_t name##_obj = {.base = {&operation_type},                                    \
                                               .operation = &ternary_operations[name##_index]};
TERNARY_OPERATIONS(FUNCTION_OBJECT, NOTHING)

#define GLOBAL(name, has_result, doc, parameters) {MP_ROM_QSTR(MP_QSTR_##name), MP_ROM_PTR(&name##_obj)},
static const mp_rom_map_elem_t ternary_globals_table[] = {
    {MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR_ternary)},
    {MP_ROM_QSTR(MP_QSTR___doc__), MP_ROM_PTR(&doc_obj)},
#if MICROPY_ENABLE_FINALISER
    {MP_ROM_QSTR(MP_QSTR___init__), MP_ROM_PTR(&initialise_obj)},
#endif
    {MP_ROM_QSTR(MP_QSTR_arena), MP_ROM_PTR(&arena_obj)},
    {MP_ROM_QSTR(MP_QSTR_cores), MP_ROM_PTR(&cores_obj)},
    {MP_ROM_QSTR(MP_QSTR_heap), MP_ROM_PTR(&heap_obj)},
    {MP_ROM_QSTR(MP_QSTR_internal), MP_ROM_PTR(&internal_obj)},
    {MP_ROM_QSTR(MP_QSTR_use), MP_ROM_PTR(&use_obj)},
    TERNARY_OPERATIONS(GLOBAL, NOTHING)};
static MP_DEFINE_CONST_DICT(ternary_globals, ternary_globals_table);

const mp_obj_module_t ternary_module = {
    .base = {&mp_type_module},
    .globals = (mp_obj_dict_t *)&ternary_globals,
};

MP_REGISTER_MODULE(MP_QSTR_ternary, ternary_module);

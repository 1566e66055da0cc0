// SPDX-License-Identifier: MIT
// MicroPython's module `ternary_jpeg`: jpeg.h for firmware/ftervit/frames.py, which allocates.

#include <stddef.h>

#include "py/runtime.h"

#include "jpeg.h"

static ternary_jpeg_picture picture_of(mp_obj_t data, mp_obj_t work) {
    mp_buffer_info_t input, memory;
    mp_get_buffer_raise(data, &input, MP_BUFFER_READ);
    mp_get_buffer_raise(work, &memory, MP_BUFFER_WRITE);
    if (memory.len < TERNARY_JPEG_WORK || (uintptr_t)memory.buf % 4) {
        mp_raise_ValueError(MP_ERROR_TEXT("work: too small, or not on a multiple of 4"));
    }
    ternary_jpeg_picture picture = {.data = input.buf, .size = input.len, .work = memory.buf};
    return picture;
}

// Raises NotImplementedError in a build without decoder, ValueError with TJpgDec's number.
static void decode(ternary_jpeg_picture *picture) {
    int result = ternary_jpeg_decode(picture);
    if (result == TERNARY_JPEG_NONE) {
        mp_raise_NotImplementedError(MP_ERROR_TEXT("no JPEG decoder"));
    }
    if (result == TERNARY_JPEG_SIZE) {
        mp_raise_ValueError(MP_ERROR_TEXT("out: not of the picture's size"));
    }
    if (result) {
        mp_raise_msg_varg(&mp_type_ValueError, MP_ERROR_TEXT("TJpgDec: error %d"), result);
    }
}

// size(data, work) -> (width, height)
static mp_obj_t jpeg_size(mp_obj_t data, mp_obj_t work) {
    ternary_jpeg_picture picture = picture_of(data, work);
    decode(&picture);
    mp_obj_t sides[] = {mp_obj_new_int_from_uint(picture.width), mp_obj_new_int_from_uint(picture.height)};
    return mp_obj_new_tuple(2, sides);
}
static MP_DEFINE_CONST_FUN_OBJ_2(jpeg_size_obj, jpeg_size);

// decode(data, work, out): colour [height, width, 3]
static mp_obj_t jpeg_decode(mp_obj_t data, mp_obj_t work, mp_obj_t out) {
    ternary_jpeg_picture picture = picture_of(data, work);
    mp_buffer_info_t pixels;
    mp_get_buffer_raise(out, &pixels, MP_BUFFER_WRITE);
    picture.out = pixels.buf;
    picture.out_size = pixels.len;
    decode(&picture);
    return mp_const_none;
}
static MP_DEFINE_CONST_FUN_OBJ_3(jpeg_decode_obj, jpeg_decode);

static const mp_rom_map_elem_t jpeg_globals_table[] = {
    {MP_ROM_QSTR(MP_QSTR___name__), MP_ROM_QSTR(MP_QSTR_ternary_jpeg)},
    {MP_ROM_QSTR(MP_QSTR_size), MP_ROM_PTR(&jpeg_size_obj)},
    {MP_ROM_QSTR(MP_QSTR_decode), MP_ROM_PTR(&jpeg_decode_obj)},
};
static MP_DEFINE_CONST_DICT(jpeg_globals, jpeg_globals_table);

const mp_obj_module_t ternary_jpeg_module = {
    .base = {&mp_type_module},
    .globals = (mp_obj_dict_t *)&jpeg_globals,
};

MP_REGISTER_MODULE(MP_QSTR_ternary_jpeg, ternary_jpeg_module);

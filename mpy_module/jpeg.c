// SPDX-License-Identifier: MIT
#include <string.h>

#include "jpeg.h"

#if defined(TERNARY_ESP32) && defined(__has_include)
#if __has_include("esp32s3/rom/tjpgd.h")
#include "esp32s3/rom/tjpgd.h"
#define TERNARY_TJPGD
#endif
#endif

#ifdef TERNARY_TJPGD

typedef struct {
    ternary_jpeg_picture *picture;
    size_t at; // of the data that TJpgDec reads next
} reading;

// TJpgDec asks for `count` bytes, or to skip as many where `buffer` is NULL.
static UINT next_bytes(JDEC *decoder, BYTE *buffer, UINT count) {
    reading *input = decoder->device;
    size_t left = input->picture->size - input->at;
    size_t given = count < left ? count : left;
    if (buffer) {
        memcpy(buffer, input->picture->data + input->at, given);
    }
    input->at += given;
    return (UINT)given;
}

// TJpgDec hands over a rectangle, rows of RGB without gaps; both edges belong to it.
static UINT rectangle(JDEC *decoder, void *pixels, JRECT *place) {
    ternary_jpeg_picture *picture = ((reading *)decoder->device)->picture;
    if (place->left > place->right || place->top > place->bottom || place->left >= picture->width) {
        return 0;
    }
    size_t columns = (size_t)place->right - place->left + 1, room = picture->width - place->left;
    const uint8_t *row = pixels;
    for (size_t y = place->top; y <= place->bottom && y < picture->height; y++, row += 3 * columns) {
        uint8_t *out = picture->out + 3 * (y * picture->width + place->left);
        memcpy(out, row, 3 * (columns < room ? columns : room));
    }
    return 1;
}

int ternary_jpeg_decode(ternary_jpeg_picture *picture) {
    reading input = {.picture = picture};
    JDEC decoder;
    memset(&decoder, 0, sizeof(decoder));
    JRESULT result = jd_prepare(&decoder, next_bytes, picture->work, TERNARY_JPEG_WORK, &input);
    if (result != JDR_OK) {
        return result;
    }
    picture->width = decoder.width;
    picture->height = decoder.height;
    if (!picture->out) {
        return 0;
    }
    // Sides have 16 bits, so the product has at most 34.
    if ((uint64_t)decoder.width * decoder.height * 3 != picture->out_size) {
        return TERNARY_JPEG_SIZE;
    }
    return jd_decomp(&decoder, rectangle, 0);
}

#else

int ternary_jpeg_decode(ternary_jpeg_picture *picture) {
    (void)picture;
    return TERNARY_JPEG_NONE;
}

#endif

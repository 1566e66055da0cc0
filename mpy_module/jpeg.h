// SPDX-License-Identifier: MIT
// JPEG by TJpgDec, which ESP32-S3s have in ROM. Nothing here is part of SPEC.md: decoders differ by a level.

#ifndef TERNARY_JPEG_H
#define TERNARY_JPEG_H

#include <stddef.h>
#include <stdint.h>

// Bytes of working memory for any picture that TJpgDec reads.
enum { TERNARY_JPEG_WORK = 3100 };

// Results besides TJpgDec's own (JRESULT): no decoder in this build; `out` has not the picture's size.
enum { TERNARY_JPEG_NONE = -1, TERNARY_JPEG_SIZE = -2 };

typedef struct {
    const uint8_t *data;
    size_t size;
    void *work;   // TERNARY_JPEG_WORK bytes on a multiple of 4
    uint8_t *out; // colour [height, width, 3], or NULL for the size alone
    size_t out_size;
    uint32_t width, height; // written
} ternary_jpeg_picture;

// Decodes a baseline JPEG with three components; returns 0 or why not. Writes nothing beyond `out`, whatever
// TJpgDec hands over.
int ternary_jpeg_decode(ternary_jpeg_picture *picture);

#endif

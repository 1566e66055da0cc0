// SPDX-License-Identifier: MIT
// Of ESP-IDF's header of this name: what mpy_module/modternary.c uses.

#ifndef FAKE_ESP_HEAP_CAPS_H
#define FAKE_ESP_HEAP_CAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MALLOC_CAP_8BIT (1 << 2)
#define MALLOC_CAP_INTERNAL (1 << 11)

void *heap_caps_aligned_alloc(size_t alignment, size_t size, uint32_t caps);
void heap_caps_free(void *memory);
size_t heap_caps_get_largest_free_block(uint32_t caps);

typedef struct {
    intptr_t start, end;
} walker_heap_into_t;

typedef struct {
    void *ptr;
    size_t size;
    bool used;
} walker_block_info_t;

typedef bool (*heap_caps_walker_cb_t)(walker_heap_into_t heap, walker_block_info_t block, void *data);
void heap_caps_walk(uint32_t caps, heap_caps_walker_cb_t walker, void *data);

#endif

// SPDX-License-Identifier: MIT
#define _POSIX_C_SOURCE 200112L // posix_memalign

#include "chip_heap.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_REGIONS = 8,
    WORD = 4,
    HEADER = 4,
    SMALLEST = 12,           // bytes of a block
    GAP = SMALLEST + HEADER, // what is cut off a block must be one
    PIECE = 1024,            // of the scattered memory, with its header
    BASE = 8,                // where a region's first block lies between multiples of it
    ALIGNMENT = 64,          // the largest
};

#define INTERNAL (MALLOC_CAP_INTERNAL | MALLOC_CAP_8BIT)

// A board with the firmware FTERVIT_S3_N16R8 after boot.
static const chip_heap_region boot[] = {
    {155720, 147456, INTERNAL},
    {32031, 32024, INTERNAL},
    {21572, 21568, INTERNAL},
};

enum { FREE, TAKEN, FENCE }; // a fence stands for what the firmware itself has taken

// In order of addresses: each begins HEADER bytes after the end of the one before.
typedef struct {
    size_t offset, size; // of its bytes, from the region's memory on
    int state;
    uint32_t age; // larger: given back later
} block;

typedef struct {
    uint8_t *memory;
    block *blocks;
    size_t count, room, end;
    size_t free, minimum;
    uint32_t caps;
    int classes; // of which there are 1 << classes between powers of two
} region;

static region regions[MAX_REGIONS];
static size_t region_count;
static uint32_t clock_of_ages;
static bool booted;

static size_t align_up(size_t value, size_t alignment) {
    return (value + alignment - 1) / alignment * alignment;
}

static int log2_of(size_t value) {
    int log = 0;
    while (value >>= 1) {
        log++;
    }
    return log;
}

// Bytes between two classes at this size.
static size_t step_of(const region *r, size_t size) {
    int log = log2_of(size);
    return log >= r->classes + 2 ? (size_t)1 << (log - r->classes) : WORD;
}

static size_t class_of(const region *r, size_t size) {
    return size / step_of(r, size) * step_of(r, size);
}

static void insert(region *r, size_t at, block b) {
    if (r->count == r->room) {
        r->room = r->room ? 2 * r->room : 64;
        r->blocks = realloc(r->blocks, r->room * sizeof(block));
        if (r->blocks == NULL) {
            abort();
        }
    }
    memmove(r->blocks + at + 1, r->blocks + at, (r->count - at) * sizeof(block));
    r->blocks[at] = b;
    r->count++;
}

static void drop(region *r, size_t at) {
    r->count--;
    memmove(r->blocks + at, r->blocks + at + 1, (r->count - at) * sizeof(block));
}

static void append(region *r, size_t size, int state) {
    insert(r, r->count, (block){r->end, size, state, clock_of_ages++});
    r->end += size + HEADER;
}

void chip_heap_clear(void) {
    for (size_t i = 0; i < region_count; i++) {
        free(regions[i].memory);
        free(regions[i].blocks);
    }
    memset(regions, 0, sizeof(regions));
    region_count = 0;
    booted = true;
}

// Before first use.
static void start(void) {
    if (!booted) {
        chip_heap_reset();
    }
}

int chip_heap_add(size_t total, size_t largest, uint32_t caps) {
    start();
    largest = largest / WORD * WORD;
    if (region_count == MAX_REGIONS || largest < SMALLEST || largest + HEADER > total) {
        return -1;
    }
    region *r = &regions[region_count];
    r->caps = caps;
    r->classes = total <= 16 << 10 ? 3 : total <= 256 << 10 ? 4 : 5;
    r->free = r->minimum = total;
    r->end = BASE;
    append(r, largest, FREE);
    for (size_t rest = total - largest - HEADER; rest >= GAP;) {
        size_t piece = rest < PIECE ? rest / WORD * WORD : PIECE;
        append(r, SMALLEST, FENCE);
        append(r, piece - HEADER, FREE);
        rest -= piece;
    }
    append(r, SMALLEST, FENCE);
    void *memory;
    if (posix_memalign(&memory, ALIGNMENT, r->end) != 0) {
        free(r->blocks);
        memset(r, 0, sizeof(*r));
        return -1;
    }
    r->memory = memory;
    region_count++;
    return 0;
}

void chip_heap_reset(void) {
    chip_heap_clear();
    for (size_t i = 0; i < sizeof(boot) / sizeof(boot[0]); i++) {
        if (chip_heap_add(boot[i].total, boot[i].largest, boot[i].caps) != 0) {
            abort();
        }
    }
}

size_t chip_heap_regions(void) {
    start();
    return region_count;
}

size_t chip_heap_free(size_t i) {
    return i < chip_heap_regions() ? regions[i].free : 0;
}

size_t chip_heap_largest(size_t i) {
    size_t largest = 0;
    if (i < chip_heap_regions()) {
        for (const block *b = regions[i].blocks; b < regions[i].blocks + regions[i].count; b++) {
            largest = b->state == FREE && b->size > largest ? b->size : largest;
        }
    }
    return largest;
}

size_t chip_heap_blocks(void) {
    size_t number = 0;
    for (size_t i = 0; i < chip_heap_regions(); i++) {
        for (size_t j = 0; j < regions[i].count; j++) {
            number += regions[i].blocks[j].state == TAKEN;
        }
    }
    return number;
}

// A taken block's region, and its place there.
static region *find(const void *memory, size_t *at) {
    for (size_t i = 0; i < chip_heap_regions(); i++) {
        region *r = &regions[i];
        for (size_t j = 0; j < r->count; j++) {
            if (r->blocks[j].state == TAKEN && r->memory + r->blocks[j].offset == memory) {
                *at = j;
                return r;
            }
        }
    }
    return NULL;
}

int chip_heap_region_of(const void *memory) {
    size_t at;
    region *r = find(memory, &at);
    return r ? (int)(r - regions) : -1;
}

// Leaves `size` bytes of a free block and makes one of the rest, if that is large enough.
static void split(region *r, size_t at, size_t size) {
    block *b = &r->blocks[at];
    if (b->size >= size + GAP) {
        block rest = {b->offset + size + HEADER, b->size - size - HEADER, FREE, clock_of_ages++};
        b->size = size;
        insert(r, at + 1, rest);
    }
}

static void *take(region *r, size_t alignment, size_t size) {
    size_t adjusted = align_up(size, WORD) > SMALLEST ? align_up(size, WORD) : SMALLEST;
    size_t wanted = alignment > WORD ? align_up(adjusted + alignment + GAP, alignment) : adjusted;
    size_t lowest = align_up(wanted, step_of(r, wanted));
    block *best = NULL;
    for (block *b = r->blocks; b < r->blocks + r->count; b++) {
        size_t class = b->state == FREE ? class_of(r, b->size) : 0;
        if (class >= lowest && (best == NULL || class < class_of(r, best->size) ||
                                (class == class_of(r, best->size) && b->age > best->age))) {
            best = b;
        }
    }
    if (best == NULL) {
        return NULL;
    }
    size_t at = (size_t)(best - r->blocks);
    size_t place = align_up(best->offset, alignment);
    if (place != best->offset && place - best->offset < GAP) {
        size_t missing = GAP - (place - best->offset);
        place = align_up(place + (missing > alignment ? missing : alignment), alignment);
    }
    if (place != best->offset) {
        split(r, at, place - best->offset - HEADER);
        at++;
    }
    split(r, at, adjusted);
    block *taken = &r->blocks[at];
    taken->state = TAKEN;
    r->free -= taken->size + HEADER;
    r->minimum = r->free < r->minimum ? r->free : r->minimum;
    return memset(r->memory + taken->offset, 0xa5, taken->size);
}

void *heap_caps_aligned_alloc(size_t alignment, size_t size, uint32_t caps) {
    if (size == 0 || alignment == 0 || (alignment & (alignment - 1)) || alignment > ALIGNMENT) {
        return NULL;
    }
    for (size_t i = 0; i < chip_heap_regions(); i++) {
        void *memory = (regions[i].caps & caps) == caps && size <= regions[i].end
                           ? take(&regions[i], alignment, size)
                           : NULL;
        if (memory) {
            return memory;
        }
    }
    return NULL;
}

void *heap_caps_malloc(size_t size, uint32_t caps) {
    return heap_caps_aligned_alloc(WORD, size, caps);
}

void heap_caps_free(void *memory) {
    size_t at;
    if (memory == NULL) {
        return;
    }
    region *r = find(memory, &at);
    if (r == NULL) {
        fprintf(stderr, "heap_caps_free: %p is no block of this heap\n", memory);
        abort();
    }
    memset(memory, 0x5a, r->blocks[at].size);
    r->free += r->blocks[at].size + HEADER;
    r->blocks[at].state = FREE;
    r->blocks[at].age = clock_of_ages++;
    if (r->blocks[at + 1].state == FREE) { // a fence is last
        r->blocks[at].size += r->blocks[at + 1].size + HEADER;
        drop(r, at + 1);
    }
    if (at > 0 && r->blocks[at - 1].state == FREE) {
        r->blocks[at - 1].size += r->blocks[at].size + HEADER;
        r->blocks[at - 1].age = r->blocks[at].age;
        drop(r, at);
    }
}

size_t heap_caps_get_free_size(uint32_t caps) {
    size_t sum = 0;
    for (size_t i = 0; i < chip_heap_regions(); i++) {
        sum += (regions[i].caps & caps) == caps ? regions[i].free : 0;
    }
    return sum;
}

size_t heap_caps_get_minimum_free_size(uint32_t caps) {
    size_t sum = 0;
    for (size_t i = 0; i < chip_heap_regions(); i++) {
        sum += (regions[i].caps & caps) == caps ? regions[i].minimum : 0;
    }
    return sum;
}

// A walker that returns false has seen enough of a region.
void heap_caps_walk(uint32_t caps, heap_caps_walker_cb_t walker_func, void *user_data) {
    for (size_t i = 0; i < chip_heap_regions(); i++) {
        const region *r = &regions[i];
        walker_heap_into_t heap = {(intptr_t)r->memory, (intptr_t)(r->memory + r->end)};
        bool more = (r->caps & caps) == caps;
        for (size_t j = 0; more && j < r->count; j++) {
            const block *b = &r->blocks[j];
            more = walker_func(heap, (walker_block_info_t){r->memory + b->offset, b->size, b->state != FREE},
                               user_data);
        }
    }
}

size_t heap_caps_get_largest_free_block(uint32_t caps) {
    size_t largest = 0;
    for (size_t i = 0; i < chip_heap_regions(); i++) {
        size_t size = (regions[i].caps & caps) == caps ? class_of(&regions[i], chip_heap_largest(i)) : 0;
        largest = size > largest ? size : largest;
    }
    return largest;
}
